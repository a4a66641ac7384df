//! Which relations are worth saying: the judgement by rule that the template follows and that an Oracle is taught.

use crate::relations::{Kind, Relation};
use crate::vocabulary::Role;

/// Five classes of weight, 0 to 4: all that a small Oracle sees of a weight.
pub fn class(weight: f32) -> u8 {
    match weight {
        w if w < 0.4 => 0,
        w if w < 0.8 => 1,
        w if w < 1.4 => 2,
        w if w < 2.2 => 3,
        _ => 4,
    }
}

/// The best relations in order, at most `max`, as places in `relations`.
///
/// The weight's class decides (it holds strength, rarity and recency). A kind that was chosen already counts one class less, so that a
/// text does not say two things of one sort while it could say two of two; of equals, the kind that tells more; of those, the
/// first. After the first choice only class 1 and above are worth a sentence, and a third must be of class 2 and above.
pub fn choose(relations: &[&Relation], max: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < max {
        let score = |n: usize| {
            let class = i16::from(class(relations[n].weight));
            let repeated = chosen
                .iter()
                .any(|c| kind_rank(relations[*c]) == kind_rank(relations[n]));
            class - i16::from(repeated)
        };
        let best = (0..relations.len())
            .filter(|n| !chosen.contains(n))
            .max_by_key(|n| {
                (
                    score(*n),
                    std::cmp::Reverse(kind_rank(relations[*n])),
                    std::cmp::Reverse(*n),
                )
            });
        let Some(best) = best else { break };
        let least = match chosen.len() {
            0 => i16::MIN,
            1 => 1,
            _ => 2,
        };
        if score(best) < least {
            break;
        }
        chosen.push(best);
    }
    chosen
}

/// Puts relations in the order in which they tell: by the weight's class, then by kind.
pub fn strongest_first(relations: &mut [Relation]) {
    relations.sort_by_key(|relation| (std::cmp::Reverse(class(relation.weight)), kind_rank(relation)));
}

/// Roles in the order in which they tell, others' behaviour between names and genres: it tells more than a genre and less than a name.
fn kind_rank(relation: &Relation) -> usize {
    let co_liked = Role::Genre.telling_rank();
    match &relation.kind {
        Kind::Shared { role, .. } => {
            let rank = role.telling_rank();
            if rank >= co_liked { rank + 1 } else { rank }
        }
        Kind::CoLiked { .. } => co_liked,
        Kind::Premise(_) => usize::MAX,
    }
}
