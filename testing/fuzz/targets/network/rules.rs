// SPDX-License-Identifier: Apache-2.0

//! Rules of any text: an error, or a rule that has one form, which is a rule without IDNA too, and that includes itself.

#![cfg_attr(fuzzing, no_main)]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use enarx_network::{ConnectRule, ListenRule, NameRule};

fn check_round_trip<T: FromStr + Display + Debug + PartialEq>(
    text: &str,
    includes: fn(&T, &T) -> bool,
) {
    let Ok(rule) = text.parse::<T>() else { return };
    let form = rule.to_string();
    assert!(form.is_ascii());
    assert_eq!(form.parse::<T>().ok().as_ref(), Some(&rule));
    assert!(includes(&rule, &rule));
}

enarx_fuzz::target!(|text: &str| {
    check_round_trip::<ConnectRule>(text, ConnectRule::includes);
    check_round_trip::<ListenRule>(text, ListenRule::includes);
    check_round_trip::<NameRule>(text, NameRule::includes);
});
