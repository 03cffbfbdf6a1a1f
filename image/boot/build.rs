//! Builds the programs that the secure processor measures.

fn main() {
    for program in [
        enarx_recipe::MICROKERNEL,
        enarx_recipe::MICROKERNEL_SIMULATED,
        enarx_recipe::LOADER,
    ] {
        enarx_recipe::build(&program);
    }
}
