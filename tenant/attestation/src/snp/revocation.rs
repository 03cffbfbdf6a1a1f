// SPDX-License-Identifier: Apache-2.0

//! Judges revocation by the lists that root and intermediate signed. Their source is not trusted: it may give old
//! ones, others', none, or very many.

use crate::Timestamp;
use crate::checks::Checks;
use crate::context::Context;
use crate::endorsements::RevocationList;
use crate::expected::Expected;
use crate::hex;
use crate::x509::{Cert, Crl, CrlNumber, common_name};

/// Limit on the number of revocation lists: each may cost an RSA verification.
pub const MAX_LISTS: usize = 64;
/// Seconds of a day.
const DAY: u32 = 86_400;

const REMEDY: &str = "run `enarx certs fetch` for a current revocation list";

/// A list by which certificates can be found unrevoked: one that is in force at the time that is judged, or was made later and so
/// knows more. The order is that of issue: by number, then by date.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Usable {
    number: Option<CrlNumber>,
    from: Timestamp,
    to: Timestamp,
    name: String,
}

/// The lists that concern a chain.
#[derive(Debug, Default)]
struct Lists {
    /// Lists that root or intermediate, in whose name they are, have not signed.
    unsigned: Vec<String>,
    /// Lists that are not in force.
    stale: Vec<String>,
    /// Lists that do not cover every certificate.
    limited: Vec<String>,
    /// The newest usable list of the root, about intermediates.
    of_root: Option<Usable>,
    /// The newest usable list of the intermediate, about endorsement keys.
    of_ask: Option<Usable>,
    ask_is_revoked: bool,
    vek_is_revoked: bool,
}

/// The certificates that lists are about.
#[derive(Clone, Copy)]
pub(super) struct Issued<'a> {
    pub(super) vek: &'a Cert,
    pub(super) ask: &'a Cert,
    pub(super) ark: &'a Cert,
}

/// Judges the lists, and by them whether the intermediate or the endorsement key is revoked.
pub(super) fn judge(
    issued: Issued<'_>,
    lists: &[RevocationList],
    context: &Context<'_>,
    checks: &mut Checks,
) {
    let lists = Lists::read(issued, lists, context);
    let usable = [&lists.of_root, &lists.of_ask];
    for list in usable.into_iter().flatten() {
        checks.limit_validity(list.to);
    }
    lists.judge(context, checks);
    lists.age(context, checks);
    for (name, certificate, revoked, listed) in [
        (
            "crl.ask",
            issued.ask,
            lists.ask_is_revoked,
            lists.of_root.is_some(),
        ),
        (
            "crl.vek",
            issued.vek,
            lists.vek_is_revoked,
            lists.of_ask.is_some(),
        ),
    ] {
        if listed || revoked {
            checks.test(
                name,
                !revoked,
                "not revoked",
                format!(
                    "serial {}{}",
                    hex::encode(certificate.serial()),
                    if revoked { " is revoked" } else { "" }
                ),
                "AMD has revoked this key: do not use this host",
            );
        } else {
            checks.skip(name, "there is no usable list of its issuer");
        }
    }
}

/// The demand on a list's time, in words.
fn in_force(expected: &Expected<'_>) -> String {
    let since = if expected.at < expected.known_at {
        ", or made since"
    } else {
        ""
    };
    format!("in force at {}{since}", expected.at)
}

impl Lists {
    /// Sorts the lists by their usefulness.
    fn read(issued: Issued<'_>, lists: &[RevocationList], context: &Context<'_>) -> Self {
        let Issued { vek, ask, ark } = issued;
        let (at, known_at) = (context.expected.at, context.expected.known_at);
        let skew = context.policy.clock_skew_seconds;
        let mut found = Self::default();
        if lists.len() > MAX_LISTS {
            found.unsigned.push(format!(
                "{} lists, of which {MAX_LISTS} are examined",
                lists.len()
            ));
        }
        for (n, given) in lists.iter().enumerate().take(MAX_LISTS) {
            let name = match &given.file {
                Some(file) => file.clone(),
                None => format!("list {}", n + 1),
            };
            let list = match Crl::parse(&given.bytes) {
                Ok(list) => list,
                Err(error) => {
                    found.unsigned.push(format!("{name}: {error}"));
                    continue;
                }
            };
            // A list covers what its issuer issued: the root's list covers intermediates, the intermediate's list
            // endorsement keys.
            let issuer = &list.inner.tbs_cert_list.issuer;
            let of_root = issuer == ark.subject();
            if !of_root && issuer != ask.subject() {
                continue; // The list of another product line says nothing here.
            }
            if !list.is_signed_by(if of_root { ark } else { ask }, context.signatures) {
                let issuer = common_name(issuer);
                found
                    .unsigned
                    .push(format!("{name}: not signed by {issuer}"));
                continue;
            }
            // A revocation in an authentic list is valid, however old the list is.
            found.ask_is_revoked |= of_root && list.revokes(ask.serial());
            found.vek_is_revoked |= list.revokes(vek.serial());
            if let Some(why) = list.limits() {
                found.limited.push(format!("{name}: {why}"));
                continue;
            }
            let (from, to) = list.validity();
            let is_later = at.later(skew) < from && from <= known_at.later(skew);
            // A list may omit a certificate that had expired. Such a list can only prove that the certificate is
            // revoked.
            let (_, end) = if of_root { ask } else { vek }.validity();
            if is_later && end < from {
                continue;
            }
            match to {
                Some(to) if is_later || from <= at.later(skew) && at.earlier(skew) <= to => {
                    let newest = if of_root {
                        &mut found.of_root
                    } else {
                        &mut found.of_ask
                    };
                    let number = list.number();
                    let usable = Usable {
                        number,
                        from,
                        to,
                        name,
                    };
                    *newest = newest.take().max(Some(usable));
                }
                Some(to) => found.stale.push(format!("{name}: {from} to {to}")),
                None => found.stale.push(format!("{name}: without nextUpdate")),
            }
        }
        found
    }

    /// Judges each list by itself.
    fn judge(&self, context: &Context<'_>, checks: &mut Checks) {
        const ALL: &str = "all that concern this chain";
        let meaning = context.policy.missing.crl;
        let expected = "a list of the root, signed and in force";
        match &self.of_root {
            Some(list) => checks.pass("crl.present", expected, list.name.clone()),
            None => checks.missing("crl.present", meaning, expected, "none", REMEDY),
        }
        for (name, wanted, wrong) in [
            (
                "crl.signature",
                "signed by root or intermediate".to_owned(),
                &self.unsigned,
            ),
            ("crl.fresh", in_force(context.expected), &self.stale),
            (
                "crl.complete",
                "covering every certificate, without unknown critical extensions".to_owned(),
                &self.limited,
            ),
        ] {
            if wrong.is_empty() {
                checks.pass(name, wanted, ALL);
            } else {
                checks.missing(name, meaning, wanted, wrong.join("; "), REMEDY);
            }
        }
    }

    /// Judges the age of the newest list of each issuer, where the policy limits it: then a list must be there, whatever
    /// the policy says of missing ones.
    fn age(&self, context: &Context<'_>, checks: &mut Checks) {
        const NAME: &str = "crl.age";
        let days = context.policy.snp.crl_max_age_days;
        let lists: Vec<_> = [&self.of_root, &self.of_ask]
            .into_iter()
            .flatten()
            .collect();
        let dates = lists
            .iter()
            .map(|list| format!("{}: of {}", list.name, list.from));
        let dates = dates.collect::<Vec<_>>().join("; ");
        let Some(days) = days else {
            let why = "the policy sets no limit";
            let why = if dates.is_empty() {
                why.to_owned()
            } else {
                format!("{dates}; {why}")
            };
            checks.skip(NAME, why);
            return;
        };
        let limit = days.saturating_mul(DAY);
        let expected = format!("a list of the root, and none that is older than {days} days");
        if self.of_root.is_none() {
            checks.fail(NAME, expected, "none that can be used", REMEDY);
            return;
        }
        let skew = context.policy.clock_skew_seconds;
        let oldest = context.expected.at.earlier(limit.saturating_add(skew));
        for list in &lists {
            checks.limit_validity(list.from.later(limit));
        }
        let passes = lists.iter().all(|list| oldest <= list.from);
        checks.test(NAME, passes, expected, dates, REMEDY);
    }
}
