//! `dds`: makes identities and looks after a store.

fn main() {}
