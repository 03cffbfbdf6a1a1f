// SPDX-License-Identifier: Apache-2.0

//! Builds the runtime.

fn main() {
    enarx_recipe::build(&enarx_recipe::RUNTIME);
}
