//! `dds-mount`: unlocks a store and mounts its view.

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

/// Zeroes everything on the heap when it is freed.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> std::process::ExitCode {
    dds::cli::mount::main()
}
