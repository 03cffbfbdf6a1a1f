//! Builds the microkernel.

fn main() {
    enarx_keep_recipe::build(&enarx_keep_recipe::MICROKERNEL);
}
