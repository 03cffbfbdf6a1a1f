// SPDX-License-Identifier: Apache-2.0

//! The codes that PVALIDATE and RMPADJUST leave in EAX (AMD64 APM volume 3, PVALIDATE and RMPADJUST).

/// Success.
pub const SUCCESS: u32 = 0;
/// A parameter was invalid.
pub const FAIL_INPUT: u32 = 1;
/// The target level is not below the caller's.
pub const FAIL_PERMISSION: u32 = 2;
/// The page is of another size.
pub const FAIL_SIZEMISMATCH: u32 = 6;
