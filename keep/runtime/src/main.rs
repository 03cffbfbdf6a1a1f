//! The program inside a Keep: loads the application and runs it.
fn main() {
    let engine = wasmtime::Engine::default();
    println!("{}", engine.is_async());
}
