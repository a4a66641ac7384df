//! The server's side: an accept loop, and for each connection a life with an end.
//!
//! ```text
//!  accepted ──TLS, where configured──preface──▶ serving ──age, or drain──▶ GOAWAY ──calls done, grace or budget over──▶ closed
//!     └── silent for preface_max: closed      └── peer lost (keepalive): closed
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use refract_resilience::DrainSignal;
use refract_resilience::deadline::now;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use crate::body::Guarded;
use crate::config::ListenConfig;
use crate::error::Error;
use crate::socket::{CLIENT_HELLO_BYTES, Heard, Outgoing, Socket, tune};
use crate::tls::{Acceptor, PeerNames};
use crate::turn::Turns;

/// A bound address, before anything is served on it.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    config: ListenConfig,
    tls: Option<Acceptor>,
    stats: ServerStats,
}

/// What a server is doing; clones look at the same numbers.
#[derive(Clone, Debug, Default)]
pub struct ServerStats(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    accepted: AtomicU64,
    silent: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    calls: AtomicUsize,
}

/// Binds, and serves until the drain is over: the bound address, and the future to run. Dropping the future closes
/// everything at once.
pub async fn serve<S>(
    config: ListenConfig,
    service: S,
    drain: DrainSignal,
) -> Result<(SocketAddr, impl Future<Output = ()> + Send + 'static), Error>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let listener = Listener::bind(config).await?;
    Ok((listener.local_addr(), listener.serve(service, drain)))
}

impl Listener {
    pub async fn bind(config: ListenConfig) -> Result<Self, Error> {
        let bind = |source| Error::Bind {
            address: config.address.clone(),
            source,
        };
        let tls = config.tls.clone().map(Acceptor::new).transpose()?;
        let tcp = TcpListener::bind(&config.address).await.map_err(bind)?;
        let address = tcp.local_addr().map_err(bind)?;
        Ok(Self {
            tcp,
            address,
            config,
            tls,
            stats: ServerStats::default(),
        })
    }

    /// Where it really listens; the port is never 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub fn stats(&self) -> ServerStats {
        self.stats.clone()
    }

    /// Serves `service` (tonic's `Routes`, or anything around them) until the drain is over.
    pub async fn serve<S>(self, service: S, drain: DrainSignal)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let Self {
            tcp,
            address,
            config,
            tls,
            stats,
        } = self;
        let _renewal = tls
            .clone()
            .map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.keep_current(address))));
        let http = builder(&config);
        let config = Arc::new(config);
        let places = Arc::new(Semaphore::new(config.connections_max));
        let mut connections = JoinSet::new();
        let mut closing = pin!(drain.closing());

        let finish_by = loop {
            // A place first: a connection that we could not serve is better left in the kernel's queue.
            let accepted = async {
                let place = Arc::clone(&places)
                    .acquire_owned()
                    .await
                    .expect("never closed, this is a bug");
                (tcp.accept().await, place)
            };
            let (stream, place) = tokio::select! {
                biased;
                finish_by = &mut closing => break finish_by,
                Some(_) = connections.join_next() => continue,
                (accepted, place) = accepted => match accepted {
                    Ok((stream, _)) => (stream, place),
                    Err(error) => {
                        pause_after(&error).await;
                        continue;
                    }
                },
            };
            stats.0.accepted.fetch_add(1, Ordering::Relaxed);
            let open = Counted::new(stats.clone(), |counts| &counts.connections);
            let life = connection(
                stream,
                tls.clone(),
                http.clone(),
                service.clone(),
                Arc::clone(&config),
                stats.clone(),
                drain.clone(),
            );
            connections.spawn(async move {
                life.await;
                drop((open, place));
            });
        };

        // Refuse new connections from here on, and let the others end by themselves, until the budget is spent.
        drop(tcp);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout_at(finish_by.into(), all).await.is_err() {
            connections.shutdown().await;
        }
    }
}

impl ServerStats {
    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Calls in progress now, streams included until their last byte.
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Connections accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// Connections closed because the peer never began to speak.
    pub fn silent(&self) -> u64 {
        self.0.silent.load(Ordering::Relaxed)
    }

    /// Connections closed because the TLS handshake failed, or took too long.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Connections closed with calls in progress, when grace or budget was over.
    pub fn cut(&self) -> u64 {
        self.0.cut.load(Ordering::Relaxed)
    }
}

fn builder(config: &ListenConfig) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(config.streams_per_connection_max)
        .max_local_error_reset_streams(config.local_resets_max)
        .max_pending_accept_reset_streams(config.pending_resets_max)
        .initial_stream_window_size(config.stream_window_bytes_max)
        .initial_connection_window_size(config.connection_window_bytes_max)
        .max_header_list_size(config.header_bytes_max)
        .max_send_buf_size(config.send_buffer_bytes_max)
        .keep_alive_interval(config.keepalive_every)
        .keep_alive_timeout(config.keepalive_wait_max);
    http
}

/// An accept error concerns one connection or the whole process (no file descriptors left); neither ends the loop.
async fn pause_after(error: &io::Error) {
    let one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    );
    if !one_connection {
        warn!(%error, "cannot accept connections, trying again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One connection, from its first byte to its end.
async fn connection<S>(
    stream: TcpStream,
    tls: Option<Acceptor>,
    http: http2::Builder<TokioExecutor>,
    service: S,
    config: Arc<ListenConfig>,
    stats: ServerStats,
    drain: DrainSignal,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let silence_max = config.keepalive_every + config.keepalive_wait_max;
    if let Err(error) = tune(&stream, silence_max) {
        debug!(%error, "connection lost before it was served");
        return;
    }
    let Some(tls) = tls else {
        return Box::pin(converse(stream, None, http, service, config, stats, drain)).await;
    };
    let peer = stream.peer_addr();
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(tls.handshake_max(), tls.accept(stream)) => shaken,
        _ = drain.closing() => return,
    };
    match shaken {
        Ok(Ok((stream, names))) => {
            Box::pin(converse(stream, names, http, service, config, stats, drain)).await;
        }
        failed => {
            stats.0.refused.fetch_add(1, Ordering::Relaxed);
            let failed = failed.map_or_else(|late| Err(io::Error::from(late)), |shaken| shaken.map(|_| ()));
            if let (Err(error), Ok(peer)) = (failed, peer) {
                tls.refused(peer, &error);
            }
        }
    }
}

/// HTTP/2 over whatever carries it; `names` are what a caller with a certificate is called.
async fn converse<I, S>(
    stream: I,
    names: Option<PeerNames>,
    http: http2::Builder<TokioExecutor>,
    service: S,
    config: Arc<ListenConfig>,
    stats: ServerStats,
    drain: DrainSignal,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let socket = Socket::new(stream);
    let heard = socket.heard();
    let (outgoing, unsent) = (socket.outgoing(), socket.outgoing());
    let calls = Calls::new(stats.clone());
    let connection = http.serve_connection(TokioIo::new(socket), {
        let calls = calls.clone();
        service_fn(move |mut request: Request<hyper::body::Incoming>| {
            let call = calls.begin();
            if let Some(names) = &names {
                request.extensions_mut().insert(names.clone());
            }
            let answer = service.clone().oneshot(request.map(Body::new));
            async move {
                let response = answer.await?;
                Ok::<_, Infallible>(response.map(|inner| Guarded { inner, _guard: call }))
            }
        })
    });
    let mut connection = Turns::new(connection, outgoing);

    // Accepted becomes Serving with the peer's first words, or nothing.
    tokio::select! {
        _ = &mut connection => return,
        () = heard.at_least(CLIENT_HELLO_BYTES) => {}
        () = tokio::time::sleep(config.preface_max) => {
            stats.0.silent.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // It has not asked for anything yet, so nothing is lost.
        _ = drain.closing() => return,
    }

    // Serving becomes Going at its age, or when the process leaves.
    let mut end: Instant = tokio::select! {
        _ = &mut connection => return,
        finish_by = drain.closing() => finish_by,
        () = age(&config) => now() + config.connection_grace,
    };
    connection.connection().graceful_shutdown();

    // Going becomes Closed when the calls are done and the peer agrees, or has had its time.
    loop {
        tokio::select! {
            _ = &mut connection => return,
            () = silence(&calls, &heard, &unsent, config.linger_max) => return,
            finish_by = drain.closing(), if finish_by_is_news(&drain, end) => end = end.min(finish_by),
            () = tokio::time::sleep_until(end.into()) => {
                if calls.count() > 0 {
                    stats.0.cut.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
        }
    }
}

/// Waits until for `span` there were no calls, the peer said nothing, and nothing was left to be sent to it. A call is over
/// when its last frame is queued: behind a slow line that is long before it has arrived. A peer that is told all of it and
/// agrees to go is closed by HTTP/2 itself.
async fn silence<I>(calls: &Calls, heard: &Heard, unsent: &Outgoing<I>, span: Duration) {
    loop {
        let before = heard.bytes();
        calls.none_for(span).await;
        if heard.bytes() == before && unsent.is_empty() {
            return;
        }
    }
}

/// Whether a drain that begins now, or has begun, would end the connection sooner than `end`.
fn finish_by_is_news(drain: &DrainSignal, end: Instant) -> bool {
    match drain.phase() {
        refract_resilience::drain::Phase::Closing { finish_by } => finish_by < end,
        _ => true,
    }
}

/// Sleeps for the age of one connection: the configured one, give or take a tenth, so that peers do not come back
/// together.
async fn age(config: &ListenConfig) {
    if config.connection_age_max.is_zero() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(config.connection_age_max.mul_f64(rand::random_range(0.9..1.1))).await;
}

/// The calls of one connection.
#[derive(Clone, Debug)]
struct Calls {
    count: watch::Sender<usize>,
    stats: ServerStats,
}

impl Calls {
    fn new(stats: ServerStats) -> Self {
        Self {
            count: watch::Sender::new(0),
            stats,
        }
    }

    fn begin(&self) -> Call {
        self.count.send_modify(|count| *count += 1);
        Call {
            count: self.count.clone(),
            _counted: Counted::new(self.stats.clone(), |counts| &counts.calls),
        }
    }

    fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until there have been no calls for `span`.
    async fn none_for(&self, span: Duration) {
        let mut count = self.count.subscribe();
        loop {
            if count.wait_for(|count| *count == 0).await.is_err() {
                return;
            }
            if tokio::time::timeout(span, count.wait_for(|count| *count > 0))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// One call in progress.
struct Call {
    count: watch::Sender<usize>,
    _counted: Counted,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count -= 1);
    }
}

/// One more in a gauge, for as long as it lives.
struct Counted {
    stats: ServerStats,
    gauge: fn(&Counts) -> &AtomicUsize,
}

impl Counted {
    fn new(stats: ServerStats, gauge: fn(&Counts) -> &AtomicUsize) -> Self {
        gauge(&stats.0).fetch_add(1, Ordering::Relaxed);
        Self { stats, gauge }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.gauge)(&self.stats.0).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt as _;
    use refract_resilience::drain;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The client's end of a line to a server that answers every call with `answer`, once it is ready.
    fn served<F>(config: ListenConfig, line: DuplexStream, answer: fn() -> F) -> drain::Drain
    where
        F: Future<Output = Body> + Send + 'static,
    {
        let (drain, signal) = drain::pair(drain::Config::brisk());
        let service =
            tower::service_fn(move |_| async move { Ok::<_, Infallible>(Response::new(answer().await)) });
        let (http, config, stats) = (builder(&config), Arc::new(config), ServerStats::default());
        tokio::spawn(converse(line, None, http, service, config, stats, signal));
        drain
    }

    async fn ask(line: DuplexStream) -> Result<Bytes, hyper::Error> {
        let exec = TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(exec, TokioIo::new(line)).await?;
        tokio::spawn(connection);
        let request = Request::post("http://a/").body(Body::empty()).expect("a request");
        let answer = sender.send_request(request).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_go_on_for_hours_after_its_connection_was_asked_to_go() {
        let (here, there) = tokio::io::duplex(64 << 10);
        let _drain = served(ListenConfig::default(), here, || async {
            tokio::time::sleep(HOUR * 5).await;
            Body::new(http_body_util::Full::new(Bytes::from_static(b"at last")))
        });
        assert_eq!(ask(there).await.expect("an answer"), "at last");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_arrives_whole_behind_a_slow_line_when_the_connection_is_asked_to_go() {
        const BYTES: usize = 256 << 10;
        let config = ListenConfig {
            connection_age_max: Duration::from_millis(100),
            ..ListenConfig::default()
        };
        let (here, line) = tokio::io::duplex(4 << 10);
        let (other_end, there) = tokio::io::duplex(64 << 10);
        let _drain = served(config, here, || async {
            Body::new(http_body_util::Full::new(Bytes::from(vec![7; BYTES])))
        });
        let (mut from_server, mut to_server) = tokio::io::split(line);
        let (mut from_client, mut to_client) = tokio::io::split(other_end);
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        tokio::spawn(async move {
            let mut part = [0; 1 << 10];
            loop {
                let read = from_server.read(&mut part).await?;
                if read == 0 {
                    return to_client.shutdown().await;
                }
                to_client.write_all(&part[..read]).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert_eq!(ask(there).await.expect("an answer").len(), BYTES);
    }
}
