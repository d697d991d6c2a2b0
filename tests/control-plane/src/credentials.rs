//! Certificates, tokens and kubeconfigs of one control plane, all in its temporary
//! folder (mode 0700) and worthless after it stops.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use sha2::{Digest, Sha256};

/// Static accounts: user, groups. Apart from each other so that the audit log
/// tells a test's own requests from those of the control plane.
const ACCOUNTS: [(&str, &str); 4] = [
    (ADMIN, "system:masters"),
    (FAKE_KUBELET, "system:masters"),
    (CONTROLLER_MANAGER, ""),
    (SCHEDULER, ""),
];
pub(crate) const ADMIN: &str = "admin";
pub(crate) const FAKE_KUBELET: &str = "fake-kubelet";
pub(crate) const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
pub(crate) const SCHEDULER: &str = "system:kube-scheduler";

/// Metadata of everything; bodies where the product's promises rest on them.
const AUDIT_POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  resources:
  - {group: "", resources: [pods/eviction]}
  - {group: coordination.k8s.io, resources: [leases]}
- level: Metadata
"#;

/// Files that the components are started with.
pub(crate) struct Credentials {
    folder: PathBuf,
    pub(crate) ca_pem: String,
}

impl Credentials {
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, "control plane for tests");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(String::from);
        let mut server = CertificateParams::new(names)?;
        server
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate()?;
        let server = server.signed_by(&server_key, &ca)?;
        let account_key = KeyPair::generate()?;

        let created = Self {
            folder: folder.to_owned(),
            ca_pem: ca.pem(),
        };
        for (name, content) in [
            ("ca.crt", ca.pem()),
            ("server.crt", server.pem()),
            ("server.key", server_key.serialize_pem()),
            ("service-account.key", account_key.serialize_pem()),
            ("service-account.pub", account_key.public_key_pem()),
            ("tokens.csv", token_file()?),
            ("audit-policy.yaml", AUDIT_POLICY.to_owned()),
        ] {
            fs::write(created.path(name), content).with_context(|| format!("write {name}"))?;
        }
        Ok(created)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A kubeconfig for one of the static accounts.
    pub(crate) fn static_kubeconfig(&self, account: &str, url: &str) -> Result<PathBuf> {
        let tokens = fs::read_to_string(self.path("tokens.csv"))?;
        let token = tokens
            .lines()
            .find_map(|line| {
                let mut fields = line.split(',');
                let token = fields.next()?;
                (fields.next()? == account).then_some(token)
            })
            .with_context(|| format!("no static account {account}"))?;
        self.kubeconfig(&account.replace(':', "-"), token, url, "default")
    }

    /// Writes `<name>.token` and `<name>.kubeconfig`; answers the latter's path.
    pub(crate) fn kubeconfig(
        &self,
        name: &str,
        token: &str,
        url: &str,
        namespace: &str,
    ) -> Result<PathBuf> {
        let token_path = self.path(&format!("{name}.token"));
        fs::write(&token_path, token)?;
        let ca = STANDARD.encode(&self.ca_pem);
        let text = format!(
            "apiVersion: v1\n\
             kind: Config\n\
             current-context: {name}\n\
             clusters:\n\
             - name: control-plane\n  \
               cluster: {{server: \"{url}\", certificate-authority-data: {ca}}}\n\
             users:\n\
             - name: {name}\n  \
               user: {{tokenFile: \"{}\"}}\n\
             contexts:\n\
             - name: {name}\n  \
               context: {{cluster: control-plane, user: {name}, namespace: {namespace}}}\n",
            token_path.display()
        );
        let path = self.path(&format!("{name}.kubeconfig"));
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Kubernetes' static token file: token, user, uid, "groups".
fn token_file() -> Result<String> {
    let mut lines = String::new();
    for (user, groups) in ACCOUNTS {
        // A fresh private key is randomness from the one source this crate has anyway.
        let token = hex::encode(Sha256::digest(KeyPair::generate()?.serialize_der()));
        lines.push_str(&format!("{token},{user},{user},\"{groups}\"\n"));
    }
    Ok(lines)
}
