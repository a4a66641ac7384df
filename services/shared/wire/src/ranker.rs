//! The joint between the front door and a ranker outside Refract: `Client` is a `Ranker`, `Server` serves any.

use std::sync::Arc;

use async_trait::async_trait;
use refract_domain::{
    Candidates, Context, Error, Item, RankQuery, Ranker, Revision, Slate, SlateItem, SlateOrigin,
};
use tonic::{Request, Response, Status};

use crate::client::checked;
use crate::convert::{each, history, slate};
use crate::info::ServerInfo;
use crate::limits::Rules;
use crate::path::Path;
use crate::proto::ranker::v1 as proto;
use crate::proto::ranker::v1::ranker_service_client::RankerServiceClient;
use crate::proto::ranker::v1::ranker_service_server::{RankerService, RankerServiceServer};
use crate::transport::Transport;
use crate::{client, server, text};

const PEER: &str = "ranker";

/// A ranker somewhere else.
#[derive(Clone, Debug)]
pub struct Client {
    service: RankerServiceClient<Transport>,
    config: client::Config,
}

impl Client {
    pub fn new(transport: Transport, config: client::Config) -> Self {
        let limits = &config.rules.limits;
        let service = RankerServiceClient::new(transport)
            .max_encoding_message_size(limits.hop_request_bytes_max)
            .max_decoding_message_size(limits.response_bytes_max);
        Self { service, config }
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
impl Ranker for Client {
    async fn rank(&self, query: &RankQuery, context: &Context) -> Result<Slate, Error> {
        let among_item_ids = match &query.candidates {
            Candidates::Catalogue => Vec::new(),
            Candidates::Among(ids) => ids.iter().map(|id| id.as_str().to_owned()).collect(),
            // Somebody else has ranked already: there is nothing to ask.
            Candidates::Given(items) => return Ok(given(items, query.limit)),
        };
        let message = proto::RankRequest {
            history: Some(self.config.history(&query.history)),
            among_item_ids,
            filters: slate::filters_to_proto(&query.filters),
            limit: u32::try_from(query.limit).unwrap_or(u32::MAX),
            include_seen: query.include_seen,
        };
        let (call, request) = self.config.request("Rank", message, context)?;
        let mut service = self.service.clone();
        let response = call.answer(service.rank(request)).await?;
        let root = Path::ROOT;
        let path = root.field("slate");
        checked(
            PEER,
            (|| {
                let slate =
                    slate::from_proto(path.required(response.slate)?, &path, &self.config.rules.limits)?;
                path.field("items").count(slate.items.len(), query.limit)?;
                Ok(slate)
            })(),
        )
    }
}

/// A given list as a slate; the scores only fall, for want of better ones.
fn given(items: &[Arc<Item>], limit: usize) -> Slate {
    let places = (1u32..).zip(items.iter().take(limit));
    let place = |(position, item): (u32, &Arc<Item>)| SlateItem {
        position,
        score: 1.0 / position as f32,
        item: item.clone(),
        affinities: Vec::new(),
    };
    Slate {
        items: places.map(place).collect(),
        origin: SlateOrigin::Given,
        ranker_revision: Revision::default(),
    }
}

/// Serves any ranker as `RankerService`.
#[derive(Debug)]
pub struct Server<R> {
    ranker: Arc<R>,
    info: ServerInfo,
    config: server::Config,
}

impl<R: Ranker + 'static> Server<R> {
    pub fn new(ranker: R, info: ServerInfo, config: server::Config) -> Self {
        Self {
            ranker: Arc::new(ranker),
            info,
            config,
        }
    }

    /// For a router, with the message limits set.
    pub fn into_service(self) -> RankerServiceServer<Self> {
        let limits = self.config.rules.limits.clone();
        RankerServiceServer::new(self)
            .max_decoding_message_size(limits.hop_request_bytes_max)
            .max_encoding_message_size(limits.response_bytes_max)
    }
}

#[async_trait]
impl<R: Ranker + 'static> RankerService for Server<R> {
    async fn rank(
        &self,
        request: Request<proto::RankRequest>,
    ) -> Result<Response<proto::RankResponse>, Status> {
        let (call, message) = self.config.open("Rank", request)?;
        let context = call.context().clone();
        let work = async {
            let query = query_from_proto(message, &self.config.rules)?;
            let slate = self.ranker.rank(&query, &context).await?;
            Ok(proto::RankResponse {
                slate: Some(slate::to_proto(&slate)),
            })
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

fn query_from_proto(message: proto::RankRequest, rules: &Rules) -> Result<RankQuery, Error> {
    let limits = &rules.limits;
    let root = Path::ROOT;
    let history = history::from_proto(message.history.unwrap_or_default(), &root.field("history"), rules)?;
    let among_path = root.field("among_item_ids");
    among_path.count(message.among_item_ids.len(), limits.candidates_max)?;
    let among = each(message.among_item_ids, &among_path, |id, path| {
        text::item_id(id, path, limits)
    })?;
    crate::convert::distinct(&among, &among_path, |id| id)?;
    let limit = limit_from_proto(message.limit, &root.field("limit"), rules)?;
    Ok(RankQuery {
        history: Arc::new(history),
        candidates: if among.is_empty() {
            Candidates::Catalogue
        } else {
            Candidates::Among(among)
        },
        filters: slate::filters_from_proto(message.filters, &root.field("filters"), limits)?,
        include_seen: message.include_seen,
        limit,
    })
}

/// 1 to `slate_items_max`; 0 is the default.
pub(crate) fn limit_from_proto(limit: u32, path: &Path<'_>, rules: &Rules) -> Result<usize, Error> {
    let limits = &rules.limits;
    match usize::try_from(limit) {
        Ok(0) => Ok(limits.slate_items_default),
        Ok(limit) if limit <= limits.slate_items_max => Ok(limit),
        _ => Err(path.invalid(format!("is more than {}", limits.slate_items_max))),
    }
}
