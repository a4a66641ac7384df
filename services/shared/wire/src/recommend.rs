//! The front door's requests, checked: what a caller asks for, in the domain's words.
//!
//! `parse_*` read a request; `ask` types are what a handler works with; [`answer`] turns its outcome into messages;
//! [`Client`] is the other side of the door. The service itself is implemented where ranking and explaining meet.

pub mod answer;
pub mod client;

use std::sync::Arc;

use refract_domain::{
    AttributeFilter, Candidates, Error, History, Item, ItemId, RankQuery, Resource, Rung, UserId,
};

use crate::convert::history::{self, InteractionRef};
use crate::convert::item::ItemRef;
use crate::convert::{distinct, each, explanation, slate};
use crate::limits::{Limits, Rules};
use crate::path::Path;
use crate::proto::recommend::v1 as proto;
use crate::proto::recommend::v1::recommend_service_server::{RecommendService, RecommendServiceServer};
use crate::proto::r#type::v1 as types;
use crate::ranker::limit_from_proto;
use crate::text;

pub use answer::{Event, Explained, Summary};
pub use client::Client;

/// For whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A user of the server's data.
    User {
        id: UserId,
        /// Where the request names the user, for errors.
        field: String,
    },
    /// A history given in the request, oldest first.
    Inline {
        interactions: Vec<InteractionRef>,
        /// Whose it is, so that knowledge can be remembered under the person.
        user: Option<UserId>,
    },
}

impl Subject {
    /// Under whom knowledge is remembered.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::User { id, .. } => Some(id),
            Self::Inline { user, .. } => user.as_ref(),
        }
    }

    /// The history: of a known user, or the one given, its items from the request or else from the catalogue.
    pub fn history(
        &self,
        users: impl Fn(&UserId) -> Option<Arc<History>>,
        catalogue: impl Fn(&ItemId) -> Option<Arc<Item>>,
    ) -> Result<Arc<History>, Error> {
        match self {
            Self::User { id, field } => users(id).ok_or_else(|| Error::NotFound {
                resource: Resource::User,
                field: field.clone(),
            }),
            Self::Inline { interactions, .. } => history::resolve(interactions, catalogue).map(Arc::new),
        }
    }
}

/// Out of what.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum CandidatesAsk {
    #[default]
    Catalogue,
    Among {
        ids: Vec<ItemId>,
        /// Where the request names them, for errors.
        field: String,
    },
    Given(Vec<ItemRef>),
}

impl CandidatesAsk {
    /// The candidates themselves; an item that neither the request nor the catalogue describes is an error.
    pub fn resolve(&self, catalogue: impl Fn(&ItemId) -> Option<Arc<Item>>) -> Result<Candidates, Error> {
        match self {
            Self::Catalogue => Ok(Candidates::Catalogue),
            Self::Among { ids, field } => match ids.iter().position(|id| catalogue(id).is_none()) {
                Some(i) => Err(Error::NotFound {
                    resource: Resource::Item,
                    field: format!("{field}[{i}]"),
                }),
                None => Ok(Candidates::Among(ids.clone())),
            },
            Self::Given(items) => items
                .iter()
                .map(|item| item.resolve(&catalogue))
                .collect::<Result<_, _>>()
                .map(Candidates::Given),
        }
    }
}

/// What to rank.
#[derive(Clone, Debug, PartialEq)]
pub struct RankAsk {
    pub subject: Subject,
    pub candidates: CandidatesAsk,
    pub filters: Vec<AttributeFilter>,
    /// From 1.
    pub limit: usize,
    pub include_seen: bool,
}

impl RankAsk {
    /// What the ranker is asked, once the subject's history is known.
    pub fn query(
        &self,
        history: Arc<History>,
        catalogue: impl Fn(&ItemId) -> Option<Arc<Item>>,
    ) -> Result<RankQuery, Error> {
        Ok(RankQuery {
            history,
            candidates: self.candidates.resolve(catalogue)?,
            filters: self.filters.clone(),
            include_seen: self.include_seen,
            limit: self.limit,
        })
    }
}

/// How to explain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplainOptions {
    /// Only the first so many items; all when absent.
    pub items_max: Option<usize>,
    /// Nothing poorer than this; anything when absent.
    pub lowest_rung: Option<Rung>,
    /// Varies the wording.
    pub style: u32,
    /// Return the knowledge used.
    pub include_knowledge: bool,
}

impl ExplainOptions {
    /// Whether the caller wants an explanation of this rung. That there is none is always accepted.
    pub fn accepts(&self, rung: Rung) -> bool {
        matches!(rung, Rung::None(_)) || self.lowest_rung.is_none_or(|lowest| rung <= lowest)
    }

    /// Whether the item at this position, from 1, is to be explained.
    pub fn wants(&self, position: u32) -> bool {
        self.items_max.is_none_or(|max| position as usize <= max)
    }
}

/// What to recommend and explain.
#[derive(Clone, Debug, PartialEq)]
pub struct RecommendAsk {
    pub rank: RankAsk,
    pub explain: ExplainOptions,
}

/// Which given items to explain.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainAsk {
    pub subject: Subject,
    /// In the request's order, which gives the positions.
    pub items: Vec<ItemRef>,
    pub explain: ExplainOptions,
}

impl ExplainAsk {
    /// The items themselves, from the request or else from the catalogue.
    pub fn items(&self, catalogue: impl Fn(&ItemId) -> Option<Arc<Item>>) -> Result<Vec<Arc<Item>>, Error> {
        self.items.iter().map(|item| item.resolve(&catalogue)).collect()
    }
}

/// For a router, with the front door's message limits set.
pub fn service<T: RecommendService>(implementation: T, limits: &Limits) -> RecommendServiceServer<T> {
    RecommendServiceServer::new(implementation)
        .max_decoding_message_size(limits.request_bytes_max)
        .max_encoding_message_size(limits.response_bytes_max)
}

pub fn parse_rank(request: proto::RankRequest, rules: &Rules) -> Result<RankAsk, Error> {
    rank_from_proto(request, &Path::ROOT, rules)
}

pub fn parse_recommend(request: proto::RecommendRequest, rules: &Rules) -> Result<RecommendAsk, Error> {
    let root = Path::ROOT;
    let path = root.field("rank");
    Ok(RecommendAsk {
        rank: rank_from_proto(path.required(request.rank)?, &path, rules)?,
        explain: options_from_proto(request.explain, &root.field("explain"))?,
    })
}

pub fn parse_stream_recommend(
    request: proto::StreamRecommendRequest,
    rules: &Rules,
) -> Result<RecommendAsk, Error> {
    parse_recommend(
        proto::RecommendRequest {
            rank: request.rank,
            explain: request.explain,
        },
        rules,
    )
}

pub fn parse_explain(request: proto::ExplainRequest, rules: &Rules) -> Result<ExplainAsk, Error> {
    let root = Path::ROOT;
    Ok(ExplainAsk {
        subject: subject_from_proto(request.subject, &root.field("subject"), rules)?,
        items: items_from_proto(request.items, &root.field("items"), &rules.limits)?,
        explain: options_from_proto(request.explain, &root.field("explain"))?,
    })
}

pub fn parse_stream_explain(
    request: proto::StreamExplainRequest,
    rules: &Rules,
) -> Result<ExplainAsk, Error> {
    let proto::StreamExplainRequest {
        subject,
        items,
        explain,
    } = request;
    parse_explain(
        proto::ExplainRequest {
            subject,
            items,
            explain,
        },
        rules,
    )
}

/// Whose knowledge is to be erased.
pub fn parse_erase_user(request: proto::EraseUserRequest, rules: &Rules) -> Result<UserId, Error> {
    text::user_id(request.user_id, &Path::ROOT.field("user_id"), &rules.limits)
}

fn rank_from_proto(request: proto::RankRequest, path: &Path<'_>, rules: &Rules) -> Result<RankAsk, Error> {
    Ok(RankAsk {
        subject: subject_from_proto(request.subject, &path.field("subject"), rules)?,
        candidates: candidates_from_proto(request.candidates, &path.field("candidates"), &rules.limits)?,
        filters: slate::filters_from_proto(request.filters, &path.field("filters"), &rules.limits)?,
        limit: limit_from_proto(request.limit, &path.field("limit"), rules)?,
        include_seen: request.include_seen,
    })
}

fn subject_from_proto(
    subject: Option<proto::Subject>,
    path: &Path<'_>,
    rules: &Rules,
) -> Result<Subject, Error> {
    use proto::subject::Kind;
    let subject = path.required(subject)?;
    let inline_user_path = path.field("inline_user_id");
    match path.required(subject.kind)? {
        Kind::UserId(_) if !subject.inline_user_id.is_empty() => {
            Err(inline_user_path.invalid("belongs to an inline history"))
        }
        Kind::UserId(id) => {
            let path = path.field("user_id");
            Ok(Subject::User {
                id: text::user_id(id, &path, &rules.limits)?,
                field: path.to_string(),
            })
        }
        Kind::History(history) => Ok(Subject::Inline {
            interactions: history::refs_from_proto(history, &path.field("history"), rules)?,
            user: text::user_id_or_none(subject.inline_user_id, &inline_user_path, &rules.limits)?,
        }),
    }
}

fn candidates_from_proto(
    candidates: Option<proto::CandidateSet>,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<CandidatesAsk, Error> {
    use proto::candidate_set::Kind;
    match candidates.and_then(|set| set.kind) {
        None => Ok(CandidatesAsk::Catalogue),
        Some(Kind::Among(among)) => {
            let path = path.field("among");
            let path = path.field("ids");
            some(among.ids.len(), limits.candidates_max, &path)?;
            let ids = each(among.ids, &path, |id, path| text::item_id(id, path, limits))?;
            distinct(&ids, &path, |id| id)?;
            Ok(CandidatesAsk::Among {
                ids,
                field: path.to_string(),
            })
        }
        Some(Kind::Slate(given)) => {
            let path = path.field("slate");
            items_from_proto(given.items, &path.field("items"), limits).map(CandidatesAsk::Given)
        }
    }
}

fn items_from_proto(
    items: Vec<types::Item>,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<Vec<ItemRef>, Error> {
    some(items.len(), limits.slate_items_max, path)?;
    let items = each(items, path, |item, path| ItemRef::from_proto(item, path, limits))?;
    distinct(&items, path, ItemRef::id)?;
    Ok(items)
}

/// At least one, at most so many.
fn some(len: usize, max: usize, path: &Path<'_>) -> Result<(), Error> {
    if len == 0 {
        Err(path.invalid("is empty"))
    } else {
        path.count(len, max)
    }
}

fn options_from_proto(
    options: Option<proto::ExplainOptions>,
    path: &Path<'_>,
) -> Result<ExplainOptions, Error> {
    let options = options.unwrap_or_default();
    let lowest_rung = match types::Rung::try_from(options.lowest_rung) {
        Ok(types::Rung::Unspecified | types::Rung::None) => None,
        Ok(types::Rung::Fresh) => Some(Rung::Fresh),
        Ok(types::Rung::Cached) => Some(Rung::Cached),
        Ok(types::Rung::Stale) => Some(Rung::Stale),
        Ok(types::Rung::HistoryOnly) => Some(Rung::HistoryOnly),
        Ok(types::Rung::Template) => Some(Rung::Template),
        Err(_) => return Err(path.field("lowest_rung").invalid("is not a known value")),
    };
    Ok(ExplainOptions {
        items_max: (options.items_max > 0).then_some(options.items_max as usize),
        lowest_rung,
        style: options.style,
        include_knowledge: options.include_knowledge,
    })
}

fn rank_to_proto(ask: &RankAsk) -> proto::RankRequest {
    proto::RankRequest {
        subject: Some(subject_to_proto(&ask.subject)),
        candidates: candidates_to_proto(&ask.candidates),
        filters: slate::filters_to_proto(&ask.filters),
        limit: u32::try_from(ask.limit).unwrap_or(u32::MAX),
        include_seen: ask.include_seen,
    }
}

fn subject_to_proto(subject: &Subject) -> proto::Subject {
    use proto::subject::Kind;
    match subject {
        Subject::User { id, .. } => proto::Subject {
            kind: Some(Kind::UserId(id.expose().to_owned())),
            inline_user_id: String::new(),
        },
        Subject::Inline { interactions, user } => {
            let interactions = interactions.iter().map(InteractionRef::to_proto);
            proto::Subject {
                kind: Some(Kind::History(interactions.collect())),
                inline_user_id: user
                    .as_ref()
                    .map_or_else(String::new, |user| user.expose().to_owned()),
            }
        }
    }
}

fn candidates_to_proto(candidates: &CandidatesAsk) -> Option<proto::CandidateSet> {
    use proto::candidate_set::Kind;
    let kind = match candidates {
        CandidatesAsk::Catalogue => return None,
        CandidatesAsk::Among { ids, .. } => Kind::Among(proto::ItemIds {
            ids: ids.iter().map(|id| id.as_str().to_owned()).collect(),
        }),
        CandidatesAsk::Given(items) => Kind::Slate(proto::GivenSlate {
            items: items.iter().map(ItemRef::to_proto).collect(),
        }),
    };
    Some(proto::CandidateSet { kind: Some(kind) })
}

fn options_to_proto(options: &ExplainOptions) -> proto::ExplainOptions {
    proto::ExplainOptions {
        // At least one: 0 would mean all.
        items_max: options
            .items_max
            .map_or(0, |max| u32::try_from(max.max(1)).unwrap_or(u32::MAX)),
        lowest_rung: options
            .lowest_rung
            .map_or(0, |rung| explanation::rung_to_proto(rung).0.into()),
        style: options.style,
        include_knowledge: options.include_knowledge,
    }
}

#[cfg(test)]
mod tests;
