//! A station's curve from what was measured with jobs side by side.
//!
//! Jobs that begin together do not end together: the short ones leave, and the others go on faster. So the mean that was
//! measured is not [`Station::takes`]; the curve is found whose jobs, run through the very queue of the simulation, take what
//! was measured.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::plan::Station;
use crate::station::{Node, drawn_size};

/// Batches of drawn sizes that are averaged over.
const DRAWS: u64 = 200;
/// The correction converges within a thousandth in three.
const ROUNDS: usize = 6;

/// Puts `alone_ms` and `each_more_ms` so that means come out as in `measured`: (jobs begun at once, mean ms until each ended).
/// The station's spread must stand already. Relative errors are weighed alike: a tenth too much is as bad anywhere.
pub fn curve(station: &mut Station, measured: &[(usize, f64)]) {
    let mut aims: Vec<f64> = measured.iter().map(|(_, ms)| *ms).collect();
    for _ in 0..ROUNDS {
        let points: Vec<(f64, f64)> = measured
            .iter()
            .zip(&aims)
            .map(|((many, _), aim)| (*many as f64 - 1.0, *aim))
            .collect();
        let (alone_ms, each_more_ms) = line(&points);
        station.alone_ms = alone_ms.max(0.01);
        station.each_more_ms = each_more_ms.max(0.0);
        for ((many, ms), aim) in measured.iter().zip(&mut aims) {
            *aim *= ms / mean_of(station, *many).max(1e-9);
        }
    }
}

/// Mean ms until each of so many jobs has ended that begin at once on an idle machine.
pub fn mean_of(station: &Station, many: usize) -> f64 {
    let mut draw = ChaCha8Rng::seed_from_u64(0xf17);
    let mut sum = 0.0;
    for _ in 0..DRAWS {
        let mut node = Node::default();
        for job in 0..many {
            node.take(station, 0.0, job, drawn_size(station.spread, &mut draw));
        }
        while let Some(at) = node.next_end(station, 0.0) {
            node.advance(station, at, 0.0);
            node.end();
            sum += at;
        }
    }
    sum / (DRAWS as f64 * many.max(1) as f64)
}

/// Where the line through these points begins and how it rises, with the least squared error relative to each.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let weight = |y: f64| 1.0 / (y * y).max(1e-9);
    let sum = |f: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| weight(*y) * f(*x, *y)).sum::<f64>();
    let (n, x, y) = (sum(&|_, _| 1.0), sum(&|x, _| x), sum(&|_, y| y));
    let (xx, xy) = (sum(&|x, _| x * x), sum(&|x, y| x * y));
    let slope = (n * xy - x * y) / (n * xx - x * x).max(1e-12);
    ((y - slope * x) / n, slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again_and_small_values_count_as_much_as_large_ones() {
        let on = |x: f64| (x, 20.0 + 3.0 * x);
        let (alone, more) = line(&[on(0.0), on(1.0), on(3.0), on(7.0)]);
        assert!((alone - 20.0).abs() < 1e-9 && (more - 3.0).abs() < 1e-9);
        let (alone, more) = line(&[(0.0, 10.0), (1.0, 12.0), (3.0, 16.0), (7.0, 48.0)]);
        assert!(
            (alone - 10.0).abs() < 2.0 && (2.0..5.5).contains(&more),
            "{alone} {more}"
        );
    }

    #[test]
    fn the_curve_behind_measured_batches_is_found_again_whatever_the_spread() {
        for spread in [0.0, 0.3, 0.8] {
            let real = Station {
                alone_ms: 12.0,
                each_more_ms: 4.0,
                spread,
                ..Station::default()
            };
            let measured = [1, 2, 4, 8].map(|many| (many, mean_of(&real, many)));
            let mut found = Station {
                spread,
                ..Station::default()
            };
            curve(&mut found, &measured);
            assert!((found.alone_ms - 12.0).abs() < 0.1, "{spread}: {found:?}");
            assert!((found.each_more_ms - 4.0).abs() < 0.1, "{spread}: {found:?}");
        }
    }
}
