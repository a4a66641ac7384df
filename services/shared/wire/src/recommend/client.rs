//! The front door from outside: every verb of the edge API, in the domain's words.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use refract_domain::{Context, Error, Slate, UserId};

use crate::client::{Config, checked};
use crate::convert::item::ItemRef;
use crate::convert::{slate, time};
use crate::info::ServerInfo;
use crate::path::Path;
use crate::proto::recommend::v1 as proto;
use crate::proto::recommend::v1::recommend_service_client::RecommendServiceClient;
use crate::recommend::answer::{self, Event, Explained, Summary};
use crate::recommend::{
    ExplainAsk, RankAsk, RecommendAsk, options_to_proto, rank_to_proto, subject_to_proto,
};
use crate::transport::Transport;

const PEER: &str = "front door";

/// Ends after the summary, or after one error. Dropping it cancels the request.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, Error>> + Send>>;

/// A front door somewhere else.
#[derive(Clone, Debug)]
pub struct Client {
    service: RecommendServiceClient<Transport>,
    config: Config,
}

impl Client {
    pub fn new(transport: Transport, config: Config) -> Self {
        let limits = &config.rules.limits;
        let service = RecommendServiceClient::new(transport)
            .max_encoding_message_size(limits.request_bytes_max)
            .max_decoding_message_size(limits.response_bytes_max);
        Self { service, config }
    }

    /// The slate, and the time that ranking took.
    pub async fn rank(&self, ask: &RankAsk, context: &Context) -> Result<(Slate, Duration), Error> {
        let (call, request) = self.config.request("Rank", rank_to_proto(ask), context)?;
        let mut service = self.service.clone();
        let response = call.answer(service.rank(request)).await?;
        let root = Path::ROOT;
        let path = root.field("slate");
        let limits = &self.config.rules.limits;
        let slate = path
            .required(response.slate)
            .and_then(|slate| slate::from_proto(slate, &path, limits));
        let rank_time = time::from_proto_or_zero(response.rank_time, &root.field("rank_time"));
        checked(PEER, slate.and_then(|slate| Ok((slate, rank_time?))))
    }

    pub async fn recommend(
        &self,
        ask: &RecommendAsk,
        context: &Context,
    ) -> Result<(Slate, Vec<Explained>, Summary), Error> {
        let message = proto::RecommendRequest {
            rank: Some(rank_to_proto(&ask.rank)),
            explain: Some(options_to_proto(&ask.explain)),
        };
        let (call, request) = self.config.request("Recommend", message, context)?;
        let mut service = self.service.clone();
        let response = call.answer(service.recommend(request)).await?;
        let root = Path::ROOT;
        let path = root.field("slate");
        let limits = &self.config.rules.limits;
        checked(
            PEER,
            (|| {
                Ok((
                    slate::from_proto(path.required(response.slate)?, &path, limits)?,
                    answer::explained_list_from_proto(response.explanations, limits)?,
                    answer::summary_from_proto(response.summary, limits)?,
                ))
            })(),
        )
    }

    pub async fn stream_recommend(
        &self,
        ask: &RecommendAsk,
        context: &Context,
    ) -> Result<EventStream, Error> {
        let message = proto::StreamRecommendRequest {
            rank: Some(rank_to_proto(&ask.rank)),
            explain: Some(options_to_proto(&ask.explain)),
        };
        let (call, request) = self.config.request("StreamRecommend", message, context)?;
        let mut service = self.service.clone();
        let messages = call.answer(service.stream_recommend(request)).await?;
        let rules = self.config.rules.clone();
        let event = move |message: Result<_, Error>| {
            checked(PEER, answer::recommend_event_from_proto(message?, &rules))
        };
        Ok(Box::pin(call.messages(messages).map(event)))
    }

    pub async fn explain(
        &self,
        ask: &ExplainAsk,
        context: &Context,
    ) -> Result<(Vec<Explained>, Summary), Error> {
        let message = proto::ExplainRequest {
            subject: Some(subject_to_proto(&ask.subject)),
            items: ask.items.iter().map(ItemRef::to_proto).collect(),
            explain: Some(options_to_proto(&ask.explain)),
        };
        let (call, request) = self.config.request("Explain", message, context)?;
        let mut service = self.service.clone();
        let response = call.answer(service.explain(request)).await?;
        let limits = &self.config.rules.limits;
        checked(
            PEER,
            (|| {
                Ok((
                    answer::explained_list_from_proto(response.explanations, limits)?,
                    answer::summary_from_proto(response.summary, limits)?,
                ))
            })(),
        )
    }

    pub async fn stream_explain(&self, ask: &ExplainAsk, context: &Context) -> Result<EventStream, Error> {
        let message = proto::StreamExplainRequest {
            subject: Some(subject_to_proto(&ask.subject)),
            items: ask.items.iter().map(ItemRef::to_proto).collect(),
            explain: Some(options_to_proto(&ask.explain)),
        };
        let (call, request) = self.config.request("StreamExplain", message, context)?;
        let mut service = self.service.clone();
        let messages = call.answer(service.stream_explain(request)).await?;
        let rules = self.config.rules.clone();
        let event = move |message: Result<_, Error>| {
            checked(PEER, answer::explain_event_from_proto(message?, &rules))
        };
        Ok(Box::pin(call.messages(messages).map(event)))
    }

    /// How many entries the store held for this user and holds no more.
    pub async fn erase_user(&self, user: &UserId, context: &Context) -> Result<u64, Error> {
        let message = proto::EraseUserRequest {
            user_id: user.expose().to_owned(),
        };
        let (call, request) = self.config.request("EraseUser", message, context)?;
        let mut service = self.service.clone();
        let response = call.answer(service.erase_user(request)).await?;
        Ok(response.entries_erased)
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
