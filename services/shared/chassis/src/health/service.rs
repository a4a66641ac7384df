//! `grpc.health.v1`, as its protocol wants it: an unknown name is NOT_FOUND to `Check`, and SERVICE_UNKNOWN on a `Watch`
//! that stays open; each `Watch` hears NOT_SERVING on drain and ends when closing begins, so that it never delays it.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health as Protocol, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::{Health, State};

/// The gRPC service, ready to be added to routes.
pub type Service = HealthServer<Answers>;

/// Answers from the shared state.
#[derive(Clone, Debug)]
pub struct Answers(Health);

pub(super) fn make(health: Health) -> Service {
    HealthServer::new(Answers(health))
}

/// One `Watch` and what it told last.
struct Watching {
    health: Health,
    name: String,
    state: watch::Receiver<State>,
    told: Option<ServingStatus>,
}

#[tonic::async_trait]
impl Protocol for Answers {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.0.serving(&request.get_ref().service) {
            Some(serving) => Ok(Response::new(answer(status(Some(serving))))),
            None => Err(Status::not_found("unknown service")),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watching = Watching {
            health: self.0.clone(),
            name: request.into_inner().service,
            state: self.0.state.subscribe(),
            told: None,
        };
        Ok(Response::new(Box::pin(stream::unfold(watching, next))))
    }
}

/// The next change of status, or the end.
async fn next(mut watching: Watching) -> Option<(Result<HealthCheckResponse, Status>, Watching)> {
    loop {
        let now = status(watching.health.serving(&watching.name));
        if watching.told != Some(now) {
            watching.told = Some(now);
            return Some((Ok(answer(now)), watching));
        }
        let drain = &watching.health.drain;
        tokio::select! {
            biased;
            _ = drain.closing() => return None,
            () = drain.leaving(), if drain.is_serving() => {}
            // The sender lives in `health`, so there is always a next change to wait for.
            changed = watching.state.changed() => changed.ok()?,
        }
    }
}

fn status(serving: Option<bool>) -> ServingStatus {
    match serving {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
