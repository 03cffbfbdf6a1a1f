// SPDX-License-Identifier: Apache-2.0

//! Requirements of tests on the machine: KVM, genuine evidence, programs. A test that lacks something is
//! ignored, with the reason; with `ENARX_REQUIRE_…=1` in the environment it fails instead.

use std::fs::{File, canonicalize};
use std::path::{Path, PathBuf};

use crate::ignore;

/// Ends the running test because of `reason`: as ignored, or as failed with `ENARX_REQUIRE_{what}=1` in
/// the environment. Of a reason with several lines, such as a compiler's output, an ignored test shows
/// the last.
///
/// # Panics
/// With that variable. Without it, the test ends by [`ignore`].
pub fn lacking(what: &str, reason: &str) -> ! {
    let variable = format!("ENARX_REQUIRE_{what}");
    let required = std::env::var_os(&variable).is_some_and(|value| value == "1");
    assert!(!required, "{variable}=1, but {reason}");
    ignore(reason.lines().last().unwrap_or_default())
}

/// The reason why there is no KVM, if there is none.
pub fn no_kvm() -> Option<String> {
    let device = File::options().read(true).write(true).open("/dev/kvm");
    device.err().map(|error| format!("/dev/kvm: {error}"))
}

/// Requires `/dev/kvm`, for reading and writing. `ENARX_REQUIRE_KVM`.
pub fn kvm() {
    if let Some(reason) = no_kvm() {
        lacking("KVM", &reason);
    }
}

/// Iterates over `always`, whose kinds of Keep every machine has, and over `with_kvm`; without KVM, the
/// test ends as ignored after the former.
pub fn kinds<T: Copy>(with_kvm: &[T], always: &[T]) -> impl Iterator<Item = T> {
    let reason = no_kvm();
    let offered = if reason.is_none() { with_kvm } else { &[] };
    let all: Vec<T> = [offered, always].concat();
    let mut all = all.into_iter();
    std::iter::from_fn(move || {
        all.next().or_else(|| {
            if let Some(reason) = &reason {
                lacking("KVM", &format!("only without KVM was it tested: {reason}"));
            }
            None
        })
    })
}

/// Genuine evidence, in a folder beside the repository. `ENARX_REQUIRE_VECTORS`.
pub fn vectors() -> PathBuf {
    find_vectors().unwrap_or_else(|reason| lacking("VECTORS", &reason))
}

/// As [`vectors`], for tests that continue without it.
///
/// # Errors
/// The reason why there is none.
pub fn find_vectors() -> Result<PathBuf, String> {
    beside("vectors")
}

/// Evidence, policies and lists that were made to be refused, in a folder beside the repository.
/// `ENARX_REQUIRE_VECTORS`.
pub fn cases() -> PathBuf {
    beside("cases/attestation").unwrap_or_else(|reason| lacking("VECTORS", &reason))
}

fn beside(name: &str) -> Result<PathBuf, String> {
    let shared = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    canonicalize(shared.join(name)).map_err(|error| format!("../shared/{name}: {error}"))
}
