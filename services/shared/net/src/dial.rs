//! The client's side: one channel to one logical server, however many endpoints it has.
//!
//! Of the endpoints that are ready, two are drawn and the less busy one gets the call; an endpoint that is not ready is
//! never drawn, nor one that fails or is much slower than the others (`eject`). When all are known to be unreachable a
//! call fails at once; while one is being connected it waits a bounded moment.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{HeaderValue, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body::Body as _;
use refract_resilience::deadline::now;
use refract_resilience::within;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body as RequestBody;
use tracing::warn;

use crate::body::Body;
use crate::config::DialConfig;
use crate::eject::{Judge, able};
use crate::endpoint::{CallGuard, Endpoint, EndpointState, EndpointStatus, Kept, Sender};
use crate::error::{Error, Unbegun};
use crate::resend::Original;
use crate::resolve::Target;

/// Calls a logical server. Cheap to clone; clones share connections, which close with the last of them.
#[derive(Clone, Debug)]
pub struct Channel {
    inner: Arc<Inner>,
    _keeper: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Inner {
    target: Target,
    authority: Authority,
    config: Arc<DialConfig>,
    set: Mutex<Set>,
    /// Who tells from an answer whether the replica is at fault; without one only broken connections and silence count.
    judge: OnceLock<Judge>,
    /// A version that grows with each change of any endpoint.
    changed: watch::Sender<u64>,
}

/// The endpoints as last looked up. `usize` tells several connections to one address apart.
#[derive(Debug, Default)]
struct Set {
    kept: BTreeMap<(SocketAddr, usize), Kept>,
    resolved: bool,
    resolve_error: String,
}

/// Opens a channel and connects in the background. Needs a tokio runtime around it; fails only by its calls.
pub fn dial(target: &Target, config: DialConfig) -> Channel {
    let authority = target.authority();
    let inner = Arc::new(Inner {
        target: target.clone(),
        authority: Authority::from_maybe_shared(authority)
            .expect("parsed targets are authorities, this is a bug"),
        config: Arc::new(config),
        set: Mutex::default(),
        judge: OnceLock::new(),
        changed: watch::Sender::new(0),
    });
    let keeper = tokio::spawn(keep_resolved(Arc::clone(&inner)));
    Channel {
        inner,
        _keeper: Arc::new(AbortOnDropHandle::new(keeper)),
    }
}

impl Channel {
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// Lets answers speak for and against the endpoints that gave them. The first judge stays.
    pub fn judged_by(self, judge: Judge) -> Self {
        let _first = self.inner.judge.set(judge);
        self
    }

    /// Whether a call would be sent now.
    pub fn is_ready(&self) -> bool {
        self.endpoints()
            .iter()
            .any(|endpoint| endpoint.status == EndpointStatus::Ready)
    }

    /// Waits until a call would be sent. Without an end: bound it where you call it.
    pub async fn ready(&self) {
        let mut changed = self.inner.changed.subscribe();
        while !self.is_ready() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// All endpoints, by address.
    pub fn endpoints(&self) -> Vec<EndpointState> {
        self.inner
            .set()
            .kept
            .values()
            .map(|kept| kept.endpoint.state())
            .collect()
    }
}

impl tower::Service<Request<RequestBody>> for Channel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    /// Always: whether there is a connection is found out by the call, whose deadline bounds it.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.call(request).await })
    }
}

impl Inner {
    /// Connections that may turn out to be going before a call gives up; none of them has begun it.
    const UNBEGUN_MAX: usize = 4;

    async fn call(&self, request: Request<RequestBody>) -> Result<Response<Body>, Error> {
        let (head, body) = self.address(request)?.into_parts();
        let body = Original::new(body, self.config.resend_bytes_max);
        let patience = now() + self.config.ready_wait_max;
        let mut is_refused = false;
        for _ in 0..Self::UNBEGUN_MAX {
            let Some(sending) = body.again() else {
                return Err(
                    self.not_ready("the server is going, and the request is longer than resend_bytes_max")
                );
            };
            let Picked {
                endpoint,
                mut sender,
                number,
                mut guard,
            } = self.pick(patience).await?;
            let request = Request::from_parts(head.clone(), sending);
            let mut failed = match sender.try_send_request(request).await {
                Ok(response) => {
                    body.forget();
                    let address = endpoint.address;
                    guard.read(response.headers());
                    if response.body().is_end_stream() {
                        guard.finished();
                    }
                    return Ok(response.map(|body| Body::new(body, address, guard)));
                }
                Err(failed) => failed,
            };
            // Handed back, or not read: that is a call that waited for its stream when the connection went.
            let unbegun = if failed.take_message().is_some() || body.is_unsaid() {
                Some(Unbegun::Going)
            } else {
                Unbegun::of(failed.error())
            };
            match unbegun {
                Some(Unbegun::Going) => {
                    guard.unsent();
                    endpoint.report_lost(number);
                }
                // Once more, for another one may have room: who asks a full server again and again makes it fuller.
                Some(Unbegun::Refused) if !is_refused => {
                    guard.unsent();
                    is_refused = true;
                }
                Some(Unbegun::Refused) => {
                    guard.unsent();
                    return Err(self.not_ready("the server refuses calls (REFUSED_STREAM)"));
                }
                None => {
                    guard.broke();
                    return Err(Error::of_call(endpoint.address, failed.into_error()));
                }
            }
        }
        Err(self.not_ready("connections end as soon as they are made"))
    }

    fn not_ready(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::not_ready(&self.target.to_string(), cause)
    }

    /// HTTP/2 wants scheme and authority; gRPC clients give a path.
    fn address(&self, request: Request<RequestBody>) -> Result<Request<RequestBody>, Error> {
        let (mut head, body) = request.into_parts();
        let mut uri = head.uri.into_parts();
        let is_secure = self.config.tls.is_some();
        uri.scheme = Some(if is_secure { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Some(self.authority.clone());
        head.uri = Uri::from_parts(uri).map_err(|error| self.not_ready(error))?;
        head.headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "refract/",
                env!("CARGO_PKG_VERSION")
            )));
        Ok(Request::from_parts(head, body))
    }

    /// A ready connection with room, waiting for one until `patience` while one may be coming.
    async fn pick(&self, patience: Instant) -> Result<Picked, Error> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            match self.try_pick() {
                Ok(picked) => return Ok(picked),
                Err(Unpicked::Never(reason)) => {
                    return Err(self.not_ready(reason));
                }
                Err(Unpicked::NotYet(reason)) => {
                    if !matches!(within(patience, changed.changed()).await, Ok(Ok(()))) {
                        return Err(self.not_ready(reason));
                    }
                }
            }
        }
    }

    fn try_pick(&self) -> Result<Picked, Unpicked> {
        let (ready, connecting, errors) = {
            let set = self.set();
            if set.kept.is_empty() {
                return Err(if set.resolved {
                    Unpicked::Never(format!("no endpoints: {}", set.resolve_error))
                } else {
                    Unpicked::NotYet("not looked up yet".to_owned())
                });
            }
            let endpoints = || set.kept.values().map(|kept| &kept.endpoint);
            let having = |status| endpoints().filter(move |e| e.status() == status);
            let ready: Vec<_> = having(EndpointStatus::Ready).cloned().collect();
            let connecting = having(EndpointStatus::Connecting).count();
            let errors = match endpoints().find(|endpoint| !endpoint.last_error().is_empty()) {
                Some(first) if ready.is_empty() => format!("{}: {}", first.address, first.last_error()),
                _ => String::new(),
            };
            (ready, connecting, errors)
        };
        if ready.is_empty() {
            return Err(match connecting {
                0 => Unpicked::Never(errors),
                _ => Unpicked::NotYet("still connecting".to_owned()),
            });
        }
        let ready = able(
            &ready,
            |endpoint| &endpoint.record,
            |endpoint| endpoint.address.to_string(),
            &self.config.eject,
            now(),
        );
        let drawn = less_busy_of_two(&ready);
        // When even the drawn one is full, look at all before refusing.
        let chosen = if drawn.calls() < self.config.calls_per_connection_max {
            drawn
        } else {
            ready
                .iter()
                .copied()
                .min_by_key(|endpoint| endpoint.calls())
                .unwrap_or(drawn)
        };
        if chosen.calls() >= self.config.calls_per_connection_max {
            return Err(Unpicked::Never(
                "every connection is full (calls_per_connection_max)".to_owned(),
            ));
        }
        match chosen.begin(self.judge.get().copied()) {
            Some((sender, number, guard)) => Ok(Picked {
                endpoint: Arc::clone(chosen),
                sender,
                number,
                guard,
            }),
            None => Err(Unpicked::NotYet("connection just lost".to_owned())),
        }
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Picked {
    endpoint: Arc<Endpoint>,
    sender: Sender,
    number: u64,
    guard: CallGuard,
}

/// Why nothing was picked: because nothing is there, or not yet.
enum Unpicked {
    Never(String),
    NotYet(String),
}

fn less_busy_of_two<'a>(ready: &[&'a Arc<Endpoint>]) -> &'a Arc<Endpoint> {
    if ready.len() == 1 {
        return ready[0];
    }
    let first = rand::random_range(0..ready.len());
    let second = (first + rand::random_range(1..ready.len())) % ready.len();
    if ready[second].calls() < ready[first].calls() {
        ready[second]
    } else {
        ready[first]
    }
}

/// Whom a secured server must prove to be. An authority writes an IPv6 address in brackets, a certificate does not.
fn host(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// Looks the target up, again and again if it may change, and keeps a connection to each endpoint. What was found last
/// stays when a later look-up fails or finds nothing.
async fn keep_resolved(inner: Arc<Inner>) {
    /// A lost connection asks for a look-up at once, but not more often than this.
    const RESOLVE_PAUSE: Duration = Duration::from_millis(250);

    let lost = Arc::new(Notify::new());
    loop {
        let found = within(now() + inner.config.resolve_every, inner.target.resolve()).await;
        {
            let mut set = inner.set();
            match found {
                Ok(Ok(addresses)) if !addresses.is_empty() => {
                    let config = &inner.config;
                    if addresses.len() > config.endpoints_max {
                        warn!(target = %inner.target, found = addresses.len(), "more endpoints than endpoints_max");
                    }
                    let wanted: Vec<_> = addresses
                        .into_iter()
                        .take(config.endpoints_max)
                        .flat_map(|address| (0..config.connections_per_endpoint).map(move |n| (address, n)))
                        .collect();
                    set.kept.retain(|key, _| wanted.contains(key));
                    for key in wanted {
                        set.kept.entry(key).or_insert_with(|| {
                            Kept::start(
                                key.0,
                                host(&inner.authority).to_owned(),
                                Arc::clone(config),
                                inner.changed.clone(),
                                Arc::clone(&lost),
                            )
                        });
                    }
                }
                Ok(Ok(_)) => "the name has no addresses".clone_into(&mut set.resolve_error),
                Ok(Err(error)) => set.resolve_error = error.to_string(),
                Err(_) => "the look-up took too long".clone_into(&mut set.resolve_error),
            }
            set.resolved = true;
        }
        inner.changed.send_modify(|version| *version += 1);
        if !inner.target.changes() {
            std::future::pending::<()>().await;
        }
        tokio::select! {
            () = tokio::time::sleep(inner.config.resolve_every) => {}
            () = lost.notified() => tokio::time::sleep(RESOLVE_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn whatever_can_be_a_target_can_be_asked_for_its_certificate() {
        for (target, name) in [
            ("[::1]:8101", "::1"),
            ("127.0.0.1:8101", "127.0.0.1"),
            ("oracle.test:8101", "oracle.test"),
        ] {
            let target: Target = target.parse().expect("a target");
            let authority: Authority = target.authority().parse().expect("an authority");
            assert_eq!(host(&authority), name);
            ServerName::try_from(host(&authority)).expect(name);
        }
    }
}
