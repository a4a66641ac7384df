//! Implicit alternating least squares as revisited by Rendle, Krichene, Zhang and Koren (2021): every pair that was not
//! observed counts a little as a zero, and the regularisation of a factor grows with how often its row was observed.
//!
//! ```text
//! loss = Σ_observed w·(1 − p·q)² + α₀ Σ_all (p·q)² + Σ_u λ_u |p_u|² + Σ_i λ_i |q_i|²
//! λ_u  = λ (|I_u| + α₀ |I|)^ν        λ_i = λ (|U_i| + α₀ |U|)^ν
//! ```

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::likes::Sparse;
use crate::linear::{Matrix, Normal, dot};

/// What the factorisation is told; the defaults were chosen on held-out likes of real film ratings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlsHyper {
    /// Length of a factor.
    pub dimensions: usize,
    /// α₀, the weight of a pair that was not observed. Larger: more like popularity; smaller: bolder.
    pub unobserved_weight: f32,
    /// λ.
    pub regularisation: f32,
    /// ν: 0 regularises all rows alike, 1 in proportion to how often a row was observed.
    pub frequency_exponent: f32,
    /// Turns of the alternation; each solves all items, then all users.
    pub sweeps: usize,
    /// Names the random start; the same seed gives the same model on any number of threads.
    pub seed: u64,
}

impl Default for AlsHyper {
    fn default() -> Self {
        Self {
            dimensions: 64,
            unobserved_weight: 0.1,
            regularisation: 0.015,
            frequency_exponent: 1.0,
            sweeps: 10,
            seed: 1,
        }
    }
}

impl AlsHyper {
    pub const DIMENSIONS_MAX: usize = 1024;

    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |field, reason: &str| {
            Err(Error::Invalid {
                field,
                reason: reason.to_owned(),
            })
        };
        if !(1..=Self::DIMENSIONS_MAX).contains(&self.dimensions) {
            return wrong("als.dimensions", "must be from 1 to 1024");
        }
        if !(self.unobserved_weight.is_finite() && self.unobserved_weight > 0.0) {
            return wrong("als.unobserved_weight", "must be a positive number");
        }
        if !(self.regularisation.is_finite() && self.regularisation > 0.0) {
            return wrong("als.regularisation", "must be a positive number");
        }
        if !(0.0..=2.0).contains(&self.frequency_exponent) {
            return wrong("als.frequency_exponent", "must be from 0 to 2");
        }
        if self.sweeps == 0 {
            return wrong("als.sweeps", "must be at least 1");
        }
        Ok(())
    }

    /// λ of a row with observations that weigh `observed` together, out of `others` possible.
    pub(crate) fn ridge(&self, observed: f32, others: usize) -> f32 {
        let mass = observed + self.unobserved_weight * others as f32;
        self.regularisation * mass.powf(self.frequency_exponent)
    }
}

/// Users and items as vectors whose product says how likely one likes the other.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    /// Solved last, so a user's factor is exactly the fold-in of what that user liked.
    pub(crate) users: Matrix,
    pub(crate) items: Matrix,
}

impl Factors {
    /// `each_sweep` hears the number of sweeps done and the loss after it.
    pub(crate) fn fit(
        by_user: &Sparse,
        items: usize,
        hyper: &AlsHyper,
        mut each_sweep: impl FnMut(usize, &dyn Fn() -> f64),
    ) -> Self {
        let by_item = by_user.transposed(items);
        let (users, d) = (by_user.rows(), hyper.dimensions);
        let mut random = ChaCha8Rng::seed_from_u64(hyper.seed);
        // Sums of uniform numbers, so that the start is the same wherever logarithms are rounded differently.
        let spread = 0.1 / (d as f32).sqrt().max(1.0);
        let mut near_zero = || (0..4).map(|_| random.random_range(-1.0f32..1.0)).sum::<f32>() * spread;
        let start = Matrix::new(d, (0..users.max(1) * d).map(|_| near_zero()).collect());
        let mut factors = Self {
            users: start,
            items: Matrix::zeros(items, d),
        };
        for sweep in 1..=hyper.sweeps {
            solve_side(&mut factors.items, &factors.users, &by_item, hyper);
            solve_side(&mut factors.users, &factors.items, by_user, hyper);
            each_sweep(sweep, &|| factors.loss(by_user, &by_item, hyper));
        }
        factors
    }

    pub(crate) fn loss(&self, by_user: &Sparse, by_item: &Sparse, hyper: &AlsHyper) -> f64 {
        let (users_gram, items_gram) = (self.users.gram(), self.items.gram());
        let all: f64 = users_gram
            .values
            .iter()
            .zip(&items_gram.values)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum();
        let observed: f64 = (0..by_user.rows())
            .map(|u| {
                let (columns, weights) = by_user.row(u);
                let miss = |(&i, &w): (&u32, &f32)| {
                    let missed = 1.0 - f64::from(dot(self.users.row(u), self.items.row(i as usize)));
                    f64::from(w) * missed * missed
                };
                columns.iter().zip(weights).map(miss).sum::<f64>()
            })
            .sum();
        let ridges = |side: &Matrix, rows: &Sparse, others: usize| -> f64 {
            let of_row = |r: usize| {
                let observed: f32 = rows.row(r).1.iter().sum();
                f64::from(hyper.ridge(observed, others)) * f64::from(dot(side.row(r), side.row(r)))
            };
            (0..rows.rows()).map(of_row).sum()
        };
        observed
            + f64::from(hyper.unobserved_weight) * all
            + ridges(&self.users, by_user, by_item.rows())
            + ridges(&self.items, by_item, by_user.rows())
    }
}

/// Solves every row of `side` given the other side.
fn solve_side(side: &mut Matrix, other: &Matrix, rows: &Sparse, hyper: &AlsHyper) {
    let gram = other.gram();
    let d = side.columns;
    side.values.par_chunks_mut(d).enumerate().for_each_init(
        || Normal::new(d),
        |normal, (row, x)| {
            let (columns, weights) = rows.row(row);
            if columns.is_empty() {
                x.fill(0.0);
                return;
            }
            normal.reset(&gram, hyper.unobserved_weight);
            for (&column, &weight) in columns.iter().zip(weights) {
                normal.observe(other.row(column as usize), weight, 1.0);
            }
            normal.solve(hyper.ridge(weights.iter().sum(), other.rows()), x);
        },
    );
}

/// The factor of a history by one solve against fixed items: what serves users that training never saw.
///
/// `observations` are items with weights; a negative weight is evidence against (a target of zero with that weight).
pub(crate) fn fold_in(
    items: &Matrix,
    gram: &Matrix,
    hyper: &AlsHyper,
    observations: &[(u32, f32)],
) -> Vec<f32> {
    let mut factor = vec![0.0; items.columns];
    let observed: f32 = observations.iter().map(|(_, w)| w.abs()).sum();
    if observed == 0.0 {
        return factor;
    }
    let mut normal = Normal::new(items.columns);
    normal.reset(gram, hyper.unobserved_weight);
    for &(item, weight) in observations {
        let target = if weight > 0.0 { 1.0 } else { 0.0 };
        normal.observe(items.row(item as usize), weight.abs(), target);
    }
    normal.solve(hyper.ridge(observed, items.rows()), &mut factor);
    factor
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tastes that share item 4.
    fn two_tastes() -> Sparse {
        let row = |items: &[u32]| items.iter().map(|&i| (i, 1.0)).collect::<Vec<_>>();
        Sparse::from_rows((0..20).map(|u| match u % 4 {
            0 => row(&[0, 1, 4]),
            1 => row(&[1, 4]),
            2 => row(&[2, 3, 4]),
            _ => row(&[2, 3]),
        }))
    }

    fn hyper() -> AlsHyper {
        AlsHyper {
            dimensions: 8,
            sweeps: 6,
            ..AlsHyper::default()
        }
    }

    #[test]
    fn every_sweep_lowers_the_loss() {
        let mut losses = Vec::new();
        Factors::fit(&two_tastes(), 5, &hyper(), |_, loss| losses.push(loss()));
        assert_eq!(losses.len(), 6);
        assert!(losses.windows(2).all(|w| w[1] <= w[0] + 1e-4), "{losses:?}");
        assert!(losses[5] < losses[0] * 0.99, "{losses:?}");
    }

    #[test]
    fn a_fold_in_is_the_trained_factor() {
        let data = two_tastes();
        let factors = Factors::fit(&data, 5, &hyper(), |_, _| {});
        let gram = factors.items.gram();
        for user in 0..data.rows() {
            let (items, weights) = data.row(user);
            let observations: Vec<_> = items.iter().copied().zip(weights.iter().copied()).collect();
            let folded = fold_in(&factors.items, &gram, &hyper(), &observations);
            for (a, b) in folded.iter().zip(factors.users.row(user)) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn evidence_against_an_item_lowers_its_likes() {
        let factors = Factors::fit(&two_tastes(), 5, &hyper(), |_, _| {});
        let gram = factors.items.gram();
        let score = |observations: &[(u32, f32)], item: usize| {
            dot(
                &fold_in(&factors.items, &gram, &hyper(), observations),
                factors.items.row(item),
            )
        };
        assert!(score(&[(4, 1.0), (2, -0.5)], 3) < score(&[(4, 1.0)], 3));
    }

    #[test]
    fn the_same_seed_gives_the_same_factors() {
        let fit = |seed| Factors::fit(&two_tastes(), 5, &AlsHyper { seed, ..hyper() }, |_, _| {}).items;
        assert_eq!(fit(3), fit(3));
        assert_ne!(fit(3), fit(4));
    }
}
