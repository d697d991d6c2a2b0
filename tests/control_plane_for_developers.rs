//! `cargo xtask control-plane`: a real API server with a failing pod, until Ctrl-C.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    countersign_control_plane::run_for_developer(countersign_control_plane::Options::default())
        .await
}
