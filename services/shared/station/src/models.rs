//! What the Oracle's and the Prism's stations share: a bundle that is loaded before any port opens, warm before it is
//! ready, and whose engine takes the process out of service when it fails.

use std::sync::Arc;

use anyhow::Context as _;
use refract_bundle::Role;
use refract_chassis::Health;
use refract_wire::{Limits, ModelInfo, ServerInfo};
use refract_worker::Worker;

/// Loads and checks the bundle on a thread that may block; a bad one is refused here.
pub async fn open(
    name: &'static str,
    config: refract_worker::Config,
    role: Role,
) -> anyhow::Result<Arc<Worker>> {
    let worker = tokio::task::spawn_blocking(move || Worker::open(&config, role))
        .await?
        .with_context(|| format!("the {name} cannot start"))?;
    Ok(Arc::new(worker))
}

/// Runs the model once at its sizes; from then on an engine that calls itself unhealthy ends the process's service.
pub async fn warm_up(worker: Arc<Worker>, health: Health) -> anyhow::Result<()> {
    worker.warm_up().await?;
    let mut state = worker.handle().health();
    drop(worker);
    tokio::spawn(async move {
        while state.changed().await.is_ok() {
            if matches!(*state.borrow(), refract_worker::Health::Unhealthy { .. }) {
                health.set_dead("the engine is unhealthy");
                return;
            }
        }
    });
    Ok(())
}

/// What `GetServerInfo` says of a model service.
pub fn info(name: &'static str, worker: &Worker) -> ServerInfo {
    let config = worker.handle().config();
    let mut info = ServerInfo::new(name, &Limits::default());
    let (spec, bundle) = (worker.spec(), worker.bundle());
    info.models.push(ModelInfo {
        name: bundle.manifest().name.clone(),
        architecture: worker.architecture().to_owned(),
        revision: bundle.revision().0,
        template_revision: bundle.template_revision().0,
        dtype: worker.precision().to_owned(),
        parameters: spec.parameters,
        device: worker.place(),
    });
    for (name, value) in [
        ("queue_sequences_max", config.queue_sequences_max),
        ("running_sequences_max", config.running_sequences_max),
        ("prompt_tokens_max", config.prompt_tokens_max),
        ("new_tokens_max", config.new_tokens_max),
    ] {
        info.limits.insert(name.to_owned(), value as u64);
    }
    if bundle.manifest().slots.is_some() {
        info.features.push("slots".to_owned());
    }
    info
}
