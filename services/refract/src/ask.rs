//! Asking a front door over gRPC: what `demo`, `recommend` and `explain` have in common.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures_util::StreamExt;
use refract_client::{Options, Refract};
use refract_domain::{AttributeFilter, ItemId, UserId};
use refract_wire::convert::item::ItemRef;
use refract_wire::recommend::client::EventStream;
use refract_wire::recommend::{CandidatesAsk, ExplainAsk, ExplainOptions, RankAsk, RecommendAsk, Subject};

use crate::cli;
use crate::show::Show;

/// A front door to ask.
pub(crate) struct Door {
    refract: Refract,
    target: String,
    deadline: Duration,
}

impl Door {
    pub(crate) fn at(options: Options) -> Result<Self> {
        let target = options.target.to_string();
        let deadline = options.deadline;
        Ok(Self {
            refract: Refract::connect(options)?,
            target,
            deadline,
        })
    }

    pub(crate) async fn recommend(&self, ask: &RecommendAsk, show: &mut Show) -> Result<()> {
        let events = self.refract.stream_recommend(ask).await;
        self.print(events, show).await
    }

    pub(crate) async fn explain(&self, ask: &ExplainAsk, show: &mut Show) -> Result<()> {
        let events = self.refract.stream_explain(ask).await;
        self.print(events, show).await
    }

    async fn print(&self, events: Result<EventStream, refract_domain::Error>, show: &mut Show) -> Result<()> {
        let mut events = events.map_err(|error| self.say(&error))?;
        while let Some(event) = events.next().await {
            show.event(&event.map_err(|error| self.say(&error))?)?;
        }
        Ok(())
    }

    /// What a refusal means to somebody at a terminal.
    fn say(&self, error: &refract_domain::Error) -> anyhow::Error {
        use refract_domain::{Error, Resource};
        match error {
            Error::Unavailable { .. } => {
                anyhow!(
                    "nobody answers at {}: start it with `refract serve all`, or name another with --target",
                    self.target
                )
            }
            Error::NotFound {
                resource: Resource::User,
                ..
            } => {
                anyhow!("that user is unknown there; `refract users` lists some of the shipped data")
            }
            Error::NotFound {
                resource: Resource::Item,
                field,
            } => anyhow!("an item is unknown there ({field})"),
            Error::DeadlineExceeded => anyhow!("no answer within {:?}: raise --deadline", self.deadline),
            other => anyhow!("{other}"),
        }
    }
}

/// `genre=comedy` as a filter.
pub(crate) fn filters(texts: &[String]) -> Result<Vec<AttributeFilter>> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(AttributeFilter {
                attribute: name.trim().to_owned(),
                any_of: vec![value.trim().to_owned()],
            }),
            _ => bail!("--filter {text}: write NAME=VALUE, for example genre=comedy"),
        })
        .collect()
}

/// A ranking for a subject.
pub(crate) fn rank_ask(subject: Subject, limit: u32, filters: Vec<AttributeFilter>) -> RankAsk {
    RankAsk {
        subject,
        candidates: CandidatesAsk::Catalogue,
        filters,
        limit: limit as usize,
        include_seen: false,
    }
}

pub(crate) fn known_user(id: &str) -> Subject {
    Subject::User {
        id: UserId::new(id),
        field: "subject.user_id".to_owned(),
    }
}

/// `refract recommend`.
pub(crate) async fn recommend(args: &cli::Recommend) -> Result<()> {
    let ask = RecommendAsk {
        rank: rank_ask(known_user(&args.user), args.limit, filters(&args.filter)?),
        explain: ExplainOptions {
            style: args.style,
            ..ExplainOptions::default()
        },
    };
    Door::at(args.target.options()?)?
        .recommend(&ask, &mut Show::new(args.json))
        .await
}

/// `refract explain`.
pub(crate) async fn explain(args: &cli::Explain) -> Result<()> {
    let items = args.items.iter().enumerate().map(|(i, id)| ItemRef::Named {
        id: ItemId::new(id),
        field: format!("items[{i}]"),
    });
    let ask = ExplainAsk {
        subject: known_user(&args.user),
        items: items.collect(),
        explain: ExplainOptions {
            style: args.style,
            ..ExplainOptions::default()
        },
    };
    Door::at(args.target.options()?)?
        .explain(&ask, &mut Show::new(args.json))
        .await
}
