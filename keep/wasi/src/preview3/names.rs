// SPDX-License-Identifier: Apache-2.0

//! Names of WASI 0.3 interfaces, which include a version. They come from the component and are untrusted.

/// The version that is offered, as names of interfaces end.
pub const VERSION: &str = "0.3.0";

/// Takes the name of an interface of WASI 0.3 apart: without its version, and the version.
pub fn of_0_3(name: &str) -> Option<(&str, &str)> {
    let (interface, version) = name.split_once('@')?;
    let is_wasi = interface.starts_with("wasi:");
    (is_wasi && version.starts_with("0.3.")).then_some((interface, version))
}

/// True for a version that [`VERSION`] stands for: a draft is compatible with nothing.
pub fn is_compatible(version: &str) -> bool {
    !version.contains('-')
}

/// True for the name of an interface of WASI 0.3.
pub fn is_interface(name: &str) -> bool {
    of_0_3(name).is_some()
}
