//! A server that answers, holds or counts calls, and a client that knows only paths.

#![allow(dead_code, reason = "each test file uses its part")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use refract_net::{Channel, DialConfig, Error, ListenConfig, Listener, ServerStats, Target, dial};
use refract_resilience::drain::{self, Drain};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tower::{Service, ServiceExt};

/// Longer than anything here takes; only a hang gets that far.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// `/quick` is answered at once, `/held` when the gate lets it through, `/read` when all of its message has come.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) calls: Arc<AtomicUsize>,
    /// Answers say that the server is at fault, to a judge that reads `x-fault`.
    pub(crate) is_faulty: Arc<AtomicBool>,
    pub(crate) gate: Arc<Semaphore>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) desk: Desk,
    pub(crate) drain: Drain,
    pub(crate) stats: ServerStats,
    pub(crate) life: JoinHandle<()>,
}

impl Desk {
    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if request.uri().path() == "/held" {
            self.gate.acquire().await.expect("open").forget();
        }
        if request.uri().path() == "/read" {
            let _read = request.into_body().collect().await;
        }
        let fault = if self.is_faulty.load(Ordering::SeqCst) {
            "1"
        } else {
            "0"
        };
        let response = Response::builder().header("x-fault", fault);
        Ok(response.body(Body::empty()).expect("a sound response"))
    }
}

pub(crate) async fn serve(config: ListenConfig, leaving: drain::Config) -> Server {
    let listener = Listener::bind(config).await.unwrap();
    let (address, stats) = (listener.local_addr(), listener.stats());
    let (drain, signal) = drain::pair(leaving);
    let desk = Desk {
        calls: Arc::default(),
        is_faulty: Arc::default(),
        gate: Arc::new(Semaphore::new(0)),
    };
    let service = {
        let desk = desk.clone();
        tower::service_fn(move |request| desk.clone().answer(request))
    };
    let life = tokio::spawn(listener.serve(service, signal));
    Server {
        address,
        desk,
        drain,
        stats,
        life,
    }
}

pub(crate) async fn plain() -> Server {
    serve(ListenConfig::default(), drain::Config::brisk()).await
}

impl Server {
    /// Ends at once, as a killed process does.
    pub(crate) async fn kill(self) {
        self.life.abort();
        let _aborted = self.life.await;
    }

    pub(crate) async fn until_calls(&self, calls: usize) {
        until(|| self.desk.calls.load(Ordering::SeqCst) >= calls).await;
    }
}

pub(crate) fn channel(target: &str) -> Channel {
    let target: Target = target.parse().unwrap();
    dial(&target, DialConfig::default())
}

pub(crate) async fn call(channel: &Channel, path: &str) -> Result<(), Error> {
    send(channel, path, Body::empty()).await
}

/// The same with a message.
pub(crate) async fn send(channel: &Channel, path: &str, message: Body) -> Result<(), Error> {
    let request = Request::post(path).body(message).unwrap();
    let response = channel.clone().ready_oneshot_call(request).await?;
    assert_eq!(response.status(), 200);
    let mut body = std::pin::pin!(response.into_body());
    while let Some(frame) = std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx)).await {
        frame?;
    }
    Ok(())
}

/// A message without an end, and how much of it was taken.
#[derive(Debug, Default)]
pub(crate) struct Endless {
    pub(crate) given: Arc<AtomicUsize>,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let part = Bytes::from_static(&[0; 16 << 10]);
        self.given.fetch_add(part.len(), Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }
}

trait Call {
    async fn ready_oneshot_call(self, request: Request<Body>) -> Result<Response<refract_net::Body>, Error>;
}

impl Call for Channel {
    async fn ready_oneshot_call(
        mut self,
        request: Request<Body>,
    ) -> Result<Response<refract_net::Body>, Error> {
        ServiceExt::<Request<Body>>::ready(&mut self)
            .await?
            .call(request)
            .await
    }
}

/// Waits until `holds`, looking often.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .expect("it never came to be");
}

pub(crate) async fn in_time<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("it hangs")
}
