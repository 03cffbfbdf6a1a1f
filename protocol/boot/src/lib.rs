// SPDX-License-Identifier: Apache-2.0

//! The border between the launch of a Keep and its microkernel: everything that a launch leaves in
//! memory for the microkernel and the loader to find. The host's launcher and the tenant's
//! measurement build it, the Keep reads it; the secure processor measures it, so in a measured Keep
//! the reader trusts it. Pure data.
#![no_std]
#![forbid(unsafe_code)]

pub mod address;
pub mod boot_page;
pub mod first_state;
pub mod image_info;
pub mod layout;
pub mod page_table;
