// SPDX-License-Identifier: Apache-2.0

//! The grounds on which evidence is judged, as one value.

use crate::expected::Expected;
use crate::policy::Policy;
use crate::x509::CheckedSignatures;

/// The grounds on which evidence is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The tenant's policy, the same for all.
    pub(crate) policy: &'a Policy,
    /// The expectations of this time.
    pub(crate) expected: &'a Expected<'a>,
    /// Signatures that were checked before.
    pub(crate) signatures: &'a CheckedSignatures,
}
