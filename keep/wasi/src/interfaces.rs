// SPDX-License-Identifier: Apache-2.0

//! The list of the interfaces that a front end for components offers.

/// Defines the offered interfaces: their names, and how each is linked.
macro_rules! interfaces {
    ($linker:ident, $state:ident: $($name:literal => $link:expr;)*) => {
        /// Names of all interfaces that are offered, without their version.
        pub const INTERFACES: &[&str] = &[$($name),*];

        /// Links the interface of this name, if it is offered.
        fn link<T: View<Preview2>>($linker: &mut Linker<T>, interface: &str) -> wasmtime::Result<()> {
            let $state = T::wasi;
            match interface {
                $($name => $link,)*
                _ => Ok(()),
            }
        }
    };
}

pub(crate) use interfaces;
