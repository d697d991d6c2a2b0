//! The real control plane keeps the contract that the simulated cluster is held to.

use countersign_control_plane::{ControlPlane, Options, contract};

#[tokio::test]
async fn the_control_plane_keeps_the_contract() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let target = contract::prepare_control_plane(&plane).await.unwrap();
    let report = contract::run(&target).await.unwrap();
    println!("{report}");
    assert!(report.passed(), "\n{report}");
}
