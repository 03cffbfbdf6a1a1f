//! Builds the runtime.

fn main() {
    enarx_keep_recipe::build(&enarx_keep_recipe::RUNTIME);
}
