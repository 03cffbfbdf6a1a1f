// SPDX-License-Identifier: Apache-2.0

//! Medians, and ratios of what was measured in turns.

/// The median; the mean of the middle two where the number of samples is even. `None` without any.
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => sorted.get(middle).copied(),
        _ => Some(f64::midpoint(
            *sorted.get(middle - 1)?,
            *sorted.get(middle)?,
        )),
    }
}

/// The median of the ratios turn by turn: a load that comes and goes touches both sides of a turn
/// alike, and so cancels out. `None` without any turn, or where a divisor is zero.
pub fn ratio(dividends: &[f64], divisors: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = dividends
        .iter()
        .zip(divisors)
        .map(|(dividend, divisor)| dividend / divisor)
        .collect();
    median(&ratios).filter(|ratio| ratio.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 2.0]), Some(3.5));
        // One disturbance does not move it far.
        assert_eq!(median(&[1.0, 1.0, 1.0, 1.0, 1e9]), Some(1.0));
    }

    #[test]
    fn a_ratio_compares_each_turn_separately() {
        // The second turn was disturbed on both sides alike.
        assert_eq!(ratio(&[2.0, 20.0, 2.0], &[1.0, 10.0, 1.0]), Some(2.0));
        assert_eq!(ratio(&[], &[]), None);
        assert_eq!(ratio(&[1.0], &[0.0]), None);
    }
}
