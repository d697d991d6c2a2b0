//! Has the linker put the functions of `countersign` that run side by side, as `layout.ld` names them:
//! decision 9. Release builds only; a linker without such scripts is spared by `COUNTERSIGN_LAYOUT=no`.

fn main() {
    println!("cargo::rerun-if-changed=layout.ld");
    println!("cargo::rerun-if-env-changed=COUNTERSIGN_LAYOUT");
    let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    let wanted = set("PROFILE", "release") && set("CARGO_CFG_TARGET_OS", "linux");
    if let (true, false, Ok(folder)) = (
        wanted,
        set("COUNTERSIGN_LAYOUT", "no"),
        std::env::var("CARGO_MANIFEST_DIR"),
    ) {
        println!("cargo::rustc-link-arg-bin=countersign=-T{folder}/layout.ld");
    }
}
