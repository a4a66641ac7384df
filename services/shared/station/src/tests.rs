//! What a station promises whatever its service: the end is waited for, the admin port tells its configuration.

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

#[derive(Clone)]
struct Nothing;

impl NamedService for Nothing {
    // Reflection knows what is in the protos, and nothing else.
    const NAME: &'static str = reflection::RECOMMEND_SERVICE;
}

impl Service<Request<Body>> for Nothing {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Body::empty())))
    }
}

#[tokio::test]
async fn what_comes_last_is_waited_for_when_the_port_has_closed() {
    let done = Arc::new(AtomicBool::new(false));
    let process = process::Config {
        drain: refract_resilience::drain::Config::brisk(),
        ..process::Config::default()
    };
    let (listen, callers) = (ListenConfig::default(), callers::Config::default());
    let station = Station::new("test", Nothing::NAME, listen, callers, process);
    let last = {
        let done = Arc::clone(&done);
        async move {
            tokio::task::yield_now().await;
            done.store(true, Ordering::SeqCst);
        }
    };
    let running = station.start_then(Nothing, async { Ok(()) }, last).await.unwrap();
    running.ready().await.unwrap();
    assert!(!done.load(Ordering::SeqCst), "it is still serving");
    running.drain().await;
    running.wait().await.unwrap();
    assert!(done.load(Ordering::SeqCst));
}

#[tokio::test]
async fn its_admin_port_shows_the_configuration_that_it_was_given() {
    let (listen, callers) = (ListenConfig::default(), callers::Config::default());
    let station = Station::new("test", Nothing::NAME, listen, callers, process::Config::default());
    let running = station
        .showing_config("[oracle]\ncall_cap = \"7s\"\n".to_owned())
        .start(Nothing, async { Ok(()) })
        .await
        .expect("a station");
    let mut admin = tokio::net::TcpStream::connect(running.admin_address())
        .await
        .expect("a port");
    admin
        .write_all(b"GET /configz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
        .await
        .expect("asked");
    let mut shown = String::new();
    admin.read_to_string(&mut shown).await.expect("answered");
    assert!(shown.ends_with("call_cap = \"7s\"\n"), "{shown}");
}
