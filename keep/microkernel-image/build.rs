//! Builds the programs that the secure processor measures.

fn main() {
    for program in [
        enarx_keep_recipe::MICROKERNEL,
        enarx_keep_recipe::MICROKERNEL_SIMULATED,
        enarx_keep_recipe::LOADER,
    ] {
        enarx_keep_recipe::build(&program);
    }
}
