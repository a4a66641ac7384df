//! One service's life: bind, serve while warming, become ready, leave in order.
//!
//! ```text
//!  Process::new ──▶ health, signal ──▶ (the caller binds its data port with them) ──▶ start ──▶ Running
//!                                                                                       │
//!            SERVING ◀── warm-up done ◀── NOT_SERVING, data port open, admin port open ◀┘
//!            drain() ──▶ NOT_SERVING ──▶ lameduck ──▶ GOAWAY ──▶ the data port's future ends ──▶ done
//! ```
//!
//! The data port comes as an address and a future, so this crate knows no transport. Nothing here is global: several
//! processes, in this sense, may live in one of the operating system's.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use refract_resilience::drain::{self, Drain, DrainSignal};
use refract_resilience::limits::{Unfit, ensure};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, error, info, info_span};

use crate::admin::{self, Admin};
use crate::drain::Signals;
use crate::health::Health;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest time from start to warm; after it the process gives up. Default 10m.
    #[serde(with = "humantime_serde")]
    pub warm_up_max: Duration,
    /// The port for probes, scrapers and people.
    pub admin: admin::Config,
    /// How to leave.
    pub drain: drain::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            warm_up_max: Duration::from_secs(600),
            admin: admin::Config::default(),
            drain: drain::Config::default(),
        }
    }
}

impl Config {
    pub fn check(&self) -> Result<(), Unfit> {
        ensure(
            !self.warm_up_max.is_zero(),
            "warm_up_max",
            "must be longer than zero",
        )?;
        self.admin.check().map_err(|unfit| unfit.within("admin"))?;
        self.drain.check().map_err(|unfit| unfit.within("drain"))
    }
}

/// A service that is being put together.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    config: Config,
    drain: Drain,
    health: Health,
    config_in_force: String,
}

/// A service that runs. Dropping it ends it at once; [`Running::drain`] and [`Running::wait`] end it in order.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    address: SocketAddr,
    admin_address: SocketAddr,
    drain: Drain,
    health: Health,
    warm: watch::Receiver<Warmth>,
    /// Ends when the data port is closed.
    life: AbortOnDropHandle<anyhow::Result<()>>,
    _admin: AbortOnDropHandle<()>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Warmth {
    Warming,
    Warm,
    Failed(String),
}

impl Process {
    /// `services` are the full names that health answers for.
    pub fn new(name: &'static str, services: &[&str], config: Config) -> Self {
        let (drain, signal) = drain::pair(config.drain.clone());
        let health = Health::new(services, signal);
        Self {
            name,
            config,
            drain,
            health,
            config_in_force: String::new(),
        }
    }

    /// What `/configz` shows: the output of [`crate::config::render`].
    #[must_use]
    pub fn showing_config(mut self, rendered: String) -> Self {
        self.config_in_force = rendered;
        self
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its service belongs into the routes of the data port.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What the data port, and everything else that must end, listens to.
    pub fn signal(&self) -> DrainSignal {
        self.drain.signal()
    }

    /// Starts serving, opens the admin port and warms up in the background. `server` is the data port bound to
    /// `address`; it must end by itself once the signal says so.
    pub async fn start<S, W>(self, address: SocketAddr, server: S, warm_up: W) -> anyhow::Result<Running>
    where
        S: Future<Output = ()> + Send + 'static,
        W: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let Self {
            name,
            config,
            drain,
            health,
            config_in_force,
        } = self;
        let admin_at = config.admin.address.clone();
        let admin = Admin::bind(config.admin, health.clone(), &config_in_force)
            .await
            .with_context(|| format!("{name}: cannot listen on the admin address {admin_at}"))?;
        let admin_address = admin.local_addr();
        let span = info_span!("process", name);
        info!(parent: &span, %address, admin = %admin_address, "listening");

        let (warmth, warm) = watch::channel(Warmth::Warming);
        let server = tokio::spawn(server.instrument(span.clone()));
        let warming = tokio::spawn(warm_up.instrument(span.clone()));
        let life = live(
            name,
            server,
            warming,
            config.warm_up_max,
            health.clone(),
            drain.clone(),
            warmth,
        );
        Ok(Running {
            name,
            address,
            admin_address,
            drain,
            health,
            warm,
            life: AbortOnDropHandle::new(tokio::spawn(life.instrument(span))),
            _admin: AbortOnDropHandle::new(tokio::spawn(admin.serve())),
        })
    }
}

/// Warms up beside the server, then waits for the server's end.
async fn live(
    name: &'static str,
    server: JoinHandle<()>,
    warming: JoinHandle<anyhow::Result<()>>,
    warm_up_max: Duration,
    health: Health,
    drain: Drain,
    warmth: watch::Sender<Warmth>,
) -> anyhow::Result<()> {
    let mut server = AbortOnDropHandle::new(server);
    let signal = drain.signal();
    let bounded = async {
        let warming = AbortOnDropHandle::new(warming);
        match tokio::time::timeout(warm_up_max, warming).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(anyhow::anyhow!("the warm-up panicked")),
            Err(_) => Err(anyhow::anyhow!("not warm within {warm_up_max:?} (warm_up_max)")),
        }
    };
    let warmed = tokio::select! {
        warmed = bounded => warmed,
        // Asked to leave before it was warm, or the server died: fall through to its end.
        () = signal.leaving() => Ok(()),
        ended = &mut server => return end(name, &signal, ended),
    };
    if let Err(cause) = warmed {
        error!(error = %cause, "warm-up failed");
        health.set_dead("warm-up failed");
        warmth.send_replace(Warmth::Failed(format!("{cause:#}")));
        drain.close();
        let _closed = server.await;
        return Err(cause.context(format!("{name}: warm-up failed")));
    }
    if signal.is_serving() {
        health.set_ready();
        warmth.send_replace(Warmth::Warm);
        info!("ready");
    }
    let ended = server.await;
    end(name, &signal, ended)
}

/// A server may end because it was asked to, and for no other reason.
fn end(
    name: &'static str,
    signal: &DrainSignal,
    ended: Result<(), tokio::task::JoinError>,
) -> anyhow::Result<()> {
    match ended {
        Ok(()) if !signal.is_serving() => {
            info!("left");
            Ok(())
        }
        Ok(()) => Err(anyhow::anyhow!("{name}: the server ended by itself")),
        Err(_) => Err(anyhow::anyhow!("{name}: the server panicked")),
    }
}

impl Running {
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The data port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Waits until it is warm; an error says why it will never be.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let mut warm = self.warm.clone();
        match warm
            .wait_for(|warmth| *warmth != Warmth::Warming)
            .await
            .map(|warmth| warmth.clone())
        {
            Ok(Warmth::Warm) => Ok(()),
            Ok(Warmth::Failed(cause)) => Err(anyhow::anyhow!("{}: warm-up failed: {cause}", self.name)),
            Ok(Warmth::Warming) | Err(_) => Err(anyhow::anyhow!("{}: ended before it was warm", self.name)),
        }
    }

    /// Begins to leave, and returns when closing has begun. [`Running::wait`] waits for the end.
    pub async fn drain(&self) {
        self.drain.drain().await;
    }

    /// Leaves without the lameduck wait.
    pub fn close(&self) {
        self.drain.close();
    }

    /// Waits until it has ended: in order, or with the reason why not.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        match (&mut self.life).await {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("{}: ended unexpectedly", self.name)),
        }
    }
}

/// Runs services until a signal asks to leave or one of them fails, then lets all leave in order. A second signal ends
/// the operating system's process at once, with the code of an interrupted one.
pub async fn run_until_signal(running: Vec<Running>) -> anyhow::Result<()> {
    let mut signals = Signals::take().context("cannot listen for signals")?;
    let drains: Vec<_> = running.iter().map(|service| service.drain.clone()).collect();
    let mut all = tokio::task::JoinSet::new();
    for service in running {
        all.spawn(service.wait());
    }
    let mut first_failure = None;
    let mut note = |ended: Result<anyhow::Result<()>, tokio::task::JoinError>| {
        let result = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a service panicked")));
        if let Err(cause) = result {
            first_failure.get_or_insert(cause);
        }
    };
    tokio::select! {
        _ = signals.next() => {}
        Some(ended) = all.join_next() => note(ended),
    }
    for drain in drains {
        tokio::spawn(async move { drain.drain().await });
    }
    loop {
        tokio::select! {
            _ = signals.next() => std::process::exit(130),
            ended = all.join_next() => match ended {
                Some(ended) => note(ended),
                None => break,
            },
        }
    }
    first_failure.map_or(Ok(()), Err)
}
