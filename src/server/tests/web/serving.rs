//! What a stage is configured with, and how it is served.

use std::path::Path;

use argon2::password_hash::PasswordHasher;
use countersign_listener::Bounds;
use countersign_server::app::SharedApp;
use countersign_server::config::Loaded;
use countersign_server::http;
use tokio::net::TcpListener;

use super::PASSWORD;

/// Cheap to check.
pub fn hash_of(password: &str) -> String {
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let cheap = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash = cheap.hash_password_with_salt(password.as_bytes(), b"a-fixed-test-salt");
    hash.unwrap().to_string()
}

pub fn configure(folder: &Path) -> Loaded {
    let hash = hash_of(PASSWORD);
    let accounts: String = ["maria", "li", "omar", "sam"]
        .iter()
        .map(|id| format!("[[account]]\nperson = \"{id}\"\npassword_hash = \"{hash}\"\n"))
        .collect();
    let file = folder.join("countersign.toml");
    std::fs::write(
        &file,
        format!(
            "policy_file = \"p\"\nregistry_file = \"r\"\n[database]\nurl = \"x\"\n[keys]\nfile = \
             \"k\"\nexecutor_public_key_file = \"e\"\n{accounts}"
        ),
    )
    .unwrap();
    Loaded::from_file(&file).unwrap()
}

/// Everything but the workers, until the app's shutdown.
pub fn serve(app: &SharedApp, listener: TcpListener) {
    let router = http::assemble(app).everybody;
    let stop = app.shutdown.clone();
    tokio::spawn(countersign_listener::serve(
        listener,
        router,
        Bounds::default(),
        stop,
    ));
}
