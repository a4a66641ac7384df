//! One connection to Redis, kept by a task in the background.
//!
//! Why not the library's own reconnecting connection: it never reconnects after time-outs (a silently dropped path is
//! never noticed), and while it reconnects a command waits for the reconnect and not for its own time-out. Here there
//! either is a connection that answered a `PING`, or commands fail at once.

use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, sync::Arc};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{Instrument as _, Span, info_span};

use super::breaker::Breaker;
use crate::config::RedisConfig;
use crate::error::Error;
use crate::metrics;
use crate::store::Health;

pub(super) struct Link {
    client: Client,
    config: RedisConfig,
    current: RwLock<Option<Connection>>,
    breaker: Mutex<Breaker>,
    lost: Notify,
    health: watch::Sender<Health>,
}

#[derive(Clone)]
struct Connection {
    inner: MultiplexedConnection,
    /// A late failure of an old connection says nothing about its successor.
    generation: u64,
}

/// A connection that lasted this long before it was lost is replaced at once; a shorter life is waited on.
const STEADY: Duration = Duration::from_secs(5);

/// Connects, probes, waits until the connection is lost, and again; ends when it is aborted.
pub(super) async fn keep(link: Arc<Link>) {
    let mut wait = Duration::ZERO;
    for generation in 0.. {
        if !wait.is_zero() {
            sleep(wait.mul_f64(0.75 + 0.5 * rand::random::<f64>())).await;
        }
        match link.connect().await {
            Ok(inner) => {
                link.install(Connection { inner, generation });
                let since = Instant::now();
                link.until_lost().await;
                wait = if since.elapsed() >= STEADY {
                    Duration::ZERO
                } else {
                    link.longer(wait)
                };
            }
            Err(reason) => {
                link.say_down(reason);
                wait = link.longer(wait);
            }
        }
    }
}

impl Link {
    pub(super) fn new(client: Client, config: &RedisConfig) -> Self {
        metrics::store_up(false);
        Self {
            client,
            // Nothing that is kept needs the credentials again.
            config: RedisConfig {
                url: None,
                ..config.clone()
            },
            current: RwLock::new(None),
            breaker: Mutex::new(Breaker::new(
                config.timeouts_in_row_max,
                config.timeouts_share_max,
            )),
            lost: Notify::new(),
            health: watch::Sender::new(Health::Connecting),
        }
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Runs a command within `limit`, or fails at once if there is no connection.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        label: &'static str,
        command: &Cmd,
        limit: Duration,
    ) -> Result<T, Error> {
        let began = Instant::now();
        // Pings and writes behind the answer's back belong to nobody's request.
        let span = if Span::current().is_none() {
            Span::none()
        } else {
            info_span!(
                "redis",
                otel.kind = "client",
                db.system = "redis",
                db.operation = label
            )
        };
        let result = self.attempt(command, began + limit, limit).instrument(span).await;
        metrics::store_command(label, began.elapsed());
        if let Err(error) = &result {
            metrics::store_error(error.reason());
        }
        result
    }

    async fn attempt<T: FromRedisValue>(
        &self,
        command: &Cmd,
        until: Instant,
        limit: Duration,
    ) -> Result<T, Error> {
        let mut connection = self.connection(until).await.ok_or(Error::StoreUnavailable)?;
        let answer = timeout_at(until, command.query_async::<T>(&mut connection.inner)).await;
        match answer {
            Ok(Ok(value)) => {
                self.breaker().succeeded(Instant::now());
                Ok(value)
            }
            Ok(Err(error)) => Err(self.failed(connection.generation, &error)),
            Err(_) => {
                if self.is_current(connection.generation) && self.breaker().failed(Instant::now()) {
                    self.lose(connection.generation, "too many time-outs");
                }
                Err(Error::StoreTimeout { after: limit })
            }
        }
    }

    /// The connection; only while the very first attempt is running, waiting for it is worth a part of the limit.
    async fn connection(&self, until: Instant) -> Option<Connection> {
        if *self.health.borrow() == Health::Connecting {
            let mut health = self.health.subscribe();
            let _ = timeout_at(until, health.wait_for(|health| *health != Health::Connecting)).await;
        }
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn failed(&self, generation: u64, error: &RedisError) -> Error {
        // A replica after a failover, a server that is loading or lost its master: another connection may find a better one.
        let elsewhere = matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
            )
        );
        if elsewhere || error.is_io_error() || error.is_unrecoverable_error() {
            self.lose(generation, reason(error));
            return Error::StoreUnavailable;
        }
        self.breaker().succeeded(Instant::now());
        Error::StoreRefused {
            code: error.code().unwrap_or(error.category()).to_owned(),
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, &'static str> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_timeout))
            // Every command has a limit of its own; a second one underneath would only blur the reasons.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(self.config.commands_queued_max);
        let handshake = self
            .client
            .get_multiplexed_async_connection_with_config(&settings);
        let connected = timeout(self.config.connect_timeout, handshake).await;
        let result = match connected {
            Err(_) => Err("connecting timed out"),
            Ok(Err(error)) => Err(reason(&error)),
            Ok(Ok(mut connection)) => {
                let probe = Cmd::ping();
                match timeout(
                    self.config.get_timeout,
                    probe.query_async::<String>(&mut connection),
                )
                .await
                {
                    Err(_) => Err("the probe timed out"),
                    Ok(Err(error)) => Err(reason(&error)),
                    Ok(Ok(_)) => Ok(connection),
                }
            }
        };
        metrics::connection(result.is_ok());
        result
    }

    fn install(&self, connection: Connection) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        self.breaker().reset();
        metrics::store_up(true);
        if self.health.send_replace(Health::Up) != Health::Up {
            tracing::info!("knowledge store is up");
        }
    }

    /// Waits for the loss, and looks for it while nobody else uses the connection.
    async fn until_lost(&self) {
        loop {
            tokio::select! {
                () = self.lost.notified() => {}
                () = sleep(self.config.ping_every) => {
                    // The outcome is in the counters; what matters is whether there still is a connection.
                    let _: Result<String, Error> = self.run("ping", &Cmd::ping(), self.config.get_timeout).await;
                }
            }
            if self
                .current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .is_none()
            {
                return;
            }
        }
    }

    fn lose(&self, generation: u64, reason: &'static str) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_none_or(|connection| connection.generation != generation)
        {
            return;
        }
        *current = None;
        drop(current);
        self.say_down(reason);
        self.lost.notify_one();
    }

    /// Once per transition.
    fn say_down(&self, reason: &'static str) {
        metrics::store_up(false);
        if self.health.send_replace(Health::Down) != Health::Down {
            tracing::warn!(reason, "knowledge store is down: consulting without it");
        }
    }

    fn is_current(&self, generation: u64) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .is_some_and(|connection| connection.generation == generation)
    }

    fn longer(&self, wait: Duration) -> Duration {
        (wait * 2).clamp(self.config.retry_min, self.config.retry_max)
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("health", &*self.health.borrow())
            .finish_non_exhaustive()
    }
}

/// A constant phrase: the library's messages may hold addresses and names.
fn reason(error: &RedisError) -> &'static str {
    match error.kind() {
        ErrorKind::AuthenticationFailed => "the credential was refused",
        ErrorKind::Server(ServerErrorKind::ReadOnly) => "it is a read-only replica",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "it is loading its data",
        ErrorKind::Server(ServerErrorKind::MasterDown) => "its master is down",
        ErrorKind::Server(ServerErrorKind::NoPerm) => "access rules forbid the command",
        ErrorKind::Server(_) | ErrorKind::Extension => "it answered with an error",
        ErrorKind::Io if error.is_connection_refusal() => "the connection was refused",
        ErrorKind::Io => "the connection broke",
        _ => "it does not speak the protocol",
    }
}
