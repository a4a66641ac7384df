//! Asks ranker, Oracle and Prism, in one process and through the traits of the river, and reads what they say.

mod ask;
mod edits;

pub(super) use ask::filled;
pub(crate) use edits::Edit;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use refract_bundle::Role;
use refract_domain::{Candidates, ExplainQuery, History, ItemId, Knowledge, Pair, Rung, UserId};
use refract_oracle::Oracle;
use refract_prism::Prism;
use refract_ranker::dataset::LoadOptions;
use refract_ranker::{Builtin, Dataset, Hyper};
use refract_truth::STYLES;
use refract_worker::Worker;

use super::co_likes::CoLikes;
use super::lexicon::Lexicon;
use super::observe::{Observed, Told};
use crate::assets::{Assets, data_and_ranker};
use crate::cli::EvalExplanations;
use crate::distill::assigned;

/// Users in flight: enough to fill the engines' batches, few enough for their queues.
const USERS_IN_FLIGHT_MAX: usize = 48;
/// As the Prism service does by default.
const ATTEMPTS_MAX: u32 = 2;

/// Everything that answers, and everything that judges.
pub(crate) struct Bench {
    data: PathBuf,
    dataset: Arc<Dataset>,
    ranker: Builtin,
    oracle: Oracle,
    prism: Prism,
    oracle_worker: Arc<Worker>,
    prism_worker: Arc<Worker>,
    lexicon: Lexicon,
    co_likes: CoLikes,
}

/// A user of the run.
struct Asked {
    number: usize,
    user: UserId,
    history: Arc<History>,
}

/// What the second pass needs of the first.
struct Answered {
    observed: Observed,
    pair: Pair,
    history: Arc<History>,
    knowledge: Option<Knowledge>,
    style: u32,
}

impl Bench {
    /// Loads and warms up all that `args` name.
    pub(crate) async fn open(args: &EvalExplanations) -> Result<Self> {
        let (data, model) = data_and_ranker(&args.data)?;
        let shipped = |named: &Option<std::path::PathBuf>, of: fn(&Assets) -> std::path::PathBuf| match named
        {
            Some(named) => Ok(named.clone()),
            None => Assets::find(args.data.assets.as_deref()).map(|assets| of(&assets)),
        };
        let (oracle, prism) = (
            shipped(&args.oracle, Assets::oracle)?,
            shipped(&args.prism, Assets::prism)?,
        );
        let bench = tokio::task::spawn_blocking(move || -> Result<Self> {
            let dataset = Arc::new(Dataset::load(&data, &LoadOptions::default())?);
            let told = refract_ranker::builtin::Config::default();
            let ranker = match model {
                Some(model) => Builtin::open(dataset.clone(), &model, told)?,
                None => {
                    let model = refract_ranker::train(&dataset, &Hyper::default(), |_| {})?;
                    Builtin::new(dataset.clone(), &model, told)?
                }
            };
            let worker = |bundle, role| -> Result<Arc<Worker>> {
                let config = refract_worker::Config {
                    bundle,
                    ..refract_worker::Config::default()
                };
                Ok(Arc::new(Worker::open(&config, role)?))
            };
            let oracle_worker = worker(oracle, Role::Oracle).context("the Oracle's bundle")?;
            let prism_worker = worker(prism, Role::Prism).context("the Prism's bundle")?;
            Ok(Self {
                lexicon: Lexicon::of(dataset.catalogue().items()),
                co_likes: CoLikes::of(&dataset),
                ranker,
                oracle: Oracle::new(oracle_worker.clone()),
                oracle_worker,
                prism: Prism::new(prism_worker.clone(), ATTEMPTS_MAX),
                prism_worker,
                dataset,
                data,
            })
        });
        bench.await?
    }

    /// Explains and observes; in the order of users and items, whatever finished first.
    pub(crate) async fn run(&self, args: &EvalExplanations) -> Result<Vec<Observed>> {
        ensure!(
            args.users >= 1 && args.items >= 1,
            "--users and --items must be at least 1"
        );
        let users = self.draw(args)?;
        let bar = bar(users.len() as u64 * 2);
        bar.set_message("explaining");
        let asked = stream::iter(&users).map(|asked| {
            let (bar, users) = (&bar, users.as_slice());
            Box::pin(async move {
                let answered = self.ask(asked, users, args.items).await;
                bar.inc(1);
                answered
            })
        });
        let mut answered: Vec<Vec<Answered>> = asked.buffered(USERS_IN_FLIGHT_MAX).try_collect().await?;
        if let Some(file) = &args.prompts {
            self.write_prompts(file, &answered)?;
        }
        bar.set_message("foreign knowledge");
        let given: Vec<Option<(ItemId, Knowledge)>> = answered
            .iter()
            .map(|a| {
                a.first()
                    .and_then(|a| Some((a.pair.item.id.clone(), a.knowledge.clone()?)))
            })
            .collect();
        let foreign = stream::iter(answered.iter().enumerate()).map(|(n, answered)| {
            let (bar, given) = (&bar, &given);
            Box::pin(async move {
                let found = match answered.first() {
                    Some(first) => self.with_foreign(first, n, given).await,
                    None => Ok(None),
                };
                bar.inc(1);
                found
            })
        });
        let foreign: Vec<Option<(Told, Rung)>> = foreign.buffered(USERS_IN_FLIGHT_MAX).try_collect().await?;
        bar.finish_and_clear();
        for (answered, foreign) in answered.iter_mut().zip(foreign) {
            if let Some(ablation) = answered.first_mut().and_then(|a| a.observed.ablation.as_mut()) {
                ablation.foreign = foreign;
            }
        }
        Ok(answered.into_iter().flatten().map(|a| a.observed).collect())
    }

    /// What the Prism was asked, as lines that `refract generate` and `refract quantize --check` read.
    fn write_prompts(&self, file: &std::path::Path, answered: &[Vec<Answered>]) -> Result<()> {
        let mut lines = String::new();
        for answered in answered.iter().flatten() {
            let query = ExplainQuery {
                pair: answered.pair.clone(),
                history: answered.history.clone(),
                knowledge: answered.knowledge.clone(),
                style: answered.style,
            };
            let ids = self.prism_worker.bundle().prompt_prism(&query)?.ids;
            lines += &format!("{}\n", serde_json::json!({ "ids": ids }));
        }
        std::fs::write(file, lines).with_context(|| format!("writing {}", file.display()))
    }

    /// Users with a history, of the wanted parts of the split, drawn by the seed.
    fn draw(&self, args: &EvalExplanations) -> Result<Vec<Asked>> {
        let interactions = self.dataset.interactions();
        let parts = match args.part.is_empty() {
            true => None,
            false => Some(assigned(&self.dataset, &self.data)?.parts),
        };
        let is_wanted = |user: u32| {
            parts.as_ref().is_none_or(|parts| {
                let part = parts.get(self.dataset.user_id(user).expose());
                part.is_some_and(|part| args.part.iter().any(|wanted| wanted.part() == *part))
            })
        };
        let mut indices: Vec<u32> = (0..self.dataset.users_len() as u32)
            .filter(|u| !interactions.of(*u).is_empty() && is_wanted(*u))
            .collect();
        if indices.is_empty() {
            bail!("no user of the data set has a history, or none in the parts that --part names");
        }
        indices.shuffle(&mut ChaCha8Rng::seed_from_u64(args.seed));
        indices.truncate(args.users);
        let asked = indices.into_iter().enumerate().map(|(number, index)| {
            let user = self.dataset.user_id(index).clone();
            let history = Arc::new(self.dataset.history(&user).unwrap_or_default());
            Asked {
                number,
                user,
                history,
            }
        });
        Ok(asked.collect())
    }

    async fn ask(&self, asked: &Asked, users: &[Asked], items: usize) -> Result<Vec<Answered>> {
        let slate = self.rank(&asked.history, Candidates::Catalogue, items).await?;
        let mut answered = Vec::new();
        for (n, place) in slate.into_iter().enumerate() {
            // Every wording gets its turn.
            let style = ((asked.number * items + n) % STYLES as usize) as u32;
            answered.push(Box::pin(self.explain(asked, users, place, style, n == 0)).await?);
        }
        Ok(answered)
    }
}

fn bar(users: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:>18} {wide_bar} {pos}/{len} users · {eta} left");
    let bar = ProgressBar::with_draw_target(Some(users), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
