//! The admin port: plaintext, for probes, scrapers and people; never for users.
//!
//! | path | answers |
//! |---|---|
//! | `/livez`, `/readyz` | 200, or 503 with the reason |
//! | `/metrics` | Prometheus text; OpenMetrics with exemplars where `Accept` names it |
//! | `/configz` | the configuration in force, credentials masked |
//! | `grpc.health.v1.Health` | the same as HTTP, for kubelet's gRPC probes (HTTP/2 without TLS) |

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use refract_resilience::limits::{Unfit, ensure};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::health::Health;
use crate::telemetry;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 takes any free one. Default 127.0.0.1:0.
    pub address: String,
    /// Connections at once. Default 64.
    pub connections_max: usize,
    /// A connection must have asked for something within this, or it is closed: those who ask nothing, or let the port
    /// guess for ever which HTTP they speak, would take the places of probes. Default 5s.
    #[serde(with = "humantime_serde")]
    pub first_request_max: Duration,
    /// The longest a connection may last. Default 5m.
    #[serde(with = "humantime_serde")]
    pub connection_age_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:0".to_owned(),
            connections_max: 64,
            first_request_max: Duration::from_secs(5),
            connection_age_max: Duration::from_secs(300),
        }
    }
}

impl Config {
    pub fn check(&self) -> Result<(), Unfit> {
        ensure(
            self.address.contains(':'),
            "address",
            "must be host:port, such as 0.0.0.0:9101",
        )?;
        ensure(self.connections_max >= 1, "connections_max", "must be at least 1")?;
        ensure(
            !self.first_request_max.is_zero(),
            "first_request_max",
            "must be longer than zero",
        )?;
        ensure(
            !self.connection_age_max.is_zero(),
            "connection_age_max",
            "must be longer than zero",
        )
    }
}

/// A bound admin port, before anything is served on it.
#[derive(Debug)]
pub struct Admin {
    tcp: TcpListener,
    address: SocketAddr,
    config: Config,
    routes: Router,
}

#[derive(Clone)]
struct Shown {
    health: Health,
    /// Rendered once: what is in force does not change.
    config: Arc<str>,
}

impl Admin {
    /// `config_in_force` is what `/configz` shows; see [`crate::config::render`].
    pub async fn bind(config: Config, health: Health, config_in_force: &str) -> io::Result<Self> {
        let tcp = TcpListener::bind(&config.address).await?;
        let address = tcp.local_addr()?;
        let grpc = health.service();
        let routes = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/configz", get(configz))
            .with_state(Shown {
                health,
                config: config_in_force.into(),
            })
            .route_service("/grpc.health.v1.Health/{*method}", grpc);
        Ok(Self {
            tcp,
            address,
            config,
            routes,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped: probes want answers to the very end.
    pub async fn serve(self) {
        let Self {
            tcp, config, routes, ..
        } = self;
        let places = Arc::new(Semaphore::new(config.connections_max));
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(5));
        http.http2().timer(TokioTimer::new()).max_concurrent_streams(32);
        let http = Arc::new(http);
        let mut connections = JoinSet::new();
        let mut upkeep = tokio::time::interval(Duration::from_secs(5));
        loop {
            let accepted = async {
                let place = Arc::clone(&places)
                    .acquire_owned()
                    .await
                    .expect("never closed, this is a bug");
                (tcp.accept().await, place)
            };
            let (stream, place) = tokio::select! {
                (accepted, place) = accepted => match accepted {
                    Ok((stream, _)) => (stream, place),
                    Err(error) => {
                        warn!(%error, "admin port cannot accept, trying again");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                Some(_) = connections.join_next() => continue,
                _ = upkeep.tick() => {
                    telemetry::metrics_upkeep();
                    continue;
                }
            };
            let (http, service) = (Arc::clone(&http), TowerToHyperService::new(routes.clone()));
            let (first_request_max, age_max) = (config.first_request_max, config.connection_age_max);
            connections.spawn(async move {
                let asked = Notify::new();
                let service = service_fn(|request| {
                    asked.notify_one();
                    service.call(request)
                });
                let life = http.serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    ended = tokio::time::timeout(age_max, life) => if let Ok(Err(error)) = ended {
                        debug!(error, "admin connection failed");
                    },
                    () = no_request(&asked, first_request_max) => debug!("admin connection asked nothing"),
                }
                drop(place);
            });
        }
    }
}

/// Ready when nothing was asked in time; never, if something was.
async fn no_request(asked: &Notify, max: Duration) {
    if tokio::time::timeout(max, asked.notified()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

async fn livez(State(shown): State<Shown>) -> impl IntoResponse {
    if shown.health.is_live() {
        (StatusCode::OK, "live\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "dead\n")
    }
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    match shown.health.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(headers: HeaderMap) -> impl IntoResponse {
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let (kind, text) = if accepts.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            telemetry::render_open_metrics(),
        )
    } else {
        (
            "text/plain; version=0.0.4; charset=utf-8",
            telemetry::render_metrics(),
        )
    };
    ([(header::CONTENT_TYPE, kind)], text)
}

async fn configz(State(shown): State<Shown>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        shown.config.to_string(),
    )
}
