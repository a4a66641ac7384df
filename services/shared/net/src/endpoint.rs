//! One connection to one address: kept up in the background, and picked only while it stands.
//!
//! ```text
//!             connected, server has spoken
//!  Connecting ───────────────────────────▶ Ready
//!     │   ▲                                  │ lost, or refuses calls (GOAWAY)
//!     │   └──────────────────────────────────┘
//!     └─failed─▶ Failed ──back-off, again──▶ (Ready, or Failed)
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use refract_resilience::Backoff;
use refract_resilience::deadline::now;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use crate::config::DialConfig;
use crate::eject::{Ended, Judge, Record};
use crate::resend::Sending;
use crate::socket::{SERVER_HELLO_BYTES, Socket, tune};
use crate::turn::{Parts, Together, Turns};

/// Whether an endpoint can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointStatus {
    /// A first connection, or a new one after a loss, is being made.
    Connecting,
    Ready,
    /// The last attempt failed; another follows after a wait.
    Failed,
}

/// What an observer may know of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    pub address: SocketAddr,
    pub status: EndpointStatus,
    /// Calls in progress on it.
    pub calls: usize,
    /// Why the last attempt failed; empty when there was none or it succeeded.
    pub last_error: String,
}

pub(crate) type Sender = http2::SendRequest<Sending>;
/// What a connection came to that takes no more calls.
type End = oneshot::Receiver<Result<(), hyper::Error>>;

/// The shared half: read by calls, written by the task that keeps the connection.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    calls: AtomicUsize,
    link: Mutex<Link>,
    /// What became of its calls, over all connections.
    pub(crate) record: Record,
    config: Arc<DialConfig>,
    /// Tells the keeper: the connection with this number, and those before it, are of no use any more.
    lost: watch::Sender<u64>,
}

#[derive(Debug)]
struct Link {
    status: EndpointStatus,
    sender: Option<Sender>,
    /// Counts connections, so that news about an old one does not harm its successor.
    number: u64,
    last_error: String,
}

/// An endpoint and the task that keeps it connected; dropping it stops the task, calls in progress go on.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) endpoint: Arc<Endpoint>,
    _keeper: AbortOnDropHandle<()>,
}

/// A call counted as pending on its connection, until it is dropped; then what became of it is noted.
#[derive(Debug)]
pub(crate) struct CallGuard {
    endpoint: Arc<Endpoint>,
    judge: Option<Judge>,
    begun: Instant,
    ended: Ended,
}

impl Kept {
    /// `host` is whom a secured server must prove to be. `changed` is told of each change of status; `lost` of each connection that ended.
    pub(crate) fn start(
        address: SocketAddr,
        host: String,
        config: Arc<DialConfig>,
        changed: watch::Sender<u64>,
        lost: Arc<Notify>,
    ) -> Self {
        let endpoint = Arc::new(Endpoint {
            address,
            calls: AtomicUsize::new(0),
            link: Mutex::new(Link {
                status: EndpointStatus::Connecting,
                sender: None,
                number: 0,
                last_error: String::new(),
            }),
            record: Record::default(),
            config: Arc::clone(&config),
            lost: watch::Sender::new(0),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&endpoint), host, config, changed, lost));
        Self {
            endpoint,
            _keeper: AbortOnDropHandle::new(keeper),
        }
    }
}

impl Endpoint {
    pub(crate) fn status(&self) -> EndpointStatus {
        self.link().status
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn last_error(&self) -> String {
        self.link().last_error.clone()
    }

    pub(crate) fn state(&self) -> EndpointState {
        let link = self.link();
        EndpointState {
            address: self.address,
            status: link.status,
            calls: self.calls(),
            last_error: link.last_error.clone(),
        }
    }

    /// The connection to send on, with its number, unless it went in the meantime.
    pub(crate) fn begin(self: &Arc<Self>, judge: Option<Judge>) -> Option<(Sender, u64, CallGuard)> {
        let link = self.link();
        let sender = link.sender.clone()?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let guard = CallGuard {
            endpoint: Arc::clone(self),
            judge,
            begun: now(),
            ended: Ended::Unanswered,
        };
        Some((sender, link.number, guard))
    }

    /// A call found connection `number` unusable: nobody shall pick it again.
    pub(crate) fn report_lost(&self, number: u64) {
        let mut link = self.link();
        if link.number == number && link.sender.take().is_some() {
            link.status = EndpointStatus::Connecting;
            drop(link);
            self.lost.send_replace(number);
        }
    }

    fn set(&self, status: EndpointStatus, sender: Option<Sender>, last_error: String) -> u64 {
        let mut link = self.link();
        if sender.is_some() {
            link.number += 1;
        }
        link.status = status;
        link.sender = sender;
        link.last_error = last_error;
        link.number
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallGuard {
    /// Reads the head of an answer, or its end.
    pub(crate) fn read(&mut self, headers: &HeaderMap) {
        let at_fault = self.judge.and_then(|judge| judge(headers));
        self.ended = match at_fault {
            Some(true) => Ended::Badly,
            Some(false) => Ended::Well,
            None => Ended::Unsaid,
        };
    }

    /// The answer is over. Without a judge that is all there is to know.
    pub(crate) fn finished(&mut self) {
        if self.judge.is_none() {
            self.ended = Ended::Well;
        }
    }

    /// The connection or the stream broke.
    pub(crate) fn broke(&mut self) {
        self.ended = Ended::Badly;
    }

    /// It was never sent or never looked at, which is no fault of the replica.
    pub(crate) fn unsent(mut self) {
        self.ended = Ended::Unsaid;
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let Endpoint {
            calls,
            record,
            config,
            ..
        } = &*self.endpoint;
        calls.fetch_sub(1, Ordering::Relaxed);
        let ended = now();
        record.note(&config.eject, self.ended, ended - self.begun, ended);
    }
}

/// Keeps one endpoint connected, for ever.
async fn keep(
    endpoint: Arc<Endpoint>,
    host: String,
    config: Arc<DialConfig>,
    changed: watch::Sender<u64>,
    any_lost: Arc<Notify>,
) {
    let address = endpoint.address;
    let mut backoff = Backoff::new(config.backoff.clone(), rand::random());
    let tell = || changed.send_modify(|version| *version += 1);
    loop {
        match connect(address, &host, &config).await {
            Ok((sender, end)) => {
                debug!(%address, "connected");
                let since = now();
                let number = endpoint.set(EndpointStatus::Ready, Some(sender), String::new());
                tell();
                let mut lost = endpoint.lost.subscribe();
                tokio::select! {
                    ended = end => {
                        if let Ok(Err(error)) = ended {
                            debug!(%address, %error, "connection failed");
                        }
                    }
                    // Calls in progress go on; the connection ends with the last of them.
                    _ = lost.wait_for(|lost| *lost >= number) => {}
                }
                endpoint.set(EndpointStatus::Connecting, None, String::new());
                tell();
                any_lost.notify_one();
                debug!(%address, "connection ended");
                // A server that hangs up at once is no better than one that does not answer.
                if now().duration_since(since) < config.connect_max {
                    tokio::time::sleep(backoff.after_failure()).await;
                } else {
                    backoff.reset();
                }
            }
            Err(error) => {
                if endpoint.status() != EndpointStatus::Failed {
                    info!(%address, %error, "endpoint unreachable");
                }
                endpoint.set(EndpointStatus::Failed, None, error.to_string());
                tell();
                any_lost.notify_one();
                tokio::time::sleep(backoff.after_failure()).await;
            }
        }
    }
}

/// Connects and waits for the server's first words, so that a peer which accepts and says nothing is never ready.
async fn connect(address: SocketAddr, host: &str, config: &DialConfig) -> io::Result<(Sender, End)> {
    let attempt = async {
        let stream = TcpStream::connect(address).await?;
        tune(&stream, config.keepalive_every + config.keepalive_wait_max)?;
        if !config.pings() {
            let probe = TcpKeepalive::new()
                .with_time(whole_seconds(config.keepalive_every))
                .with_interval(whole_seconds(config.keepalive_wait_max));
            SockRef::from(&stream).set_tcp_keepalive(&probe)?;
        }
        match &config.tls {
            None => converse(stream, config).await,
            Some(tls) => converse(tls.connect(stream, host).await?, config).await,
        }
    };
    match tokio::time::timeout(config.connect_max, Box::pin(attempt)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {:?}", config.connect_max),
        )),
    }
}

/// The longest that Linux takes (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`): more fails the connection.
const KEEPALIVE_SECONDS_MAX: u64 = 32_767;

/// The kernel counts in seconds, and takes none for an error.
fn whole_seconds(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs().clamp(1, KEEPALIVE_SECONDS_MAX))
}

/// HTTP/2 over whatever carries it.
async fn converse<S>(stream: S, config: &DialConfig) -> io::Result<(Sender, End)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let socket = Socket::new(stream);
    let heard = socket.heard();
    let outgoing = socket.outgoing();
    let parts = Parts::default();
    let mut http = http2::Builder::new(parts.clone());
    http.timer(TokioTimer::new())
        .max_header_list_size(config.header_bytes_max)
        // An answer that crosses our farewell to its call is ignored as long as the call is remembered; after that each
        // counts as the server's fault, and h2 closes the connection over them.
        .max_concurrent_reset_streams(config.calls_per_connection_max)
        .max_local_error_reset_streams(config.late_answers_max);
    if config.pings() {
        http.keep_alive_interval(config.keepalive_every)
            .keep_alive_timeout(config.keepalive_wait_max)
            .keep_alive_while_idle(true);
    }
    let (sender, calls) = http
        .handshake(TokioIo::new(socket))
        .await
        .map_err(io::Error::other)?;
    let (ended, mut end) = oneshot::channel();
    let turns = Turns::new(Together::new(calls, parts, ended), outgoing);
    let driver = AbortOnDropHandle::new(tokio::spawn(turns));
    tokio::select! {
        () = heard.at_least(SERVER_HELLO_BYTES) => {
            driver.detach();
            Ok((sender, end))
        }
        // A server that refuses our certificate says so only now.
        ended = &mut end => Err(match ended {
            Ok(Err(error)) => io::Error::new(io::ErrorKind::ConnectionReset, innermost(&error)),
            _ => io::Error::new(io::ErrorKind::ConnectionReset, "closed before the first frame"),
        }),
    }
}

/// The reason at the bottom of a chain of errors, which is the one that helps.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
