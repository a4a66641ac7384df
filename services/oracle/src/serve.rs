//! The Oracle as a process: load, bind, warm up, serve, leave in order.

use std::sync::Arc;

use anyhow::Context as _;
use refract_bundle::Role;
use refract_chassis::{Process, Running};
use refract_wire::conform::ConformLayer;
use refract_wire::reflection::{self, ORACLE_SERVICE};
use refract_wire::trace::SharedPropagator;
use refract_wire::{ServerInfo, oracle as wire, server};
use refract_worker::Worker;
use tonic::service::Routes;
use tower::Layer as _;

use crate::config::Config;
use crate::oracle::Oracle;

/// Loads the bundle (a bad one is refused here, before any port is open) and starts serving; ready once it is warm.
pub async fn start(config: Config, propagator: SharedPropagator) -> anyhow::Result<Running> {
    config.check()?;
    let worker_config = config.worker.clone();
    let worker = tokio::task::spawn_blocking(move || Worker::open(&worker_config, Role::Oracle))
        .await?
        .context("the oracle cannot start")?;
    let worker = Arc::new(worker);
    let info = info(&worker);
    let wire_config = server::Config {
        deadline_cap: config.call_cap,
        propagator,
        ..server::Config::default()
    };
    let service = wire::Server::new(Oracle::new(worker.clone()), info, wire_config).into_service();

    let process = Process::new("oracle", &[ORACLE_SERVICE], config.process);
    let (v1, v1alpha) = reflection::services(&[ORACLE_SERVICE, reflection::HEALTH_SERVICE]);
    let routes = Routes::new(service)
        .add_service(process.health().service())
        .add_service(v1)
        .add_service(v1alpha);
    let (address, server) = refract_net::serve(
        config.listen,
        ConformLayer.layer(routes.prepare()),
        process.signal(),
    )
    .await?;
    let (warm, health) = (worker.clone(), process.health().clone());
    let warm_up = async move {
        warm.warm_up().await?;
        tokio::spawn(watch_engine(warm, health));
        Ok(())
    };
    process.start(address, server, warm_up).await
}

/// An engine that calls itself unhealthy takes the process out of service.
async fn watch_engine(worker: Arc<Worker>, health: refract_chassis::Health) {
    let mut state = worker.handle().health();
    drop(worker);
    while state.changed().await.is_ok() {
        if matches!(*state.borrow(), refract_worker::Health::Unhealthy { .. }) {
            health.set_dead("the engine is unhealthy");
            return;
        }
    }
}

fn info(worker: &Worker) -> ServerInfo {
    let config = worker.handle().config();
    let mut info = ServerInfo::new("oracle", &refract_wire::Limits::default());
    let (spec, bundle) = (worker.spec(), worker.bundle());
    info.models.push(refract_wire::ModelInfo {
        name: bundle.manifest().name.clone(),
        architecture: worker.architecture().to_owned(),
        revision: bundle.revision().0,
        template_revision: bundle.template_revision().0,
        dtype: worker.dtype().as_str().to_owned(),
        parameters: spec.parameters,
        device: "cpu".to_owned(),
    });
    for (name, value) in [
        ("queue_sequences_max", config.queue_sequences_max),
        ("running_sequences_max", config.running_sequences_max),
        ("prompt_tokens_max", config.prompt_tokens_max),
        ("new_tokens_max", config.new_tokens_max),
    ] {
        info.limits.insert(name.to_owned(), value as u64);
    }
    info.features = if bundle.manifest().slots.is_some() {
        vec!["slots".to_owned()]
    } else {
        Vec::new()
    };
    info
}
