//! One connection to one server, kept by a task in the background.
//!
//! Why not the library's own reconnecting connection: it never reconnects after time-outs (a silently dropped path is
//! never noticed), and while it reconnects a command waits for the reconnect and not for its own time-out. Here there
//! either is a connection that answered a `PING`, or commands fail at once.

use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, sync::Arc};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ServerErrorKind};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{Instrument as _, Span, info_span};

use super::board::Board;
use super::breaker::Breaker;
use super::dial::{Address, Dialer};
use super::sentinel::Sentinels;
use crate::config::RedisConfig;
use crate::error::Error;
use crate::metrics;
use crate::store::Health;

pub(super) struct Link {
    server: Server,
    dialer: Dialer,
    config: RedisConfig,
    current: RwLock<Option<Connection>>,
    breaker: Mutex<Breaker>,
    lost: Notify,
    health: watch::Sender<Health>,
    board: Arc<Board>,
    /// This server's place on the board.
    place: u64,
}

/// Which server a link is to.
pub(super) enum Server {
    /// Where the URL says, or at an address that a cluster names.
    At(Option<Address>),
    Master(Box<Sentinels>),
}

/// Why a command gave no value.
pub(super) enum Failure {
    Error(Error),
    /// The name lies on another node.
    Elsewhere(Elsewhere),
}

/// Where a cluster's node sends a command that is not for it.
pub(super) struct Elsewhere {
    /// `host:port`; an empty host is that of the node which answered.
    pub(super) address: String,
    /// The slot is on its way there: this command alone, and announced by `ASKING`.
    pub(super) asking: bool,
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
                link.until_lost(generation).await;
                wait = if since.elapsed() >= STEADY {
                    Duration::ZERO
                } else {
                    link.longer(wait)
                };
            }
            Err(reason) => {
                link.say(Health::Down, reason);
                wait = link.longer(wait);
            }
        }
    }
}

impl From<Failure> for Error {
    /// For those who have nowhere else to go.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Error(error) => error,
            Failure::Elsewhere(Elsewhere { asking, .. }) => {
                let code = if asking { "ASK" } else { "MOVED" };
                tracing::warn!(code, "the store is a cluster: set redis.mode = \"cluster\"");
                Self::StoreRefused {
                    code: code.to_owned(),
                }
            }
        }
    }
}

impl Server {
    async fn find(&self) -> Result<Option<Address>, &'static str> {
        match self {
            Self::At(address) => Ok(address.clone()),
            Self::Master(sentinels) => sentinels.find().await.map(Some),
        }
    }

    async fn is_another_now(&self) -> bool {
        match self {
            Self::At(_) => false,
            Self::Master(sentinels) => sentinels.name_another().await,
        }
    }

    fn doubt(&self) {
        if let Self::Master(sentinels) = self {
            sentinels.doubt();
        }
    }
}

impl Link {
    pub(super) fn new(server: Server, dialer: Dialer, config: &RedisConfig, board: Arc<Board>) -> Self {
        Self {
            server,
            dialer,
            // The dialer alone needs the credentials.
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
            place: board.enter(),
            board,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        *self.health.borrow() == Health::Up
    }

    /// Runs a command within `limit`, or fails at once if there is no connection; after `ASKING`, if it was sent here
    /// for one.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        label: &'static str,
        command: &Cmd,
        asking: bool,
        limit: Duration,
    ) -> Result<T, Failure> {
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
        let result = self
            .attempt(command, asking, began + limit, limit)
            .instrument(span)
            .await;
        metrics::store_command(label, began.elapsed());
        if let Err(Failure::Error(error)) = &result {
            metrics::store_error(error.reason());
        }
        result
    }

    async fn attempt<T: FromRedisValue>(
        &self,
        command: &Cmd,
        asking: bool,
        until: Instant,
        limit: Duration,
    ) -> Result<T, Failure> {
        let connection = self.connection(until).await;
        let mut connection = connection.ok_or(Failure::Error(Error::StoreUnavailable))?;
        let answer = timeout_at(until, query::<T>(command, asking, &mut connection.inner)).await;
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
                Err(Failure::Error(Error::StoreTimeout { after: limit }))
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

    fn failed(&self, generation: u64, error: &RedisError) -> Failure {
        if let Some((address, _slot)) = error.redirect_node() {
            self.breaker().succeeded(Instant::now());
            return Failure::Elsewhere(Elsewhere {
                address: address.to_owned(),
                asking: error.kind() == ErrorKind::Server(ServerErrorKind::Ask),
            });
        }
        // A replica after a failover, a server that is loading or lost its master: another connection may find a better one.
        let elsewhere = matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
            )
        );
        if elsewhere || error.is_io_error() || error.is_unrecoverable_error() {
            self.server.doubt();
            self.lose(generation, reason(error));
            return Failure::Error(Error::StoreUnavailable);
        }
        self.breaker().succeeded(Instant::now());
        Failure::Error(Error::StoreRefused {
            code: error.code().unwrap_or(error.category()).to_owned(),
        })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, &'static str> {
        let result = self.reach().await;
        if result.is_err() {
            self.server.doubt();
        }
        metrics::connection(result.is_ok());
        result
    }

    async fn reach(&self) -> Result<MultiplexedConnection, &'static str> {
        let address = self.server.find().await?;
        let mut connection = self.dialer.connect(address.as_ref()).await?;
        let probe = Cmd::ping();
        let probed = probe.query_async::<String>(&mut connection);
        match timeout(self.config.get_timeout, probed).await {
            Err(_) => Err("the probe timed out"),
            Ok(Err(error)) => Err(reason(&error)),
            Ok(Ok(_)) => Ok(connection),
        }
    }

    fn install(&self, connection: Connection) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        self.breaker().reset();
        self.say(Health::Up, "");
    }

    /// Waits for the loss, and looks for it while nobody else uses the connection.
    async fn until_lost(&self, generation: u64) {
        let mut news = Instant::now() + self.config.topology_every;
        loop {
            tokio::select! {
                () = self.lost.notified() => {}
                () = sleep(self.config.ping_every) => {
                    // The outcome is in the counters; what matters is whether there still is a connection.
                    let _: Result<String, Failure> =
                        self.run("ping", &Cmd::ping(), false, self.config.get_timeout).await;
                }
                () = sleep_until(news) => {
                    news = Instant::now() + self.config.topology_every;
                    if self.server.is_another_now().await {
                        self.lose(generation, "another server is the master now");
                    }
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
        self.say(Health::Down, reason);
        self.lost.notify_one();
    }

    fn say(&self, health: Health, reason: &'static str) {
        self.health.send_replace(health);
        self.board.tell(self.place, health, reason);
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

impl Drop for Link {
    fn drop(&mut self) {
        self.board.leave(self.place);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("health", &*self.health.borrow())
            .finish_non_exhaustive()
    }
}

/// `ASKING` and its command must not be parted by another caller's.
async fn query<T: FromRedisValue>(
    command: &Cmd,
    asking: bool,
    connection: &mut MultiplexedConnection,
) -> Result<T, RedisError> {
    if !asking {
        return command.query_async(connection).await;
    }
    let mut both = Pipeline::with_capacity(2);
    both.cmd("ASKING").ignore().add_command(command.clone());
    let (value,): (T,) = both.query_async(connection).await?;
    Ok(value)
}

/// A constant phrase: the library's messages may hold addresses and names.
pub(super) fn reason(error: &RedisError) -> &'static str {
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
