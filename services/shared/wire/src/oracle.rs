//! The joint between the ranker and an Oracle: `Client` is a `KnowledgeSource`, `Server` serves any.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use refract_domain::{Context, Deadline, Error, History, Knowledge, KnowledgeSource, Pair, TenantId};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use crate::client::{checked, now};
use crate::convert::{history, knowledge, pair};
use crate::info::ServerInfo;
use crate::limits::Rules;
use crate::path::Path;
use crate::proto::oracle::v1 as proto;
use crate::proto::oracle::v1::oracle_service_client::OracleServiceClient;
use crate::proto::oracle::v1::oracle_service_server::{OracleService, OracleServiceServer};
use crate::proto::oracle::v1::stream_consult_response::Outcome;
use crate::status::{from_rpc, to_rpc};
use crate::transport::Transport;
use crate::{client, encoded, server};

const PEER: &str = "oracle";

/// An Oracle somewhere else.
#[derive(Clone, Debug)]
pub struct Client {
    service: OracleServiceClient<Transport>,
    config: client::Config,
}

/// One question of many.
#[derive(Clone, Debug)]
pub struct Question {
    /// Chosen by the caller; comes back with the answer.
    pub sequence: u64,
    pub pair: Pair,
    pub history: Arc<History>,
}

/// One answer of many.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub sequence: u64,
    pub outcome: Result<Knowledge, Error>,
}

pub type AnswerStream = Pin<Box<dyn Stream<Item = Result<Answer, Error>> + Send>>;

impl Client {
    pub fn new(transport: Transport, config: client::Config) -> Self {
        let limits = &config.rules.limits;
        let service = OracleServiceClient::new(transport)
            .max_encoding_message_size(limits.hop_request_bytes_max)
            .max_decoding_message_size(limits.response_bytes_max);
        Self { service, config }
    }

    /// Consults about many pairs on one stream; answers come as they are ready. An `Err` of the stream itself is its
    /// last element; one pair's failure is in its `Answer`. Dropping the stream cancels what is not answered.
    pub async fn consult_stream(
        &self,
        questions: impl Stream<Item = Question> + Send + 'static,
        context: &Context,
    ) -> Result<AnswerStream, Error> {
        let config = self.config.clone();
        let messages = questions.map(move |q| proto::StreamConsultRequest {
            sequence: q.sequence,
            question: Some(question_to_proto(&q.pair, config.history(&q.history))),
        });
        let (call, request) = self.config.request("StreamConsult", messages, context)?;
        let mut service = self.service.clone();
        let answers = call.answer(service.stream_consult(request)).await?;
        let rules = self.config.rules.clone();
        Ok(Box::pin(
            call.messages(answers)
                .map(move |message| answer_from_proto(message?, &rules)),
        ))
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
impl KnowledgeSource for Client {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        let message = proto::ConsultRequest {
            question: Some(question_to_proto(pair, self.config.history(history))),
        };
        let (call, request) = self.config.request("Consult", message, context)?;
        let mut service = self.service.clone();
        let response = call.answer(service.consult(request)).await?;
        checked(PEER, knowledge_from_proto(response.knowledge, &self.config.rules))
    }
}

/// Serves any source of knowledge as `OracleService`.
#[derive(Debug)]
pub struct Server<S> {
    source: Arc<S>,
    info: ServerInfo,
    config: server::Config,
}

impl<S: KnowledgeSource + 'static> Server<S> {
    pub fn new(source: S, info: ServerInfo, config: server::Config) -> Self {
        Self {
            source: Arc::new(source),
            info,
            config,
        }
    }

    /// For a router, with the message limits set.
    pub fn into_service(self) -> OracleServiceServer<Self> {
        let limits = self.config.rules.limits.clone();
        OracleServiceServer::new(self)
            .max_decoding_message_size(limits.hop_request_bytes_max)
            .max_encoding_message_size(limits.response_bytes_max)
    }
}

#[async_trait]
impl<S: KnowledgeSource + 'static> OracleService for Server<S> {
    async fn consult(
        &self,
        request: Request<proto::ConsultRequest>,
    ) -> Result<Response<proto::ConsultResponse>, Status> {
        let (call, message) = self.config.open("Consult", request)?;
        let context = call.context().clone();
        let work = async {
            let question = message.question;
            let knowledge = consult(&*self.source, question, &context, &self.config.rules).await?;
            Ok(proto::ConsultResponse {
                knowledge: Some(knowledge::to_proto(&knowledge)),
            })
        };
        call.answer(work).await
    }

    type StreamConsultStream =
        Pin<Box<dyn Stream<Item = Result<proto::StreamConsultResponse, Status>> + Send>>;

    async fn stream_consult(
        &self,
        request: Request<Streaming<proto::StreamConsultRequest>>,
    ) -> Result<Response<Self::StreamConsultStream>, Status> {
        let (call, questions) = self.config.open_unbounded("StreamConsult", request)?;
        let (source, config) = (self.source.clone(), self.config.clone());
        let (context, span) = (call.context().clone(), call.span().clone());
        // Each question has a deadline of its own within the stream's, and at most so many are open: the transport's
        // flow control then holds the caller back.
        let answers = questions.map(move |question| {
            let (source, rules) = (source.clone(), config.rules.clone());
            let (context, cap) = (context.clone(), config.deadline_cap);
            let answer = async move {
                let question = question.map_err(|status| crate::status::from_status(&status))?;
                let context = context.with_deadline(context.deadline.capped(now(), cap));
                let outcome = consult_in_time(&*source, question.question, &context, &rules).await;
                let outcome = match outcome {
                    Ok(knowledge) => Outcome::Knowledge(knowledge::to_proto(&knowledge)),
                    Err(error) => Outcome::Error(to_rpc(&error, Some(&context.request))),
                };
                Ok(proto::StreamConsultResponse {
                    sequence: question.sequence,
                    outcome: Some(outcome),
                })
            };
            answer.instrument(span.clone())
        });
        let answers = answers.buffer_unordered(self.config.stream_pairs_max.max(1));
        let answers: Self::StreamConsultStream = Box::pin(call.stream(answers));
        Ok(call.dress(answers))
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

async fn consult<S: KnowledgeSource + ?Sized>(
    source: &S,
    question: Option<proto::Question>,
    context: &Context,
    rules: &Rules,
) -> Result<Knowledge, Error> {
    let (pair, history) = question_from_proto(question, context.tenant.clone(), rules)?;
    source.consult(&pair, &history, context).await
}

async fn consult_in_time<S: KnowledgeSource + ?Sized>(
    source: &S,
    question: Option<proto::Question>,
    context: &Context,
    rules: &Rules,
) -> Result<Knowledge, Error> {
    let deadline: Deadline = context.deadline;
    let work = consult(source, question, context, rules);
    tokio::time::timeout_at(deadline.instant().into(), work)
        .await
        .unwrap_or(Err(Error::DeadlineExceeded))
}

fn question_to_proto(pair: &Pair, history: encoded::History) -> proto::Question {
    let parts = pair::to_parts(pair);
    proto::Question {
        user_id: parts.user_id,
        item: parts.item,
        history: Some(history),
        affinities: parts.affinities,
    }
}

fn question_from_proto(
    question: Option<proto::Question>,
    tenant: TenantId,
    rules: &Rules,
) -> Result<(Pair, Arc<History>), Error> {
    let root = Path::ROOT;
    let path = root.field("question");
    let question = path.required(question)?;
    let parts = pair::PairParts {
        user_id: question.user_id,
        item: question.item,
        affinities: question.affinities,
    };
    let pair = pair::from_parts(parts, tenant, &path, &rules.limits)?;
    let history = history::from_proto(
        question.history.unwrap_or_default(),
        &path.field("history"),
        rules,
    )?;
    Ok((pair, Arc::new(history)))
}

fn knowledge_from_proto(
    knowledge: Option<crate::proto::r#type::v1::Knowledge>,
    rules: &Rules,
) -> Result<Knowledge, Error> {
    let root = Path::ROOT;
    let path = root.field("knowledge");
    knowledge::from_proto(path.required(knowledge)?, &path, &rules.limits)
}

fn answer_from_proto(message: proto::StreamConsultResponse, rules: &Rules) -> Result<Answer, Error> {
    let outcome = match message.outcome {
        Some(Outcome::Knowledge(knowledge)) => checked(PEER, knowledge_from_proto(Some(knowledge), rules)),
        Some(Outcome::Error(status)) => Err(from_rpc(&status)),
        None => checked(PEER, knowledge_from_proto(None, rules)),
    };
    Ok(Answer {
        sequence: message.sequence,
        outcome,
    })
}
