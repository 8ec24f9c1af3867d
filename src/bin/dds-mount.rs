//! `dds-mount`: unlocks a store and mounts its view.

fn main() {}
