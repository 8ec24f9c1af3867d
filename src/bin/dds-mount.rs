//! `dds-mount`: unlocks a store and mounts its view.

fn main() -> std::process::ExitCode {
    dds::cli::mount::main()
}
