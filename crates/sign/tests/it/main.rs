//! Our signatures before an independent implementation: dkimpy, over real messages.

mod corpus;
mod dkimpy;
