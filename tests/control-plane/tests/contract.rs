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

/// A suite that cannot fail proves nothing: here everyone is admin.
#[tokio::test]
async fn the_contract_notices_accounts_that_may_do_too_much() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let mut target = contract::prepare_control_plane(&plane).await.unwrap();
    target.server_kubeconfig = plane.admin_kubeconfig();
    target.executor_kubeconfig = plane.admin_kubeconfig();
    let report = contract::run(&target).await.unwrap();
    let failed: Vec<&str> = report
        .checks
        .iter()
        .filter(|check| check.failure.is_some())
        .map(|check| check.name)
        .collect();
    let access: Vec<&str> = report
        .checks
        .iter()
        .map(|check| check.name)
        .filter(|name| name.contains("_cannot_"))
        .collect();
    assert_eq!(failed, access, "\n{report}");
}
