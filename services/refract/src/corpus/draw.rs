//! Drawing requests: likely ones from real histories, and the rare shapes that a service meets all the same.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refract_domain::{Affinity, History, Interaction, Item, Signal};

use super::Request;
use super::colikes::CoLikes;
use super::reshape::{reshape, told_with_a_verb};

/// Draws `count` requests. Histories are those of the data's users; an item is the one that came next (4 of 10), one that has a name in
/// common with a liked item (3 of 10), or any (3 of 10). Histories are cut to a drawn length: none, one to three, or up to 25.
/// About a third of the requests are then reshaped: see `reshape`.
pub(crate) fn draw(items: &[Arc<Item>], histories: &[Arc<History>], count: usize, seed: u64) -> Vec<Request> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let histories: Vec<&Arc<History>> = histories.iter().filter(|h| h.len() >= 3).collect();
    if items.is_empty() || histories.is_empty() {
        return Vec::new();
    }
    let co_likes = CoLikes::count(histories.iter().map(|h| h.as_ref()));
    (0..count)
        .map(|_| request(items, &histories, &co_likes, &mut rng))
        .collect()
}

fn request(
    items: &[Arc<Item>],
    histories: &[&Arc<History>],
    co_likes: &CoLikes,
    rng: &mut ChaCha8Rng,
) -> Request {
    let all = histories[rng.random_range(0..histories.len())].interactions();
    let cut = rng.random_range(1..all.len());
    let length = match rng.random_range(0..20) {
        0 => 0,
        1..=5 => rng.random_range(1..=3),
        _ => rng.random_range(3..=25),
    };
    let mut past: Vec<Interaction> = all[cut.saturating_sub(length)..cut].to_vec();
    // Some users only have a record of what they watched, and no opinion.
    if rng.random_ratio(1, 8) {
        past.iter_mut().for_each(|i| i.signal = Signal::Seen);
    }
    let item = match rng.random_range(0..10) {
        0..=3 => Arc::clone(&all[cut].item),
        4..=6 => relative(items, &past, rng),
        _ => Arc::clone(&items[rng.random_range(0..items.len())]),
    };
    let history = History::new(past);
    let mut affinities = co_likes.affinities(&item.id, &history);
    // A ranker may know nothing of others; or a catalogue is young and has few co-likes: both ways are shown.
    match rng.random_range(0..10) {
        0..=1 => affinities.clear(),
        2 => affinities.extend(invented(&history, rng)),
        _ => {}
    }
    let request = Request {
        item,
        history: Arc::new(history),
        affinities,
    };
    let request = if rng.random_ratio(1, 3) {
        reshape(&request, rng)
    } else {
        request
    };
    // Premises that are told with a verb, as descriptions do ("follows …"): catalogues with a premise of their own have few.
    if rng.random_ratio(1, 4) {
        told_with_a_verb(&request, rng)
    } else {
        request
    }
}

/// An item that shares a name with one of the past, if a few tries find one.
fn relative(items: &[Arc<Item>], past: &[Interaction], rng: &mut ChaCha8Rng) -> Arc<Item> {
    const TRIES: usize = 400;
    let any = |rng: &mut ChaCha8Rng| Arc::clone(&items[rng.random_range(0..items.len())]);
    if past.is_empty() {
        return any(rng);
    }
    for _ in 0..TRIES {
        let item = any(rng);
        let names = ["director", "lead", "cast", "series", "source", "author"];
        let shares = past.iter().any(|p| {
            p.item.id != item.id
                && names
                    .iter()
                    .any(|a| item.values(a).iter().any(|v| p.item.has(a, v)))
        });
        if shares {
            return item;
        }
    }
    any(rng)
}

fn invented(history: &History, rng: &mut ChaCha8Rng) -> Option<Affinity> {
    let liked: Vec<_> = history.liked().collect();
    if liked.is_empty() {
        return None;
    }
    let item = liked[rng.random_range(0..liked.len())].item.id.clone();
    Some(Affinity {
        item,
        lift: rng.random_range(1.3..6.0),
        support: rng.random_range(5..60),
    })
}
