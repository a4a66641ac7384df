//! What most people like, lately: the answer to an empty history.

use std::collections::HashMap;

use refract_domain::Item;

use crate::likes::Likes;
use crate::retrieval::Scored;

const DAY_S: f64 = 86_400.0;

/// Likes per item, each halved for every `half_life_days` of age.
pub(crate) fn fit(likes: &Likes, half_life_days: f32) -> Vec<f32> {
    let mut sums = vec![0.0f64; likes.items];
    for &(item, at) in likes.sequences.iter().flatten() {
        let age_days = (likes.newest_at - at) as f64 / DAY_S;
        sums[item as usize] += 0.5f64.powf(age_days / f64::from(half_life_days));
    }
    sums.into_iter().map(|s| s as f32).collect()
}

/// Picks `limit` of `pool` (best first) so that they are not all alike: an item's score is divided by one plus the
/// likeness (shared attribute values over all) to each item picked before it. Scores stay in falling order.
pub(crate) fn diverse<'a>(pool: &[Scored], item: impl Fn(u32) -> &'a Item, limit: usize) -> Vec<Scored> {
    let values: Vec<Vec<(&str, &str)>> = pool.iter().map(|s| values_of(item(s.item))).collect();
    let mut crowding = vec![0.0f32; pool.len()];
    let mut left: Vec<usize> = (0..pool.len()).collect();
    let mut picked = Vec::with_capacity(limit.min(pool.len()));
    while picked.len() < limit && !left.is_empty() {
        let damped = |n: usize| pool[n].score / (1.0 + crowding[n]);
        // The pool is in order, so among equals the first wins.
        let best = (0..left.len()).reduce(|a, b| if damped(left[b]) > damped(left[a]) { b } else { a });
        let Some(best) = best else { break };
        let chosen = left.remove(best);
        picked.push(Scored {
            score: damped(chosen),
            item: pool[chosen].item,
        });
        for &n in &left {
            crowding[n] += likeness(&values[n], &values[chosen]);
        }
    }
    picked
}

fn values_of(item: &Item) -> Vec<(&str, &str)> {
    item.attributes
        .iter()
        .flat_map(|(name, values)| values.iter().map(|v| (name.as_str(), v.as_str())))
        .collect()
}

fn likeness(a: &[(&str, &str)], b: &[(&str, &str)]) -> f32 {
    let shared = a.iter().filter(|value| b.contains(value)).count();
    let all = a.len() + b.len() - shared;
    if all == 0 { 0.0 } else { shared as f32 / all as f32 }
}

/// Factors for items that nobody has liked yet: the mean over their attribute values of the mean factor of liked items
/// with that value, weighed by how many there are, times `share` because a guess should not beat what is known.
pub(crate) fn cold_factors(
    catalogue: &crate::Catalogue,
    factors: &mut crate::linear::Matrix,
    is_known: impl Fn(usize) -> bool,
    share: f32,
) {
    /// Values of fewer liked items say little; such means are drawn to zero as if this many items more had no taste.
    const DAMPING: f32 = 5.0;
    let mut needed: HashMap<(String, String), Vec<usize>> = HashMap::new();
    for (index, item) in catalogue
        .items()
        .iter()
        .enumerate()
        .filter(|(n, _)| !is_known(*n))
    {
        for value in crate::catalogue::folded_values(&item.attributes) {
            needed.entry(value).or_default().push(index);
        }
    }
    let d = factors.columns();
    let mut counted = vec![0.0f32; factors.rows()];
    let mut sums: HashMap<usize, Vec<f32>> = HashMap::new();
    let mut ordered: Vec<_> = needed.into_iter().collect();
    ordered.sort_unstable();
    for ((name, value), cold) in ordered {
        let warm: Vec<u32> = catalogue
            .with_value(&name, &value)
            .iter()
            .copied()
            .filter(|&n| is_known(n as usize))
            .collect();
        if warm.is_empty() {
            continue;
        }
        let mut mean = vec![0.0f32; d];
        for &item in &warm {
            mean.iter_mut()
                .zip(factors.row(item as usize))
                .for_each(|(m, f)| *m += f);
        }
        let scale = 1.0 / (warm.len() as f32 + DAMPING);
        for index in cold {
            let sum = sums.entry(index).or_insert_with(|| vec![0.0; d]);
            sum.iter_mut().zip(&mean).for_each(|(s, m)| *s += m * scale);
            counted[index] += 1.0;
        }
    }
    for (index, sum) in sums {
        let scale = share / counted[index];
        factors
            .row_mut(index)
            .iter_mut()
            .zip(sum)
            .for_each(|(f, s)| *f = s * scale);
    }
}
