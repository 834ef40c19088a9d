//! How the static binary is linked; docs/adr/0010-linked-to-one-address.md says why, with figures.

use std::env;

/// For the binary that is shipped, not for programs of tests, which unwind.
const ARGUMENTS: [&str; 2] = [
    // Functions of the same instructions are kept once. Rust promises no function an address of its own; where C code
    // compares such addresses none of those that it compares has an equal.
    "-Wl,--icf=all",
    concat!("-Wl,-T,", env!("CARGO_MANIFEST_DIR"), "/static.ld"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=static.ld");
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        for argument in ARGUMENTS {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
