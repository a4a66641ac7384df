//! A service at its post: its gRPC service beside health and reflection on one port, ready when warm, leaving in order.
//!
//! The ranker, the Oracle and the Prism start here, so that what every data port has (probes, reflection, strict HTTP/2
//! conduct, drain) is the same for all and stands in one place. `wire` makes the service, `net` listens, `chassis` lives.

pub mod callers;
#[cfg(feature = "models")]
pub mod models;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use refract_chassis::{Health, Process, Running, process};
use refract_net::ListenConfig;
use refract_wire::callers::{Callers, CallersLayer};
use refract_wire::conform::ConformLayer;
use refract_wire::reflection;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::{Layer as _, Service};

/// A role's place: its name, the full name of its gRPC service, and the ports and limits of its process.
#[derive(Debug)]
pub struct Station {
    service: &'static str,
    listen: ListenConfig,
    callers: callers::Config,
    process: Process,
    conduct: ConformLayer,
}

impl Station {
    /// `name` is the role (`oracle`), `service` what health answers for and reflection shows besides itself.
    pub fn new(
        name: &'static str,
        service: &'static str,
        listen: ListenConfig,
        callers: callers::Config,
        process: process::Config,
    ) -> Self {
        Self {
            service,
            listen,
            callers,
            process: Process::new(name, &[service], process),
            conduct: ConformLayer::default(),
        }
    }

    /// The longest deadline that the service grants to a call: its message must have come by then.
    #[must_use]
    pub fn granting(mut self, deadline_cap: Duration) -> Self {
        self.conduct = ConformLayer::granting(deadline_cap);
        self
    }

    /// What `/configz` shows: the output of [`refract_chassis::config::render`], which masks credentials.
    #[must_use]
    pub fn showing_config(mut self, rendered: String) -> Self {
        self.process = self.process.showing_config(rendered);
        self
    }

    /// Said by whoever learns that the process should not be called any more.
    pub fn health(&self) -> &Health {
        self.process.health()
    }

    /// Binds both ports, answers `NOT_SERVING` while `warm_up` runs, and serves until drained.
    pub async fn start<S, W>(self, service: S, warm_up: W) -> anyhow::Result<Running>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        W: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.start_then(service, warm_up, async {}).await
    }

    /// As [`Station::start`]; when the last call is over `last` runs, bounded by itself, and is waited for.
    pub async fn start_then<S, W, L>(self, service: S, warm_up: W, last: L) -> anyhow::Result<Running>
    where
        L: Future<Output = ()> + Send + 'static,
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        W: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (v1, v1alpha) = reflection::services(&[self.service, reflection::HEALTH_SERVICE]);
        let routes = Routes::new(service)
            .add_service(self.process.health().service())
            .add_service(v1)
            .add_service(v1alpha);
        let known = callers::open(self.process.name(), &self.callers)?;
        let known = known.map(|known| CallersLayer(known as Arc<dyn Callers>));
        let conduct = self
            .conduct
            .layer(tower::util::option_layer(known).layer(routes.prepare()));
        let (address, server) = refract_net::serve(self.listen, conduct, self.process.signal()).await?;
        let life = async move {
            server.await;
            last.await;
        };
        self.process.start(address, life, warm_up).await
    }
}

#[cfg(test)]
mod tests;
