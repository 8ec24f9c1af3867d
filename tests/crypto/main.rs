//! The format: sealing, opening, and every reason to refuse a blob.

mod corpus;
mod foreign;
mod hostile;
mod interop;
mod roundtrip;
mod signatures;
