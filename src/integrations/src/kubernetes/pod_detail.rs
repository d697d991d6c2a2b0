//! What only a look at one pod needs of its spec: resources and probes. Kept apart from
//! [`super::PodRecord`], of which many are in memory at once. The pods of one template have equal
//! details.
//!
//! Of a probe we keep where it looks, never a header, a query or a command: those carry secrets.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::wire::nullable;
use crate::untrusted;

const NAME: usize = 128;
const PATH: usize = 200;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct PodDetail {
    /// `Guaranteed`, `Burstable` or `BestEffort`.
    pub qos_class: Option<String>,
    pub priority_class: Option<String>,
    /// Names only.
    pub image_pull_secrets: Vec<String>,
    pub active_deadline_seconds: Option<i64>,
    pub containers: Vec<ContainerDetail>,
}

impl PodDetail {
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&ContainerDetail> {
        self.containers
            .iter()
            .find(|container| container.name == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ContainerDetail {
    pub name: String,
    /// By resource, as written: `cpu` to `250m`.
    pub requests: BTreeMap<String, String>,
    pub limits: BTreeMap<String, String>,
    pub probes: Vec<Probe>,
}

impl ContainerDetail {
    #[must_use]
    pub fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        self.probes.iter().find(|probe| probe.kind == kind)
    }
}

/// Shows as `GET :8080/healthz, 3 failures 10 s apart, timeout 1 s`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Probe {
    pub kind: ProbeKind,
    /// `GET :8080/healthz`, `TCP :5432`, `gRPC :9000` or `a command`.
    pub check: String,
    pub failures: u32,
    pub period_seconds: u32,
    pub timeout_seconds: u32,
    pub initial_delay_seconds: u32,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            check,
            failures,
            period_seconds: period,
            timeout_seconds: timeout,
            ..
        } = self;
        let failures = match failures {
            1 => "1 failure".to_owned(),
            many => format!("{many} failures {period} s apart"),
        };
        write!(f, "{check}, {failures}, timeout {timeout} s")?;
        match self.initial_delay_seconds {
            0 => Ok(()),
            delay => write!(f, ", first after {delay} s"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }
}

#[derive(Default, Deserialize)]
pub(super) struct WireDetail {
    spec: WireSpec,
    #[serde(default)]
    status: WireStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireStatus {
    qos_class: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    priority_class_name: Option<String>,
    active_deadline_seconds: Option<i64>,
    #[serde(default, deserialize_with = "nullable")]
    image_pull_secrets: Vec<WireSecretName>,
    #[serde(default, deserialize_with = "nullable")]
    init_containers: Vec<WireContainer>,
    #[serde(default, deserialize_with = "nullable")]
    containers: Vec<WireContainer>,
}

#[derive(Deserialize)]
struct WireSecretName {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContainer {
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    resources: WireResources,
    startup_probe: Option<WireProbe>,
    readiness_probe: Option<WireProbe>,
    liveness_probe: Option<WireProbe>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireResources {
    #[serde(deserialize_with = "nullable")]
    requests: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    limits: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProbe {
    http_get: Option<WireHttpGet>,
    tcp_socket: Option<WirePort>,
    grpc: Option<WirePort>,
    failure_threshold: Option<u32>,
    period_seconds: Option<u32>,
    timeout_seconds: Option<u32>,
    initial_delay_seconds: Option<u32>,
}

#[derive(Deserialize)]
struct WireHttpGet {
    #[serde(default)]
    path: String,
    port: Port,
}

#[derive(Deserialize)]
struct WirePort {
    port: Port,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(i64),
    Name(String),
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(&untrusted::line(name, NAME)),
        }
    }
}

impl WireProbe {
    /// The defaults are the API's.
    fn record(self, kind: ProbeKind) -> Probe {
        let check = match (self.http_get, self.tcp_socket, self.grpc) {
            (Some(get), _, _) => {
                let path = get.path.split(['?', '#']).next().unwrap_or_default();
                let slash = if path.starts_with('/') { "" } else { "/" };
                format!("GET :{}{slash}{}", get.port, untrusted::line(path, PATH))
            }
            (_, Some(tcp), _) => format!("TCP :{}", tcp.port),
            (_, _, Some(grpc)) => format!("gRPC :{}", grpc.port),
            _ => "a command".to_owned(),
        };
        Probe {
            kind,
            check,
            failures: self.failure_threshold.unwrap_or(3),
            period_seconds: self.period_seconds.unwrap_or(10),
            timeout_seconds: self.timeout_seconds.unwrap_or(1),
            initial_delay_seconds: self.initial_delay_seconds.unwrap_or(0),
        }
    }
}

impl From<WireContainer> for ContainerDetail {
    fn from(wire: WireContainer) -> Self {
        let probes = [
            (wire.startup_probe, ProbeKind::Startup),
            (wire.readiness_probe, ProbeKind::Readiness),
            (wire.liveness_probe, ProbeKind::Liveness),
        ];
        Self {
            name: wire.name,
            requests: wire.resources.requests,
            limits: wire.resources.limits,
            probes: probes
                .into_iter()
                .filter_map(|(probe, kind)| Some(probe?.record(kind)))
                .collect(),
        }
    }
}

impl From<WireDetail> for PodDetail {
    fn from(WireDetail { spec, status }: WireDetail) -> Self {
        let containers = spec.init_containers.into_iter().chain(spec.containers);
        Self {
            qos_class: status.qos_class.map(|class| untrusted::line(&class, NAME)),
            priority_class: spec.priority_class_name.filter(|name| !name.is_empty()),
            image_pull_secrets: spec
                .image_pull_secrets
                .into_iter()
                .map(|secret| untrusted::line(&secret.name, 253))
                .collect(),
            active_deadline_seconds: spec.active_deadline_seconds,
            containers: containers.map(ContainerDetail::from).collect(),
        }
    }
}
