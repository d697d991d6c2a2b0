use mimalloc::MiMalloc;

/// An answer is made of many small strings; with the C library's allocator they were a fifth of
/// the server's time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    countersign_server::cli::main()
}
