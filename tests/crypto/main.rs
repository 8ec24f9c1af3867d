//! The format: what is sealed, what is opened, and what is refused.

mod corpus;
mod foreign;
mod hostile;
mod interop;
mod roundtrip;
mod signatures;
