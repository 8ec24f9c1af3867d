//! `dds`: makes identities and looks after a store.

fn main() -> std::process::ExitCode {
    dds::cli::tool::main()
}
