// SPDX-License-Identifier: Apache-2.0

//! Builds the programs that the secure processor measures, and the one that stands for them under plain KVM.

fn main() {
    for program in [
        enarx_recipe::MICROKERNEL,
        enarx_recipe::MICROKERNEL_PLAIN,
        enarx_recipe::MICROKERNEL_SIMULATED,
        enarx_recipe::LOADER,
    ] {
        enarx_recipe::build(&program);
    }
}
