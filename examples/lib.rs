//! Example trainers: run one with `cargo run --release --example NAME`.
