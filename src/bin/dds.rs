//! `dds`: makes identities and looks after a store.

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

/// Zeroes everything on the heap when it is freed.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> std::process::ExitCode {
    dds::cli::tool::main()
}
