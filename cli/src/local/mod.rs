// SPDX-License-Identifier: Apache-2.0

//! A Keep on this machine, for every command that launches one: its flags, the resulting settings, and the
//! launch.

pub mod confinement;
pub mod flags;
pub mod ineffective;
pub mod launch;
pub mod opened;
pub mod parts;
pub mod program;
mod settings;
pub mod work;
