//! Builds the programs that the secure processor measures, and what stands for them under plain KVM.

fn main() {
    for program in [
        enarx_keep_recipe::MICROKERNEL,
        enarx_keep_recipe::MICROKERNEL_PLAIN,
        enarx_keep_recipe::MICROKERNEL_SIMULATED,
        enarx_keep_recipe::LOADER,
    ] {
        enarx_keep_recipe::build(&program);
    }
}
