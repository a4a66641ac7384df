//! `RecommendService`: reads a request, resolves names against the data set, and lets the river flow.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;
use refract_domain::{
    Candidates, Context, Error, History, Item, ItemId, RankQuery, Slate, TenantId, UnavailableReason, UserId,
};
use refract_wire::proto::recommend::v1 as proto;
use refract_wire::proto::recommend::v1::recommend_service_server::RecommendService;
use refract_wire::recommend::{self, Event, ExplainAsk, Explained, RankAsk, RecommendAsk, Summary, answer};
use refract_wire::server::{self, Call};
use refract_wire::{ServerInfo, recommend::Subject};
use tonic::{Request, Response, Status};

use crate::dataset::Dataset;
use crate::recommend::{Resolved, River, now};
use crate::rooms::Admitted;

/// The gRPC face of the river.
#[derive(Debug)]
pub struct FrontDoor {
    pub river: Arc<River>,
    /// Knows users' histories and the items that requests name by id alone.
    pub dataset: Arc<Dataset>,
    /// What remembers knowledge; absent where no Oracle is asked.
    pub memory: Option<refract_knowledge::Control>,
    pub info: ServerInfo,
    pub config: server::Config,
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl FrontDoor {
    fn history(&self, subject: &Subject) -> Result<Arc<History>, Error> {
        subject.history(
            |user| self.dataset.history(user).map(Arc::new),
            |item| self.item(item),
        )
    }

    fn item(&self, id: &ItemId) -> Option<Arc<Item>> {
        self.dataset.catalogue().get(id).cloned()
    }

    fn rank_query(&self, ask: &RankAsk) -> Result<(Option<UserId>, RankQuery), Error> {
        let history = self.history(&ask.subject)?;
        Ok((
            ask.subject.user().cloned(),
            ask.query(history, |id| self.item(id))?,
        ))
    }

    /// Let in first: in overload a refusal must cost nothing but reading the request.
    fn admit_recommend(&self, ask: RecommendAsk) -> Result<(Admitted, Resolved), Error> {
        let admitted = self.river.rooms.admit(ask.rank.limit)?;
        let (user, rank) = self.rank_query(&ask.rank)?;
        let asked = Resolved {
            user,
            rank,
            explain: ask.explain,
        };
        Ok((admitted, asked))
    }

    /// Explaining given items is recommending them, in the caller's order.
    fn admit_explain(&self, ask: ExplainAsk) -> Result<(Admitted, Resolved), Error> {
        let admitted = self.river.rooms.admit(ask.items.len())?;
        let history = self.history(&ask.subject)?;
        let items = ask.items(|id| self.item(id))?;
        let limit = items.len();
        let rank = RankQuery {
            history,
            candidates: Candidates::Given(items),
            filters: Vec::new(),
            include_seen: true,
            limit,
        };
        let asked = Resolved {
            user: ask.subject.user().cloned(),
            rank,
            explain: ask.explain,
        };
        Ok((admitted, asked))
    }

    /// What is remembered for the caller's own user: nobody can erase for another tenant.
    async fn erase(&self, tenant: &TenantId, user: &UserId) -> Result<u64, Error> {
        let memory = self.memory.as_ref().ok_or_else(|| Error::Precondition {
            reason: "no knowledge is remembered here: this front door asks no Oracle".to_owned(),
        })?;
        memory.erase(tenant, user).await.map_err(|error| {
            tracing::warn!(%error, "a user could not be erased");
            Error::Unavailable {
                reason: UnavailableReason::Unreachable,
            }
        })
    }

    async fn collect(
        &self,
        (admitted, asked): (Admitted, Resolved),
        context: Context,
    ) -> Result<(Slate, Vec<Explained>, Summary), Error> {
        let river = self.river.clone();
        let mut events = std::pin::pin!(river.recommend_in(admitted, asked, context).await?);
        let (mut slate, mut explained, mut summary) = (None, Vec::new(), None);
        while let Some(event) = events.next().await {
            match event {
                Event::Slate(it) => slate = Some(it),
                Event::Delta { .. } => {}
                Event::Explained(it) => explained.push(*it),
                Event::Summary(it) => summary = Some(it),
            }
        }
        explained.sort_by_key(|e| e.position);
        Ok((
            slate.ok_or(Error::Internal)?,
            explained,
            summary.ok_or(Error::Internal)?,
        ))
    }

    /// The whole answer as a stream; the call's deadline ends it.
    async fn flow<T: Send + 'static>(
        &self,
        call: Call,
        asked: Result<(Admitted, Resolved), Error>,
        message: impl Fn(Event) -> Option<T> + Send + Sync + 'static,
    ) -> Result<Response<Events<T>>, Status> {
        let context = call.context().clone();
        let (admitted, asked) = asked.map_err(|error| call.refuse(&error))?;
        let events = call
            .within(self.river.clone().recommend_in(admitted, asked, context))
            .await
            .map_err(|error| call.refuse(&error))?;
        let messages = events.filter_map(move |event| std::future::ready(message(event).map(Ok)));
        let stream: Events<T> = Box::pin(call.stream(messages));
        Ok(call.dress(stream))
    }
}

#[tonic::async_trait]
impl RecommendService for FrontDoor {
    async fn rank(
        &self,
        request: Request<proto::RankRequest>,
    ) -> Result<Response<proto::RankResponse>, Status> {
        let (call, message) = self.config.open("Rank", request)?;
        let context = call.context().clone();
        let work = async {
            let arrived = now();
            let ask = recommend::parse_rank(message, &self.config.rules)?;
            let admitted = self.river.rooms.admit_to_rank()?;
            let (_, query) = self.rank_query(&ask)?;
            admitted.turn().await;
            let slate = self.river.rank(&query, &context).await?;
            let rank_time: Duration = now() - arrived;
            Ok(answer::rank_response(&slate, &context.request, rank_time))
        };
        call.answer(work).await
    }

    async fn recommend(
        &self,
        request: Request<proto::RecommendRequest>,
    ) -> Result<Response<proto::RecommendResponse>, Status> {
        let (call, message) = self.config.open("Recommend", request)?;
        let context = call.context().clone();
        let work = async {
            let ask = recommend::parse_recommend(message, &self.config.rules)?;
            let (slate, explained, summary) = self.collect(self.admit_recommend(ask)?, context).await?;
            Ok(answer::recommend_response(&slate, &explained, &summary))
        };
        call.answer(work).await
    }

    type StreamRecommendStream = Events<proto::StreamRecommendResponse>;

    async fn stream_recommend(
        &self,
        request: Request<proto::StreamRecommendRequest>,
    ) -> Result<Response<Self::StreamRecommendStream>, Status> {
        let (call, message) = self.config.open("StreamRecommend", request)?;
        let asked = recommend::parse_stream_recommend(message, &self.config.rules)
            .and_then(|ask| self.admit_recommend(ask));
        let id = call.context().request.clone();
        self.flow(call, asked, move |event| {
            Some(answer::stream_recommend_response(&event, &id))
        })
        .await
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let (call, message) = self.config.open("Explain", request)?;
        let context = call.context().clone();
        let work = async {
            let ask = recommend::parse_explain(message, &self.config.rules)?;
            let (_, explained, summary) = self.collect(self.admit_explain(ask)?, context).await?;
            Ok(answer::explain_response(&explained, &summary))
        };
        call.answer(work).await
    }

    type StreamExplainStream = Events<proto::StreamExplainResponse>;

    async fn stream_explain(
        &self,
        request: Request<proto::StreamExplainRequest>,
    ) -> Result<Response<Self::StreamExplainStream>, Status> {
        let (call, message) = self.config.open("StreamExplain", request)?;
        let asked = recommend::parse_stream_explain(message, &self.config.rules)
            .and_then(|ask| self.admit_explain(ask));
        let id = call.context().request.clone();
        self.flow(call, asked, move |event| {
            answer::stream_explain_response(&event, &id)
        })
        .await
    }

    async fn erase_user(
        &self,
        request: Request<proto::EraseUserRequest>,
    ) -> Result<Response<proto::EraseUserResponse>, Status> {
        let (call, message) = self.config.open("EraseUser", request)?;
        let tenant = call.tenant().clone();
        let work = async {
            let user = recommend::parse_erase_user(message, &self.config.rules)?;
            let entries_erased = self.erase(&tenant, &user).await?;
            Ok(proto::EraseUserResponse { entries_erased })
        };
        call.answer(work).await
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

#[cfg(test)]
mod tests;
