// SPDX-License-Identifier: Apache-2.0

// Greets its first argument, or the world.
fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "world".to_owned());
    println!("Hello, {name}, from Rust!");
}
