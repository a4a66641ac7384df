//! What the Oracle's and the Prism's stations share: a bundle that is loaded before any port opens, warm before it is
//! ready, and whose engine takes the process out of service when it fails.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use refract_bundle::Role;
use refract_chassis::Health;
use refract_wire::{Limits, ModelInfo, ServerInfo};
use refract_worker::{Handle, Worker};

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
    let handle = worker.handle().clone();
    drop(worker);
    tokio::spawn(follow(handle, health));
    Ok(())
}

/// How often the engine is looked at, lest it hangs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Takes the process out of service once its engine is unhealthy, whenever that began, or hangs.
async fn follow(engine: Handle, health: Health) {
    let mut state = engine.health();
    loop {
        match *state.borrow_and_update() {
            refract_worker::Health::Unhealthy { .. } => return health.set_dead("the engine is unhealthy"),
            refract_worker::Health::Stopped => return,
            _ => {}
        }
        // Either way there is something to look at.
        let _ = tokio::time::timeout(LOOK_EVERY, state.changed()).await;
        engine.check_pace();
    }
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

#[cfg(test)]
mod tests {
    use refract_engine::runner::Scripted;
    use refract_engine::{Config, Engine, GenerationParams, Request};

    use super::*;

    const POISON: u32 = 66;

    /// A process that serves, and its engine.
    fn serving(runner: Scripted) -> (Engine, Health) {
        let engine = Engine::start(runner, Config::default()).expect("a sound config");
        let (_, signal) = refract_resilience::drain::pair(refract_resilience::drain::Config::brisk());
        let health = Health::new(&[], signal);
        health.set_ready();
        (engine, health)
    }

    /// Asks something poisonous, each time something else: one question counts once.
    async fn ask(engine: &Engine, which: u32) {
        let request = Request::new(vec![POISON, 5 + which], GenerationParams::greedy(4, vec![1]));
        let generation = engine.handle().generate(request).expect("accepted");
        generation.collect().await.expect_err("poisoned");
    }

    async fn until_dead(health: &Health) {
        while health.is_live() {
            tokio::task::yield_now().await;
        }
        assert_eq!(health.readiness(), Err("the engine is unhealthy"));
    }

    #[tokio::test]
    async fn three_model_faults_in_a_minute_take_the_process_out_of_service() {
        let (engine, health) = serving(Scripted::echo(1).failing_to_decode(POISON, 1));
        let following = tokio::spawn(follow(engine.handle(), health.clone()));
        for which in 0..2 {
            ask(&engine, which).await;
            assert_eq!(health.readiness(), Ok(()), "one fault may be the question's own");
        }
        ask(&engine, 2).await;
        until_dead(&health).await;
        following.await.expect("followed to the end");
    }

    #[tokio::test]
    async fn a_lost_device_takes_the_process_out_of_service_even_if_nobody_looked_yet() {
        let (engine, health) = serving(Scripted::echo(1).lost_in_decode(POISON, 1));
        ask(&engine, 0).await;
        tokio::spawn(follow(engine.handle(), health.clone()));
        until_dead(&health).await;
    }
}
