//! `scripts/requirements`.
fn main() {}
