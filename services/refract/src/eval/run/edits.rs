//! Small edits of a history that should not matter to an explanation, and one that must.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use refract_domain::{
    Candidates, Evidence, ExplainQuery, Explanation, History, Interaction, Item, ItemId, Pair, Timestamp,
};
use refract_measure::{Words, rouge_l, words};

use super::Bench;
use super::ask::pair;
use crate::eval::observe::{Edited, Told};

/// What is done to a history; never to an item that the explanation rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edit {
    /// Length: the oldest interaction is forgotten.
    Shorter,
    /// Structure: two neighbours change places in time.
    Swapped,
    /// Keywords: an item loses its description and one attribute.
    Barer,
    /// Meaning: the oldest interaction happened twice.
    Repeated,
}

impl Edit {
    pub(crate) const ALL: [Self; 4] = [Self::Shorter, Self::Swapped, Self::Barer, Self::Repeated];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Shorter => "shorter",
            Self::Swapped => "swapped",
            Self::Barer => "barer",
            Self::Repeated => "repeated",
        }
    }

    /// `None` where the history has nothing that could be edited so.
    fn of(self, history: &History, rests_on: &BTreeSet<ItemId>) -> Option<History> {
        let mut all: Vec<Interaction> = history.interactions().to_vec();
        let free = |i: &Interaction| !rests_on.contains(&i.item.id);
        let oldest = all.iter().position(free)?;
        match self {
            Self::Shorter => {
                all.remove(oldest);
            }
            Self::Swapped => {
                let place = (0..all.len() - 1)
                    .find(|n| free(&all[*n]) && free(&all[n + 1]) && all[*n].at != all[n + 1].at)?;
                let (first, second) = (all[place].at, all[place + 1].at);
                (all[place].at, all[place + 1].at) = (second, first);
            }
            Self::Barer => {
                let item = &all[oldest].item;
                let mut attributes = item.attributes.clone();
                let last = attributes.keys().next_back().cloned()?;
                attributes.remove(&last);
                all[oldest].item = Arc::new(Item {
                    id: item.id.clone(),
                    title: item.title.clone(),
                    attributes,
                    description: String::new(),
                });
            }
            Self::Repeated => {
                let mut again = all[oldest].clone();
                again.at = Timestamp(again.at.0.saturating_sub(1));
                all.push(again);
            }
        }
        (!all.is_empty()).then(|| History::new(all))
    }
}

impl Bench {
    /// The same item for each edited history, and for the history without what the explanation rested on.
    pub(super) async fn edits(&self, query: &ExplainQuery, given: &Explanation) -> Result<Vec<Edited>> {
        let rests_on = reasons(given);
        let mut edited = Vec::new();
        for edit in Edit::ALL {
            let Some(history) = edit.of(&query.history, &rests_on) else {
                continue;
            };
            let (told, again) = self.again(query, history).await?;
            edited.push(Edited {
                edit,
                same_reasons: reasons(&again) == rests_on,
                likeness: rouge_l(&words(&told.text, Words::Any), &words(&given.text, Words::Any)).f,
                told,
            });
        }
        Ok(edited)
    }

    /// Whether a text still names what was taken out of its history.
    pub(super) async fn without_reasons(
        &self,
        query: &ExplainQuery,
        given: &Explanation,
    ) -> Result<Option<(Told, bool)>> {
        let rests_on = reasons(given);
        let all = query.history.interactions();
        let rest: Vec<Interaction> = all
            .iter()
            .filter(|i| !rests_on.contains(&i.item.id))
            .cloned()
            .collect();
        if rests_on.is_empty() || rest.is_empty() {
            return Ok(None);
        }
        let (told, again) = self.again(query, History::new(rest)).await?;
        let still = reasons(&again).iter().any(|item| rests_on.contains(item));
        Ok(Some((told, still)))
    }

    async fn again(&self, query: &ExplainQuery, history: History) -> Result<(Told, Explanation)> {
        let history = Arc::new(history);
        let item = query.pair.item.clone();
        let slate = self.rank(&history, Candidates::Given(vec![item]), 1).await?;
        let place = slate
            .into_iter()
            .next()
            .context("a given slate came back empty")?;
        let pair: Pair = pair(query.pair.user.clone(), place);
        let scene = self.scene(&pair.item, &history, &pair.affinities);
        let (knowledge, _) = self.consult(&pair, &history).await?;
        let explanation = self
            .prism_text(ExplainQuery {
                pair,
                history,
                knowledge,
                style: query.style,
            })
            .await?;
        Ok((
            Told::of(&self.lexicon, &scene, explanation.text.clone()),
            explanation,
        ))
    }
}

/// History items that an explanation rests on.
fn reasons(explanation: &Explanation) -> BTreeSet<ItemId> {
    let evidence = explanation
        .grounding
        .claims
        .iter()
        .flat_map(|claim| &claim.evidence);
    evidence
        .filter_map(|evidence| match evidence {
            Evidence::History { item } => Some(item.clone()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use refract_domain::Signal;

    use super::*;

    fn history() -> History {
        let interaction = |n: i64| Interaction {
            item: Arc::new(Item {
                id: ItemId::new(format!("i{n}")),
                title: format!("Film {n}"),
                attributes: [("year".to_owned(), vec!["1990".to_owned()])].into(),
                description: "About it.".to_owned(),
            }),
            at: Timestamp(n * 10),
            signal: Signal::Liked,
            rating: None,
            text: None,
        };
        History::new((0..4).map(interaction).collect())
    }

    #[test]
    fn edits_spare_what_an_explanation_rests_on() {
        let rests_on: BTreeSet<ItemId> = [ItemId::new("i0")].into();
        let order = |edit: Edit| -> Vec<String> {
            let edited = edit.of(&history(), &rests_on).unwrap();
            edited
                .interactions()
                .iter()
                .map(|i| i.item.title.clone())
                .collect()
        };
        assert_eq!(order(Edit::Shorter), ["Film 0", "Film 2", "Film 3"]);
        assert_eq!(order(Edit::Swapped), ["Film 0", "Film 2", "Film 1", "Film 3"]);
        assert_eq!(
            order(Edit::Repeated),
            ["Film 0", "Film 1", "Film 1", "Film 2", "Film 3"]
        );
        let barer = Edit::Barer.of(&history(), &rests_on).unwrap();
        let bare: Vec<bool> = barer
            .interactions()
            .iter()
            .map(|i| i.item.attributes.is_empty())
            .collect();
        assert_eq!(bare, [false, true, false, false]);
        let all: BTreeSet<ItemId> = (0..4).map(|n| ItemId::new(format!("i{n}"))).collect();
        assert!(Edit::ALL.iter().all(|edit| edit.of(&history(), &all).is_none()));
    }
}
