//! What share of questions memory answers, by ages, room and how uneven users are: no simulation needed.

use crate::plan::{Load, Memory};

/// The share in the long run, at `rate` requests a second.
///
/// A user's slate is asked for as a whole, so a user counts as one thing with as many pairs as the slate has items. A
/// user who comes at rate λ and is forgotten T after being written is found with λT/(1+λT). Room is a shorter T: the
/// time after which so many users have come that the oldest had to go (Che's approximation).
pub fn hit_share(load: &Load, memory: &Memory, rate: f64) -> f64 {
    let groups = groups(load);
    let age_s = memory.age.as_secs_f64();
    let room_users = memory.pairs as f64 / load.items as f64;
    // Users who are remembered, if everybody is forgotten after `t`.
    let remembered = |t: f64| -> f64 {
        groups
            .iter()
            .map(|(count, share)| count * found(rate * share * t))
            .sum()
    };
    let mut t = age_s;
    if remembered(age_s) > room_users {
        let (mut low, mut high) = (0.0, age_s);
        for _ in 0..60 {
            t = f64::midpoint(low, high);
            if remembered(t) > room_users {
                high = t
            } else {
                low = t
            }
        }
    }
    groups
        .iter()
        .map(|(count, share)| count * share * found(rate * share * t))
        .sum()
}

fn found(expected: f64) -> f64 {
    expected / (1.0 + expected)
}

/// Users of like frequency together: how many there are, and each one's share of the requests. Groups grow with the
/// rank, so that 10⁹ users are a few hundred groups.
fn groups(load: &Load) -> Vec<(f64, f64)> {
    let mut groups: Vec<(f64, f64)> = Vec::new();
    let mut first: u64 = 1;
    while first <= load.users {
        let last = (first + first / 32).min(load.users);
        let middle = f64::midpoint(first as f64, last as f64);
        groups.push(((last - first + 1) as f64, middle.powf(-load.zipf)));
        first = last + 1;
    }
    let sum: f64 = groups.iter().map(|(count, weight)| count * weight).sum();
    groups.iter_mut().for_each(|(_, weight)| *weight /= sum);
    groups
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(users: u64, zipf: f64) -> Load {
        Load {
            items: 5,
            users,
            zipf,
            way_ms: 0.0,
            spread: 0.0,
        }
    }

    fn memory(age_s: u64, pairs: u64) -> Memory {
        Memory {
            age: Duration::from_secs(age_s),
            pairs,
            lookup_ms: 0.5,
        }
    }

    #[test]
    fn users_alike_are_found_as_often_as_they_come_within_the_age() {
        // 1000 users at 10/s: each every 100 s.
        for (age_s, expected) in [(100, 0.5), (300, 0.75), (1, 1.0 / 101.0)] {
            let share = hit_share(&load(1000, 0.0), &memory(age_s, u64::MAX), 10.0);
            assert!((share - expected).abs() < 1e-9, "{age_s}: {share}");
        }
    }

    #[test]
    fn more_room_age_load_and_unevenness_help_and_the_share_is_one() {
        let base = hit_share(&load(1_000_000_000, 0.9), &memory(3600, 50_000_000), 1e4);
        assert!((0.0..1.0).contains(&base), "{base}");
        for better in [
            hit_share(&load(1_000_000_000, 0.9), &memory(3600, 500_000_000), 1e4),
            hit_share(&load(1_000_000_000, 1.1), &memory(3600, 50_000_000), 1e4),
            hit_share(&load(1_000_000, 0.9), &memory(3600, 50_000_000), 1e4),
        ] {
            assert!(better > base, "{better} {base}");
        }
        assert!(hit_share(&load(1_000, 0.9), &memory(0, 1_000), 1e4) < 1e-9);
    }

    #[test]
    fn groups_are_everybody_once() {
        for users in [1, 2, 31, 1_000, 1_000_000_000] {
            let groups = groups(&load(users, 1.1));
            let people: f64 = groups.iter().map(|(count, _)| count).sum();
            let shares: f64 = groups.iter().map(|(count, share)| count * share).sum();
            assert!(
                (people - users as f64).abs() < 0.5 && (shares - 1.0).abs() < 1e-9,
                "{users}"
            );
            assert!(groups.len() < 1_000);
        }
    }
}
