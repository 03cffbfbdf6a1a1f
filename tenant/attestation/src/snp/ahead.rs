// SPDX-License-Identifier: Apache-2.0

//! Checks the signatures of certificates and lists before the report arrives, so that the verdict need not wait for
//! this. It returns no result about them: their source is not trusted, and the verdict makes every check.

use super::revocation::MAX_LISTS;
use crate::endorsements::AmdEndorsements;
use crate::x509::{Cert, CheckedSignatures, Crl};

/// Checks who signed these certificates and lists, for verdicts of verifiers that remember `signatures`.
pub fn look_ahead(endorsements: &AmdEndorsements, signatures: &CheckedSignatures) {
    let read = |bytes: &Option<Vec<u8>>| Cert::parse(bytes.as_deref()?).ok();
    let (vek, ask, ark) = (
        read(&endorsements.vek),
        read(&endorsements.ask),
        read(&endorsements.ark),
    );
    for (certificate, issuer) in [(&ark, &ark), (&ask, &ark), (&vek, &ask)] {
        if let (Some(certificate), Some(issuer)) = (certificate, issuer) {
            certificate.is_signed_by(issuer, signatures);
        }
    }
    for given in endorsements.crls.iter().take(MAX_LISTS) {
        let Ok(list) = Crl::parse(&given.bytes) else {
            continue;
        };
        for issuer in [&ark, &ask].into_iter().flatten() {
            // It compares the names first.
            list.is_signed_by(issuer, signatures);
        }
    }
}
