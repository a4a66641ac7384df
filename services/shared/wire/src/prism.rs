//! The joint between the ranker and a Prism: `Client` is an `Explainer`, `Server` serves any.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use refract_domain::{
    Context, Error, ExplainQuery, Explainer, Explanation, ExplanationEvent, ExplanationStream, TenantId,
};
use tonic::{Request, Response, Status};

use crate::client::checked;
use crate::convert::{explanation, history, knowledge, pair};
use crate::info::ServerInfo;
use crate::limits::Rules;
use crate::path::Path;
use crate::proto::prism::v1 as proto;
use crate::proto::prism::v1::prism_service_client::PrismServiceClient;
use crate::proto::prism::v1::prism_service_server::{PrismService, PrismServiceServer};
use crate::proto::prism::v1::stream_explain_response::Event;
use crate::transport::Transport;
use crate::{client, encoded, server};

const PEER: &str = "prism";

/// A Prism somewhere else.
#[derive(Clone, Debug)]
pub struct Client {
    service: PrismServiceClient<Transport>,
    config: client::Config,
}

impl Client {
    pub fn new(transport: Transport, config: client::Config) -> Self {
        let limits = &config.rules.limits;
        let service = PrismServiceClient::new(transport)
            .max_encoding_message_size(limits.hop_request_bytes_max)
            .max_decoding_message_size(limits.response_bytes_max);
        Self { service, config }
    }

    /// The whole explanation at once.
    pub async fn explain_whole(&self, query: &ExplainQuery, context: &Context) -> Result<Explanation, Error> {
        let message = proto::ExplainRequest {
            task: Some(task_to_proto(query, self.config.history(&query.history))),
        };
        let (call, request) = self.config.request("Explain", message, context)?;
        let mut service = self.service.clone();
        let response = call.answer(service.explain(request)).await?;
        checked(
            PEER,
            explanation_from_proto(response.explanation, &self.config.rules),
        )
    }

    pub async fn server_info(&self, context: &Context) -> Result<ServerInfo, Error> {
        let (call, request) =
            self.config
                .request("GetServerInfo", proto::GetServerInfoRequest {}, context)?;
        let mut service = self.service.clone();
        let response = call.answer(service.get_server_info(request)).await?;
        Ok(ServerInfo::from_proto(response.info.unwrap_or_default()))
    }
}

#[async_trait]
impl Explainer for Client {
    async fn explain(&self, query: ExplainQuery, context: &Context) -> Result<ExplanationStream, Error> {
        let message = proto::StreamExplainRequest {
            task: Some(task_to_proto(&query, self.config.history(&query.history))),
        };
        let (call, request) = self.config.request("StreamExplain", message, context)?;
        let mut service = self.service.clone();
        let messages = call.answer(service.stream_explain(request)).await?;
        Ok(Box::pin(events(
            call.messages(messages),
            self.config.rules.clone(),
        )))
    }
}

/// Holds a peer to the promise of [`ExplanationEvent`]: deltas joined are the text, and `Done` comes once, last.
fn events(
    messages: impl Stream<Item = Result<proto::StreamExplainResponse, Error>> + Send + 'static,
    rules: Rules,
) -> impl Stream<Item = Result<ExplanationEvent, Error>> + Send + 'static {
    struct State<M> {
        messages: Pin<Box<M>>,
        text: String,
        rules: Rules,
    }
    let state = State {
        messages: Box::pin(messages),
        text: String::new(),
        rules,
    };
    futures_util::stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        let root = Path::ROOT;
        let next = match state.messages.next().await {
            Some(Ok(message)) => checked(PEER, event_from_proto(message, &state.text, &state.rules)),
            Some(Err(error)) => Err(error),
            None => checked(PEER, Err(root.field("explanation").invalid("did not come"))),
        };
        match next {
            Ok(ExplanationEvent::Delta(delta)) => {
                state.text.push_str(&delta);
                Some((Ok(ExplanationEvent::Delta(delta)), Some(state)))
            }
            last => Some((last, None)),
        }
    })
}

fn event_from_proto(
    message: proto::StreamExplainResponse,
    so_far: &str,
    rules: &Rules,
) -> Result<ExplanationEvent, Error> {
    let root = Path::ROOT;
    match root.field("event").required(message.event)? {
        Event::Delta(delta) => {
            if so_far.len() + delta.len() > 4 * rules.limits.explanation_chars_max {
                return Err(root.field("delta").invalid("makes the text too long"));
            }
            Ok(ExplanationEvent::Delta(delta))
        }
        Event::Explanation(explanation) => {
            let explanation = explanation_from_proto(Some(explanation), rules)?;
            if explanation.text != so_far {
                return Err(root.field("explanation").invalid("is not the deltas joined"));
            }
            Ok(ExplanationEvent::Done(explanation))
        }
    }
}

/// Serves any explainer as `PrismService`.
#[derive(Debug)]
pub struct Server<E> {
    explainer: Arc<E>,
    info: ServerInfo,
    config: server::Config,
}

impl<E: Explainer + 'static> Server<E> {
    pub fn new(explainer: E, info: ServerInfo, config: server::Config) -> Self {
        Self {
            explainer: Arc::new(explainer),
            info,
            config,
        }
    }

    /// For a router, with the message limits set.
    pub fn into_service(self) -> PrismServiceServer<Self> {
        let limits = self.config.rules.limits.clone();
        PrismServiceServer::new(self)
            .max_decoding_message_size(limits.hop_request_bytes_max)
            .max_encoding_message_size(limits.response_bytes_max)
    }

    async fn begin(
        &self,
        task: Option<proto::ExplainTask>,
        context: &Context,
    ) -> Result<ExplanationStream, Error> {
        let query = task_from_proto(task, context.tenant.clone(), &self.config.rules)?;
        self.explainer.explain(query, context).await
    }
}

#[async_trait]
impl<E: Explainer + 'static> PrismService for Server<E> {
    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let (call, message) = self.config.open("Explain", request)?;
        let context = call.context().clone();
        let work = async {
            let mut events = self.begin(message.task, &context).await?;
            while let Some(event) = events.next().await {
                if let ExplanationEvent::Done(explanation) = event? {
                    let explanation = Some(explanation::to_proto(&explanation, None));
                    return Ok(proto::ExplainResponse { explanation });
                }
            }
            // The explainer broke its promise to end with `Done`.
            Err(Error::Internal)
        };
        call.answer(work).await
    }

    type StreamExplainStream =
        Pin<Box<dyn Stream<Item = Result<proto::StreamExplainResponse, Status>> + Send>>;

    async fn stream_explain(
        &self,
        request: Request<proto::StreamExplainRequest>,
    ) -> Result<Response<Self::StreamExplainStream>, Status> {
        let (call, message) = self.config.open("StreamExplain", request)?;
        let context = call.context().clone();
        let begun = call.clone();
        let work = async {
            let mut events = self.begin(message.task, &context).await?;
            // The head goes out with the first words: alone it would tell nothing and wake the peer for it.
            let first = events.next().await.unwrap_or(Err(Error::Internal))?;
            Ok(futures_util::stream::iter([Ok(first)]).chain(events))
        };
        let response = call.answer(work).await?;
        Ok(response.map(|events| {
            let messages = events.map(|event| event.map(event_to_proto));
            Box::pin(begun.stream(messages)) as Self::StreamExplainStream
        }))
    }

    async fn get_server_info(
        &self,
        request: Request<proto::GetServerInfoRequest>,
    ) -> Result<Response<proto::GetServerInfoResponse>, Status> {
        let (call, _) = self.config.open("GetServerInfo", request)?;
        Ok(call.dress(proto::GetServerInfoResponse {
            info: Some(self.info.to_proto()),
        }))
    }
}

fn event_to_proto(event: ExplanationEvent) -> proto::StreamExplainResponse {
    let event = match event {
        ExplanationEvent::Delta(delta) => Event::Delta(delta),
        ExplanationEvent::Done(explanation) => Event::Explanation(explanation::to_proto(&explanation, None)),
    };
    proto::StreamExplainResponse { event: Some(event) }
}

fn task_to_proto(query: &ExplainQuery, history: encoded::History) -> proto::ExplainTask {
    let parts = pair::to_parts(&query.pair);
    proto::ExplainTask {
        user_id: parts.user_id,
        item: parts.item,
        history: Some(history),
        affinities: parts.affinities,
        knowledge: query.knowledge.as_ref().map(knowledge::to_proto),
        style: query.style,
    }
}

fn task_from_proto(
    task: Option<proto::ExplainTask>,
    tenant: TenantId,
    rules: &Rules,
) -> Result<ExplainQuery, Error> {
    let root = Path::ROOT;
    let path = root.field("task");
    let task = path.required(task)?;
    let parts = pair::PairParts {
        user_id: task.user_id,
        item: task.item,
        affinities: task.affinities,
    };
    let pair = pair::from_parts(parts, tenant, &path, &rules.limits)?;
    let history = history::from_proto(task.history.unwrap_or_default(), &path.field("history"), rules)?;
    let knowledge_path = path.field("knowledge");
    let knowledge = task
        .knowledge
        .map(|k| knowledge::from_proto(k, &knowledge_path, &rules.limits))
        .transpose()?;
    Ok(ExplainQuery {
        pair,
        history: Arc::new(history),
        knowledge,
        style: task.style,
    })
}

fn explanation_from_proto(
    explanation: Option<crate::proto::r#type::v1::Explanation>,
    rules: &Rules,
) -> Result<Explanation, Error> {
    let root = Path::ROOT;
    let path = root.field("explanation");
    let (explanation, _) = explanation::from_proto(path.required(explanation)?, &path, &rules.limits)?;
    Ok(explanation)
}
