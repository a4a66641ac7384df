//! `refract demo`: the three services on loopback ports, one user, one streamed request; then the same request again,
//! answered from memory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use refract_client::Options;
use refract_domain::{History, Interaction, Signal, Timestamp, UserId};
use refract_knowledge::config::{Secret, StoreKind};
use refract_ranker::Dataset;
use refract_ranker::dataset::LoadOptions;
use refract_resilience::drain;
use refract_wire::convert::history::InteractionRef;
use refract_wire::convert::item::ItemRef;
use refract_wire::recommend::{ExplainOptions, RecommendAsk, Subject};

use crate::ask::{Door, filters, known_user, rank_ask};
use crate::assets::{Assets, data_and_ranker};
use crate::cli::Demo;
use crate::cluster::{Cluster, Config, propagator};
use crate::show::Show;

/// Interactions of the history that are printed.
const HISTORY_SHOWN_MAX: usize = 12;

pub(crate) async fn run(args: &Demo) -> Result<()> {
    let filters = filters(&args.filter)?;
    let config = config(args)?;
    let data = config.ranker.data.clone();
    if !args.json {
        eprintln!("Starting ranker, Oracle and Prism on loopback…");
    }
    let cluster = Box::pin(Cluster::start(config)).await?;
    let dataset =
        tokio::task::spawn_blocking(move || Dataset::load(&data, &LoadOptions::default())).await??;
    let (whose, subject, history) = taste(args, &dataset)?;
    if !args.json {
        let synthetic = if dataset.manifest().synthetic {
            " (users are synthetic)"
        } else {
            ""
        };
        println!(
            "ranker {} · oracle {} · prism {} · {} items, {} users{synthetic}\n",
            cluster.ranker.address(),
            cluster.oracle.address(),
            cluster.prism.address(),
            dataset.catalogue().len(),
            dataset.users_len(),
        );
    }

    let ask = RecommendAsk {
        rank: rank_ask(subject, args.limit, filters),
        explain: ExplainOptions {
            style: args.style,
            ..ExplainOptions::default()
        },
    };
    let door = Door::at(Options {
        deadline: Duration::from_secs(60),
        propagator: propagator(),
        ..Options::at(cluster.ranker.address().into())
    })?;
    Show::new(args.json).history(&whose, &history, HISTORY_SHOWN_MAX)?;
    door.recommend(&ask, &mut Show::new(args.json)).await?;
    if !args.json {
        println!("\nThe same request again, its knowledge remembered:\n");
    }
    door.recommend(&ask, &mut Show::new(args.json)).await?;
    for service in cluster.into_running() {
        service.close();
    }
    Ok(())
}

/// Loopback, any free port, quick to leave.
fn config(args: &Demo) -> Result<Config> {
    let (data, model) = data_and_ranker(&args.data)?;
    let bundle = |named: &Option<std::path::PathBuf>, shipped: fn(&Assets) -> std::path::PathBuf| match named
    {
        Some(named) => Ok(named.clone()),
        None => Assets::find(args.data.assets.as_deref()).map(|assets| shipped(&assets)),
    };
    let mut config = Config::default();
    config.ranker.data = data;
    config.ranker.model = model;
    config.oracle.worker.bundle = bundle(&args.oracle, Assets::oracle)?;
    config.prism.worker.bundle = bundle(&args.prism, Assets::prism)?;
    config.ranker.process.drain = drain::Config::brisk();
    config.oracle.process.drain = drain::Config::brisk();
    config.prism.process.drain = drain::Config::brisk();
    if let Some(url) = &args.redis {
        config.ranker.knowledge.store = StoreKind::Redis;
        config.ranker.knowledge.redis.url = Some(Secret::new(url.clone()));
        // What the demo remembers is nobody's secret; a deployment sets its own.
        config.ranker.knowledge.secret = Some(Secret::new("refract demo: not a secret"));
    }
    Ok(config)
}

/// Whose taste: a user of the data, or titles that somebody likes.
fn taste(args: &Demo, dataset: &Dataset) -> Result<(String, Subject, Arc<History>)> {
    if !args.likes.is_empty() {
        let liked = likes(&args.likes, dataset)?;
        let refs = liked.interactions().iter().map(|i| InteractionRef {
            item: ItemRef::Named {
                id: i.item.id.clone(),
                field: "history".to_owned(),
            },
            at: i.at,
            signal: i.signal,
            rating: i.rating,
            text: None,
        });
        let subject = Subject::Inline {
            interactions: refs.collect(),
            user: None,
        };
        return Ok(("You".to_owned(), subject, Arc::new(liked)));
    }
    let id = match &args.user {
        Some(id) => id.clone(),
        None => {
            let first = dataset.featured_users(1);
            first
                .first()
                .context("the data set has no users: name titles with --likes")?
                .id
                .expose()
                .to_owned()
        }
    };
    let user = UserId::new(&id);
    let Some(history) = dataset.history(&user) else {
        let near: Vec<&str> = dataset
            .nearest_users(&id, 3)
            .into_iter()
            .map(UserId::expose)
            .collect();
        bail!(
            "there is no user {id}; there are {} and others (`refract users` lists them)",
            near.join(", ")
        );
    };
    Ok((id.clone(), known_user(&id), Arc::new(history)))
}

/// Titles as a history, a day apart, the last one newest.
fn likes(titles: &[String], dataset: &Dataset) -> Result<History> {
    const DAY_S: i64 = 86_400;
    let newest = dataset.interactions().newest_at();
    let mut interactions = Vec::new();
    for (n, title) in titles.iter().enumerate() {
        let found = dataset.find_titles(title, 1);
        let Some(best) = found.first() else {
            bail!(
                "no title is like “{title}” in this data set: try another, or `--data DIR` with a catalogue that has it"
            );
        };
        let at = Timestamp(newest - DAY_S * (titles.len() - n) as i64);
        interactions.push(Interaction {
            item: best.item.clone(),
            at,
            signal: Signal::Liked,
            rating: None,
            text: None,
        });
    }
    Ok(History::new(interactions))
}
