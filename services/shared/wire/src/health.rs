//! `grpc.health.v1`: what a probe and a balancer are told.
//!
//! ```text
//!  live    the event loop turns                         SERVING from the start
//!  ready   warm, and not draining                       set by the owner
//!  ""      the whole server: as ready
//!  refract.…Service                                     as ready
//! ```

use refract_domain::Error;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

pub const LIVE: &str = "live";
pub const READY: &str = "ready";

/// Says whether the server is ready. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    reporter: HealthReporter,
    names: Vec<String>,
}

impl Reporter {
    /// Becomes visible to `Check` and `Watch` at once.
    pub async fn set_ready(&self, ready: bool) {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

/// The health service of a server with these gRPC services: alive, and not ready until the reporter says so. (The
/// library's own start is SERVING, before any model is loaded.)
pub async fn service(services: &[&str]) -> (Reporter, HealthServer<impl Health>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let names = ["", READY]
        .into_iter()
        .chain(services.iter().copied())
        .map(str::to_owned)
        .collect();
    let reporter = Reporter { reporter, names };
    reporter.set_ready(false).await;
    reporter
        .reporter
        .set_service_status(LIVE, ServingStatus::Serving)
        .await;
    (reporter, service)
}

/// Whether a server says that it is ready.
pub async fn is_ready(
    transport: crate::Transport,
    context: &refract_domain::Context,
    config: &crate::client::Config,
) -> Result<bool, Error> {
    use tonic_health::pb::health_check_response::ServingStatus;
    let message = tonic_health::pb::HealthCheckRequest {
        service: READY.to_owned(),
    };
    let (call, request) = config.request(message, context)?;
    let mut client = tonic_health::pb::health_client::HealthClient::new(transport);
    let response = call.answer(client.check(request)).await?;
    Ok(response.status() == ServingStatus::Serving)
}
