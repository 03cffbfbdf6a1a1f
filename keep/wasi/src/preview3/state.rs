// SPDX-License-Identifier: Apache-2.0

//! The state of the interfaces: that of 0.2.

use wasmtime::component::HasSelf;

use crate::preview2::Preview2;

/// The state of the interfaces.
pub type State = HasSelf<Preview2>;
