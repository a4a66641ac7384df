//! Digests of the parts of a question: equal content, equal digest, in every process and on every machine.
//!
//! Each covers whatever can change the Oracle's answer, and nothing that cannot: the absolute times of a history are
//! left out because the Oracle is told their order only.

use std::sync::Arc;

use refract_domain::{Affinity, History, HistoryDigest, Item, Signal};
use sha2::{Digest, Sha256};

use crate::canonical::Canonical;

/// 128 bits that name what is known about an item: title, attributes, description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ItemDigest(pub [u8; 16]);

/// 128 bits that name what the ranker knows of others' behaviour, to the precision in which it is spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AffinitiesDigest(pub [u8; 16]);

/// Items with their content, signals, ratings and texts, oldest first. `of_item` is [`item`], or remembers what it said.
pub fn history(history: &History, of_item: impl Fn(&Arc<Item>) -> ItemDigest) -> HistoryDigest {
    let mut hash = Canonical::new(Sha256::new(), "refract.history.v1");
    hash.number(history.len() as u64);
    for interaction in history.interactions() {
        hash.text(interaction.item.id.as_str());
        hash.bytes(&of_item(&interaction.item).0);
        hash.number(match interaction.signal {
            Signal::Liked => 1,
            Signal::Seen => 2,
            Signal::Disliked => 3,
        });
        hash.optional(interaction.rating, |hash, rating| {
            hash.number(u64::from(rating_bits(rating)));
        });
        hash.optional(interaction.text.as_deref(), |hash, text| {
            hash.text(text);
        });
    }
    HistoryDigest(half(hash))
}

/// Content only: the id is a part of the key of its own.
pub fn item(item: &Item) -> ItemDigest {
    let mut hash = Canonical::new(Sha256::new(), "refract.item.v1");
    hash.text(&item.title);
    hash.number(item.attributes.len() as u64);
    for (name, values) in &item.attributes {
        hash.text(name);
        hash.number(values.len() as u64);
        for value in values {
            hash.text(value);
        }
    }
    hash.text(&item.description);
    ItemDigest(half(hash))
}

/// Coarse on purpose: the lift to two significant digits and the support to a power of two, so that retraining the
/// ranker on a few more interactions does not forget everything the Oracle said.
pub fn affinities(affinities: &[Affinity]) -> AffinitiesDigest {
    let mut hash = Canonical::new(Sha256::new(), "refract.affinities.v1");
    hash.number(affinities.len() as u64);
    for affinity in affinities {
        hash.text(affinity.item.as_str());
        hash.text(&format!("{:.1e}", affinity.lift));
        hash.number(u64::from(u32::BITS - affinity.support.leading_zeros()));
    }
    AffinitiesDigest(half(hash))
}

fn half(hash: Canonical<Sha256>) -> [u8; 16] {
    let full = hash.0.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&full[..16]);
    half
}

/// One bit pattern for zero and one for "not a number".
fn rating_bits(rating: f32) -> u32 {
    if rating.is_nan() {
        f32::NAN.to_bits()
    } else if rating == 0.0 {
        0
    } else {
        rating.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use refract_domain::{Interaction, ItemId, Timestamp};

    use super::*;

    fn film(id: &str, title: &str, attributes: &[(&str, &[&str])], description: &str) -> Item {
        Item {
            id: ItemId::new(id),
            title: title.to_owned(),
            attributes: attributes
                .iter()
                .map(|(name, values)| {
                    (
                        (*name).to_owned(),
                        values.iter().map(|v| (*v).to_owned()).collect(),
                    )
                })
                .collect(),
            description: description.to_owned(),
        }
    }

    fn seen(item: Item, at: i64) -> Interaction {
        Interaction {
            item: Arc::new(item),
            at: Timestamp(at),
            signal: Signal::Liked,
            rating: None,
            text: None,
        }
    }

    fn history(history: &History) -> HistoryDigest {
        super::history(history, |of| item(of))
    }

    #[test]
    fn an_items_digest_changes_with_each_part_of_its_content_and_not_with_its_id() {
        let base = film("1", "Heat", &[("director", &["Michael Mann"])], "A heist.");
        let changed = [
            film("1", "Heat ", &[("director", &["Michael Mann"])], "A heist."),
            film("1", "Heat", &[("lead", &["Michael Mann"])], "A heist."),
            film("1", "Heat", &[("director", &["Michael Bay"])], "A heist."),
            film("1", "Heat", &[("director", &["Michael", "Mann"])], "A heist."),
            film(
                "1",
                "Heat",
                &[("director", &["Michael Mann"]), ("x", &[])],
                "A heist.",
            ),
            film("1", "Heat", &[("director", &["Michael Mann"])], ""),
            film("1", "HeatA heist.", &[("director", &["Michael Mann"])], ""),
        ];
        for other in changed {
            assert_ne!(item(&base), item(&other), "{other:?}");
        }
        assert_eq!(
            item(&base),
            item(&Item {
                id: ItemId::new("2"),
                ..base.clone()
            })
        );
    }

    #[test]
    fn a_historys_digest_follows_order_signal_rating_text_and_content_but_not_absolute_time() {
        let a = || film("a", "Alien", &[], "");
        let b = || film("b", "Brazil", &[], "");
        let base = History::new(vec![seen(a(), 10), seen(b(), 20)]);
        assert_eq!(
            history(&base),
            history(&History::new(vec![seen(b(), 2_000), seen(a(), 1_000)]))
        );

        let mut disliked = seen(a(), 10);
        disliked.signal = Signal::Disliked;
        let mut rated = seen(a(), 10);
        rated.rating = Some(4.0);
        let mut told = seen(a(), 10);
        told.text = Some(String::new());
        let others = [
            History::default(),
            History::new(vec![seen(a(), 10)]),
            History::new(vec![seen(b(), 10), seen(a(), 20)]),
            History::new(vec![disliked, seen(b(), 20)]),
            History::new(vec![rated, seen(b(), 20)]),
            History::new(vec![told, seen(b(), 20)]),
            History::new(vec![seen(film("a", "Aliens", &[], ""), 10), seen(b(), 20)]),
            History::new(vec![
                seen(film("a", "Alien", &[("year", &["1979"])], ""), 10),
                seen(b(), 20),
            ]),
        ];
        for other in &others {
            assert_ne!(history(&base), history(other));
        }
    }

    #[test]
    fn affinities_are_compared_to_the_precision_in_which_they_are_spoken_of() {
        let one = |lift, support| {
            [Affinity {
                item: ItemId::new("a"),
                lift,
                support,
            }]
        };
        assert_eq!(affinities(&one(3.41, 130)), affinities(&one(3.39, 200)));
        assert_ne!(affinities(&one(3.4, 130)), affinities(&one(3.6, 130)));
        assert_ne!(affinities(&one(3.4, 130)), affinities(&one(3.4, 3)));
        assert_ne!(affinities(&one(3.4, 0)), affinities(&one(3.4, 1)));
        assert_ne!(affinities(&one(3.4, 130)), affinities(&[]));
    }

    proptest! {
        #[test]
        fn digests_do_not_confuse_the_ends_of_neighbouring_texts(left in ".{0,8}", right in ".{0,8}", cut in 0usize..9) {
            let joined: Vec<char> = left.chars().chain(right.chars()).collect();
            let cut = cut.min(joined.len());
            let title: String = joined[..cut].iter().collect();
            let description: String = joined[cut..].iter().collect();
            let same = title == left;
            let original = film("i", &left, &[], &right);
            let moved = film("i", &title, &[], &description);
            prop_assert_eq!(item(&original) == item(&moved), same);
        }
    }
}
