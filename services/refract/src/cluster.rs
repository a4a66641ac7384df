//! Three services, one process: what `demo` and `serve all` run. They speak real gRPC over loopback all the same.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use refract_chassis::Running;
use refract_ranker::config::Peer;
use refract_wire::trace::{Propagator, SharedPropagator, TraceContext, serving};
use serde::{Deserialize, Serialize};
use tracing::Span;

/// Everything that `refract serve` can be told: a section for each role, one for telemetry.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) ranker: refract_ranker::Config,
    pub(crate) oracle: refract_oracle::Config,
    pub(crate) prism: refract_prism::Config,
    pub(crate) telemetry: refract_chassis::telemetry::Config,
}

/// Running services; dropping them stops them at once.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) ranker: Running,
    pub(crate) oracle: Running,
    pub(crate) prism: Running,
}

impl Cluster {
    /// Starts Oracle and Prism, joins the ranker to them unless its configuration names others, and waits until all are
    /// warm.
    pub(crate) async fn start(config: Config) -> Result<Self> {
        let propagator = propagator();
        let in_force = refract_chassis::config::render(&config)?;
        let (oracle, prism) = tokio::try_join!(
            refract_oracle::start(config.oracle, propagator.clone(), in_force.clone()),
            refract_prism::start(config.prism, propagator.clone(), in_force.clone()),
        )?;
        let mut ranker = config.ranker;
        ranker.oracle = Some(ranker.oracle.map_or_else(|| peer(oracle.address()), Ok)?);
        ranker.prism = Some(ranker.prism.map_or_else(|| peer(prism.address()), Ok)?);
        let ranker = Box::pin(refract_ranker::start(ranker, propagator, in_force)).await?;
        tokio::try_join!(oracle.ready(), prism.ready(), ranker.ready())?;
        Ok(Self {
            ranker,
            oracle,
            prism,
        })
    }

    pub(crate) fn into_running(self) -> Vec<Running> {
        vec![self.ranker, self.prism, self.oracle]
    }
}

fn peer(address: SocketAddr) -> Result<Peer> {
    Ok(Peer::at(
        address
            .to_string()
            .parse()
            .context("a bound address is a target; else this is a bug")?,
    ))
}

/// Joins the services' spans into one trace per request, over W3C headers.
pub(crate) fn propagator() -> SharedPropagator {
    SharedPropagator(Arc::new(OneTrace))
}

struct OneTrace;

impl Propagator for OneTrace {
    fn current(&self) -> TraceContext {
        let mut trace = TraceContext::default();
        refract_chassis::telemetry::inject(&Span::current(), &mut |name, value| match name {
            "traceparent" => trace.traceparent = Some(value.to_owned()),
            "tracestate" => trace.tracestate = Some(value.to_owned()),
            _ => {}
        });
        trace
    }

    fn serve(&self, method: &'static str, caller: &TraceContext) -> Span {
        let span = serving(method);
        refract_chassis::telemetry::adopt(&span, &|name| match name {
            "traceparent" => caller.traceparent.clone(),
            "tracestate" => caller.tracestate.clone(),
            _ => None,
        });
        span
    }
}
