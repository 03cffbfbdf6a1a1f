// SPDX-License-Identifier: Apache-2.0

//! Asks the kernel for its Landlock interface; the crate `landlock` keeps the number to itself.

#![expect(unsafe_code, reason = "there is no safe interface to this question")]

/// `LANDLOCK_CREATE_RULESET_VERSION` (Linux, include/uapi/linux/landlock.h).
const VERSION_FLAG: u32 = 1;

/// The version of the Landlock interface; 0 when the kernel has none, or has it switched off.
pub fn version() -> i32 {
    // SAFETY: with this flag the call takes no memory and makes nothing; it returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION_FLAG,
        )
    };
    i32::try_from(version).map_or(0, |version| version.max(0))
}
