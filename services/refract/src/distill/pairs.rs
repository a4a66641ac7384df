//! Which pairs are labelled: every user's newest likes within the user's part of the split, each with the history before it.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use refract_distill::Ask;
use refract_domain::{History, Interaction, Pair, Signal, TenantId, UserId};
use refract_import::splits::{Assigned, Config, Part};
use refract_ranker::Dataset;
use refract_ranker::interactions::Act;

use crate::cli::Distill;
use crate::corpus::CoLikes;
use crate::digest;

pub(crate) struct Pairs {
    assigned: Assigned,
    /// (user, place of the target among the user's acts, part).
    samples: Vec<(u32, usize, Part)>,
    /// Users of the wanted parts without a pair: too short a history, or no like in it.
    pub(crate) users_without: usize,
    /// Names data, splits and the drawing of pairs.
    pub(crate) digest: String,
}

impl Pairs {
    pub(crate) fn of(dataset: &Dataset, data: &Path, args: &Distill) -> Result<Self> {
        let assigned = assigned(dataset, data)?;
        let wanted: HashSet<Part> = args.part.iter().map(|part| part.part()).collect();
        let (mut samples, mut users_without) = (Vec::new(), 0);
        for user in 0..dataset.users_len() as u32 {
            let id = dataset.user_id(user).expose();
            let acts = dataset.interactions().of(user);
            let targets = (args.history_min..acts.len())
                .rev()
                .filter(|place| is_target(dataset, acts, *place))
                .filter_map(|place| Some((user, place, assigned.sample(id, acts[place].at)?)))
                .filter(|(_, _, part)| wanted.contains(part));
            let before = samples.len();
            samples.extend(targets.take(args.pairs_per_user));
            let is_wanted = assigned.parts.get(id).is_some_and(|part| wanted.contains(part));
            users_without += usize::from(is_wanted && samples.len() == before);
        }
        let digest = digest::of([
            dataset.digest(),
            format!("{:?}", assigned.splits),
            format!("{:?} {} {}", args.part, args.pairs_per_user, args.history_min),
            // What a teacher is shown besides, and who is in which part: `splits.csv` may be written by other rules than ours.
            digest::of(dataset.catalogue().items().iter().map(|item| &item.description)),
            digest::of(
                assigned
                    .parts
                    .iter()
                    .map(|(user, part)| format!("{} {user}", part.as_str()))
                    .collect::<BTreeSet<_>>(),
            ),
        ]);
        Ok(Self {
            assigned,
            samples,
            users_without,
            digest,
        })
    }

    /// In an order that depends on their names alone, so that any beginning of it is a fair sample.
    pub(crate) fn asks(self, dataset: &Dataset, args: &Distill) -> Vec<Ask> {
        let dev_from = self.assigned.splits.dev_from;
        // Others' behaviour as it was known when training ends: nothing later is told to a teacher.
        let past: Vec<History> = (0..dataset.users_len() as u32)
            .map(|user| {
                let acts = dataset.interactions().of(user);
                let known = acts.iter().filter(|act| act.at < dev_from);
                History::new(known.map(|act| dataset.interaction(act)).collect())
            })
            .collect();
        let co_likes = CoLikes::count(past.iter());
        let mut asks: Vec<(String, Ask)> = self
            .samples
            .into_iter()
            .map(|(user, place, part)| ask(dataset, &co_likes, user, place, part))
            .map(|ask| (ask.id(), ask))
            .filter(|(id, _)| args.shard.holds(id))
            .collect();
        asks.sort_by(|a, b| a.0.cmp(&b.0));
        asks.truncate(args.limit.unwrap_or(usize::MAX));
        asks.into_iter().map(|(_, ask)| ask).collect()
    }
}

/// The splits that a data set came with, or those that it would have been given.
pub(crate) fn assigned(dataset: &Dataset, data: &Path) -> Result<Assigned> {
    if let Some(assigned) = Assigned::read(data)? {
        return Ok(assigned);
    }
    let interactions = dataset.interactions();
    let users = (0..dataset.users_len() as u32).map(|user| {
        let likes = interactions
            .of(user)
            .iter()
            .filter(|act| dataset.signal(act) == Signal::Liked);
        (dataset.user_id(user).expose(), likes.map(|act| act.at).collect())
    });
    let times = interactions.iter().map(|(_, act)| act.at);
    Ok(Assigned::draw(times, users, &Config::default())?)
}

/// A like of something new, with a like before it.
fn is_target(dataset: &Dataset, acts: &[Act], place: usize) -> bool {
    let liked = |act: &Act| dataset.signal(act) == Signal::Liked;
    let target = &acts[place];
    liked(target)
        && acts[..place].iter().all(|act| act.item != target.item)
        && acts[..place].iter().any(liked)
}

fn ask(dataset: &Dataset, co_likes: &CoLikes, user: u32, place: usize, part: Part) -> Ask {
    let acts = dataset.interactions().of(user);
    let before: Vec<Interaction> = acts[..place].iter().map(|act| dataset.interaction(act)).collect();
    let history = Arc::new(History::new(before));
    let item = Arc::clone(dataset.catalogue().item(acts[place].item));
    Ask {
        pair: Pair {
            tenant: TenantId::default(),
            user: Some(UserId::new(dataset.user_id(user).expose())),
            affinities: co_likes.affinities(&item.id, &history),
            item,
        },
        history,
        part: part.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use refract_domain::Timestamp;
    use refract_ranker::dataset::LoadOptions;

    use super::*;
    use crate::cli::{Cli, Command};

    fn demo() -> (Dataset, std::path::PathBuf) {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/data");
        (Dataset::load(&data, &LoadOptions::default()).unwrap(), data)
    }

    fn args(more: &[&str]) -> Distill {
        let words = ["refract", "distill", "--out", "x"].iter().chain(more);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Distill(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_ask_has_only_the_past_and_no_user_is_in_two_parts() {
        let (dataset, data) = demo();
        let args = args(&["--part", "train,dev,test", "--pairs-per-user", "2"]);
        let pairs = Pairs::of(&dataset, &data, &args).unwrap();
        let splits = pairs.assigned.splits.clone();
        let asks = pairs.asks(&dataset, &args);
        let mut parts = std::collections::HashMap::new();
        let mut counts = std::collections::HashMap::<String, usize>::new();
        for ask in &asks {
            let user = ask.pair.user.as_ref().unwrap();
            assert_eq!(parts.entry(user.clone()).or_insert(&ask.part), &&ask.part);
            *counts.entry(ask.part.clone()).or_default() += 1;
            assert!(!ask.history.contains(&ask.pair.item.id));
            assert!(ask.history.len() >= args.history_min.min(History::INTERACTIONS_MAX));
            let newest = ask.history.interactions().last().unwrap().at;
            let target = dataset
                .history(user)
                .and_then(|h| h.find(&ask.pair.item.id).map(|i| i.at))
                .unwrap();
            assert!(newest <= target);
            if ask.part == "train" {
                assert!(target < Timestamp(splits.dev_from));
            }
        }
        assert!(
            counts.len() == 3 && counts.values().all(|n| *n > 50),
            "{counts:?}"
        );
        assert!(asks.iter().any(|ask| !ask.pair.affinities.is_empty()));
    }

    #[test]
    fn other_descriptions_or_parts_are_other_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let rows = "user_id,item_id,rating,timestamp\n".to_owned()
            + &(0..12)
                .map(|n| format!("u{},i{n},,{n}\n", n % 3))
                .collect::<String>();
        let digest_of = |description: &str, parts: &str| {
            let items: String = (0..12)
                .map(|n| {
                    format!("{{\"id\":\"i{n}\",\"title\":\"T{n}\",\"description\":\"{description}\"}}\n")
                })
                .collect();
            for (name, text) in [
                ("dataset.toml", "name = \"few\"\n"),
                ("items.jsonl", &items),
                ("interactions.csv", &rows),
                (
                    "splits.toml",
                    "dev_from = 8\ntest_from = 10\nheld_out_share = 0.5\nseed = 1\n",
                ),
                ("splits.csv", &format!("user_id,part\n{parts}")),
            ] {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
            let dataset = Dataset::load(dir.path(), &LoadOptions::default()).unwrap();
            Pairs::of(&dataset, dir.path(), &args(&[])).unwrap().digest
        };
        let first = digest_of("Cops.", "u0,train\nu1,dev\nu2,test\n");
        // The order of the lines says nothing.
        assert_eq!(first, digest_of("Cops.", "u2,test\nu0,train\nu1,dev\n"));
        assert_ne!(first, digest_of("Robbers.", "u0,train\nu1,dev\nu2,test\n"));
        assert_ne!(first, digest_of("Cops.", "u0,train\nu1,test\nu2,dev\n"));
    }

    #[test]
    fn shards_share_the_work_out_and_a_limit_takes_the_beginning() {
        let (dataset, data) = demo();
        let asks = |more: &[&str]| -> Vec<String> {
            let args = args(more);
            let asks = Pairs::of(&dataset, &data, &args).unwrap().asks(&dataset, &args);
            asks.iter().map(Ask::id).collect()
        };
        let all = asks(&["--pairs-per-user", "1"]);
        let mut shards: Vec<String> = ["1/3", "2/3", "3/3"]
            .iter()
            .flat_map(|shard| asks(&["--pairs-per-user", "1", "--shard", shard]))
            .collect();
        shards.sort();
        assert_eq!(shards, all);
        assert_eq!(asks(&["--pairs-per-user", "1", "--limit", "7"]), all[..7]);
    }
}
