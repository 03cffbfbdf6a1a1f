//! Builds the runtime.

fn main() {
    enarx_recipe::build(&enarx_recipe::RUNTIME);
}
