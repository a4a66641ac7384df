//! The ranker as a process: data, ranker, memory, connections to Oracle and Prisms, the front door.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use refract_chassis::Running;
use refract_domain::{Explainer, KnowledgeSource, Ranker};
use refract_knowledge::Codec;
use refract_net::dial;
use refract_station::Station;
use refract_wire::reflection::RECOMMEND_SERVICE;
use refract_wire::trace::SharedPropagator;
use refract_wire::{
    Items, Limits, ModelInfo, RatingScale, Rules, ServerInfo, Transport, client, convert, oracle, prism,
    ranker, server, status,
};

use crate::builtin::{self, Builtin};
use crate::config::{Config, Mode, Peer};
use crate::dataset::{Dataset, LoadOptions};
use crate::guarded::Guarded;
use crate::model::Hyper;
use crate::recommend::River;
use crate::rooms::Rooms;
use crate::service::FrontDoor;

/// Room that the front door leaves between its own deadline and the caller's, for the way back.
const ANSWER_MARGIN: Duration = Duration::from_millis(2);

/// Loads data and ranker (bad ones are refused here, before any port is open) and starts serving.
///
/// Ready without waiting for Oracle, Prism or Redis: ranking must never depend on them (law 2).
///
/// `in_force` is what its admin port shows as its configuration.
pub async fn start(
    config: Config,
    propagator: SharedPropagator,
    in_force: String,
) -> anyhow::Result<Running> {
    config.check().map_err(|unfit| unfit.within("ranker"))?;
    let (data, model) = (config.data.clone(), config.model.clone());
    let told = builtin::Config {
        scanned_share: config.scanned_share,
        rankings_max: config
            .rankings_max
            .unwrap_or_else(|| builtin::Config::default().rankings_max),
        ..builtin::Config::default()
    };
    let (dataset, builtin) = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let dataset = Arc::new(Dataset::load(&data, &LoadOptions::default())?);
        let builtin = match model {
            Some(model) => Builtin::open(dataset.clone(), &model, told)?,
            None => {
                let model = crate::train(&dataset, &Hyper::default(), |_| {})?;
                Builtin::new(dataset.clone(), &model, told)?
            }
        };
        Ok((dataset, builtin))
    })
    .await?
    .context("the ranker cannot start")?;

    let rules = rules(&dataset, config.river.items_bytes_max);
    let calls = client::Config {
        propagator: propagator.clone(),
        rules: rules.clone(),
        ..client::Config::default()
    };
    let mut info = ServerInfo::new("ranker", &rules.limits);
    info.models.push(model_info(&builtin));
    info.limits.insert(
        "items_in_flight_max".to_owned(),
        config.river.items_in_flight_max as u64,
    );

    let ranker: Arc<dyn Ranker> = match &config.outside {
        Some(peer) => Arc::new(ranker::Client::new(
            reach("outside", &peer.foreign())?,
            calls.clone(),
        )),
        None => Arc::new(builtin),
    };
    let (mut knowledge, mut memory) = (None, None);
    if let Some(peer) = config
        .oracle
        .as_ref()
        .filter(|_| config.river.mode != Mode::Alone)
    {
        let oracle: Arc<dyn KnowledgeSource> = Arc::new(Guarded::new(
            oracle::Client::new(reach("oracle", peer)?, calls.clone()),
            config.river.oracle_breaker.clone(),
            config.river.oracle_silence_max,
        ));
        let (source, control) = refract_knowledge::open(&config.knowledge, codec(), oracle)?;
        info.features
            .push(format!("knowledge:{:?}", config.knowledge.store).to_lowercase());
        memory = Some(control.clone());
        tokio::spawn(say_when_degraded(control));
        knowledge = Some(source);
    }
    let mut explainer: Option<Arc<dyn Explainer>> = None;
    if let Some(peer) = &config.prism {
        explainer = Some(Arc::new(prism::Client::new(reach("prism", peer)?, calls)));
    }

    let request_cap = config.river.request_cap;
    let leaving = memory.clone();
    let door = FrontDoor {
        dataset,
        memory,
        info,
        config: server::Config {
            deadline_cap: request_cap,
            answer_margin: ANSWER_MARGIN,
            rules: rules.clone(),
            propagator,
            ..server::Config::default()
        },
        river: Arc::new(River {
            ranker,
            knowledge,
            explainer,
            rooms: Rooms::new(&config.river),
            config: config.river,
        }),
    };
    let station = Station::new(
        "ranker",
        RECOMMEND_SERVICE,
        config.listen,
        config.callers,
        config.process,
    )
    .granting(request_cap)
    .showing_config(in_force);
    let service = refract_wire::recommend::service(door, &rules.limits);
    // What the last callers brought home is written before the process ends.
    let last = async move {
        if let Some(memory) = leaving {
            memory.leave().await;
        }
    };
    station.start_then(service, async { Ok(()) }, last).await
}

/// Bad certificates are refused here; a peer that is not there is not.
fn reach(name: &str, peer: &Peer) -> anyhow::Result<Transport> {
    if let Some(tls) = &peer.dial.tls {
        tls.verify().with_context(|| format!("ranker.{name}.dial.tls"))?;
    }
    let channel = dial(&peer.target, peer.dial.clone());
    Ok(Transport::new(channel.judged_by(status::is_replica_at_fault)))
}

/// The data set's own scale says what an unspoken rating means.
fn rules(dataset: &Dataset, items_bytes_max: u64) -> Rules {
    let scale = dataset.manifest().rating.as_ref();
    Rules {
        rating_scale: scale.map(|r| RatingScale {
            liked_min: r.liked_at,
            disliked_max: r.disliked_at,
        }),
        items: Items::holding(items_bytes_max),
        ..Rules::default()
    }
}

fn model_info(builtin: &Builtin) -> ModelInfo {
    ModelInfo {
        name: "built-in".to_owned(),
        architecture: "ials".to_owned(),
        revision: builtin.revision().0.clone(),
        dtype: "f32".to_owned(),
        device: "cpu".to_owned(),
        ..ModelInfo::default()
    }
}

/// How knowledge becomes bytes in a store.
fn codec() -> Codec {
    Codec {
        encode: convert::knowledge::to_stored,
        decode: |bytes| convert::knowledge::from_stored(bytes, &Limits::default()).ok(),
    }
}

/// One log line for each change of the store's state, and a gauge for dashboards.
async fn say_when_degraded(control: refract_knowledge::Control) {
    let mut health = control.health();
    loop {
        metrics::gauge!("refract_ranker_knowledge_degraded").set(f64::from(u8::from(control.is_degraded())));
        if health.changed().await.is_err() {
            return;
        }
    }
}
