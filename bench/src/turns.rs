// SPDX-License-Identifier: Apache-2.0

//! Measurements of all sides in turns, so that what else the machine does touches each of them alike.

use crate::error::Error;
use crate::measure::Side;
use crate::statistics::median;
use crate::table::number;

/// The results of every side, one for each turn.
pub struct Turns<T>(Vec<(Side, Vec<T>)>);

/// A comparison of a Keep's values with the yardstick's, turn by turn.
pub type Compare = fn(&[f64], &[f64]) -> Option<f64>;

impl<T> Turns<T> {
    /// Measures the sides in `count` turns, after `before` turns that do not count.
    pub fn take(
        sides: &[Side],
        before: u32,
        count: u32,
        measure: impl Fn(Side) -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let mut all: Vec<(Side, Vec<T>)> = sides.iter().map(|side| (*side, Vec::new())).collect();
        for turn in 0..before.saturating_add(count) {
            for (side, results) in &mut all {
                let result = measure(*side)?;
                if turn >= before {
                    results.push(result);
                }
            }
        }
        Ok(Self(all))
    }

    /// Every result with its side.
    pub fn all(&self) -> impl Iterator<Item = (Side, &T)> {
        let sides = self.0.iter();
        sides.flat_map(|(side, results)| results.iter().map(|result| (*side, result)))
    }

    /// A column of one side's results.
    pub fn of(&self, side: Side, value: impl Fn(&T) -> f64) -> Vec<f64> {
        let own = self.all().filter(|(found, _)| *found == side);
        own.map(|(_, result)| value(result)).collect()
    }

    /// Cells of a row: the yardstick's median, then every Keep's median and how it compares.
    pub fn cells(
        &self,
        value: impl Fn(&T) -> f64 + Copy,
        decimals: usize,
        compare: Compare,
    ) -> Vec<String> {
        let native = self.of(Side::Native, value);
        let mut cells = vec![number(median(&native), decimals)];
        for (side, _) in &self.0 {
            if *side != Side::Native {
                let keep = self.of(*side, value);
                cells.push(number(median(&keep), decimals));
                cells.push(number(compare(&keep, &native), 2));
            }
        }
        cells
    }
}
