// SPDX-License-Identifier: Apache-2.0

//! Pauses of this program before it repeats a request. Tenants who came at the same moment should
//! not return at the same moment.

use crate::fault::Fault;
use crate::random::random;
use std::time::Duration;

/// A random pause between a half of `longest` and the whole.
///
/// # Errors
/// [`Fault::Random`].
pub(crate) fn jittered(longest: Duration) -> Result<Duration, Fault> {
    let [chance] = random::<1>()?;
    Ok(longest / 2 + longest / 2 * u32::from(chance) / u32::from(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_within_their_bounds() {
        let longest = Duration::from_millis(800);
        let pauses: Vec<_> = (0..32)
            .map(|_| jittered(longest).expect("random bytes"))
            .collect();
        let bounds = longest / 2..=longest;
        assert!(pauses.iter().all(|it| bounds.contains(it)), "{pauses:?}");
        assert!(pauses.iter().any(|it| *it != pauses[0]), "{pauses:?}");
    }
}
