//! The front door's answers: the slate, text as it is written, each explanation, one summary.

use std::collections::BTreeMap;
use std::time::Duration;

use refract_domain::{Error, Explanation, Knowledge, RequestId, Revision, Rung, Slate, SlateOrigin};

use crate::convert::{each, explanation, slate, time};
use crate::limits::{Limits, Rules};
use crate::path::Path;
use crate::proto::recommend::v1 as proto;
use crate::status::{from_rpc, to_rpc};
use crate::text;

/// One event of `StreamRecommend`, and of `StreamExplain` except for the slate.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// First, once.
    Slate(Slate),
    /// Checked text to append to the explanation of the item at this position, from 1.
    Delta { position: u32, text: String },
    /// The end of one item's explanation, once per item.
    Explained(Box<Explained>),
    /// Last, once.
    Summary(Summary),
}

/// One item's explanation.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// From 1.
    pub position: u32,
    pub explanation: Explanation,
    /// What it was made with, where the caller asked to see it.
    pub knowledge: Option<Knowledge>,
    /// The fault behind `Rung::None(NoneReason::Internal)`.
    pub error: Option<Error>,
}

/// What a request took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub request: RequestId,
    pub rank_time: Duration,
    /// Absent when no text was written.
    pub first_text_time: Option<Duration>,
    pub total_time: Duration,
    /// How many explanations reached each rung, by [`explanation::rung_name`].
    pub rungs: BTreeMap<String, u32>,
    pub oracle_revision: Revision,
    pub prism_revision: Revision,
    /// Absent when nothing was ranked.
    pub slate_origin: Option<SlateOrigin>,
}

impl Summary {
    /// Counts one explanation.
    pub fn count(&mut self, rung: Rung) {
        *self
            .rungs
            .entry(explanation::rung_name(rung).to_owned())
            .or_default() += 1;
    }
}

pub fn rank_response(slate: &Slate, request: &RequestId, rank_time: Duration) -> proto::RankResponse {
    proto::RankResponse {
        slate: Some(slate::to_proto(slate)),
        request_id: request.0.clone(),
        rank_time: Some(time::to_proto(rank_time)),
    }
}

/// `explained` in the slate's order.
pub fn recommend_response(
    slate: &Slate,
    explained: &[Explained],
    summary: &Summary,
) -> proto::RecommendResponse {
    proto::RecommendResponse {
        slate: Some(slate::to_proto(slate)),
        explanations: explanations(explained),
        summary: Some(summary_to_proto(summary)),
    }
}

/// `explained` in the request's order.
pub fn explain_response(explained: &[Explained], summary: &Summary) -> proto::ExplainResponse {
    proto::ExplainResponse {
        explanations: explanations(explained),
        summary: Some(summary_to_proto(summary)),
    }
}

fn explanations(explained: &[Explained]) -> Vec<crate::proto::r#type::v1::Explanation> {
    explained
        .iter()
        .map(|e| explanation::to_proto(&e.explanation, e.knowledge.as_ref()))
        .collect()
}

/// `request` goes into the details of an item's error.
pub fn stream_recommend_response(event: &Event, request: &RequestId) -> proto::StreamRecommendResponse {
    use proto::stream_recommend_response::Event as Wire;
    let event = match event {
        Event::Slate(slate) => Wire::Slate(slate::to_proto(slate)),
        Event::Delta { position, text } => Wire::Delta(delta_to_proto(*position, text)),
        Event::Explained(explained) => Wire::Explained(explained_to_proto(explained, request)),
        Event::Summary(summary) => Wire::Summary(summary_to_proto(summary)),
    };
    proto::StreamRecommendResponse { event: Some(event) }
}

/// Nothing for a slate, which has no place in this stream.
pub fn stream_explain_response(event: &Event, request: &RequestId) -> Option<proto::StreamExplainResponse> {
    use proto::stream_explain_response::Event as Wire;
    let event = match event {
        Event::Slate(_) => return None,
        Event::Delta { position, text } => Wire::Delta(delta_to_proto(*position, text)),
        Event::Explained(explained) => Wire::Explained(explained_to_proto(explained, request)),
        Event::Summary(summary) => Wire::Summary(summary_to_proto(summary)),
    };
    Some(proto::StreamExplainResponse { event: Some(event) })
}

fn delta_to_proto(position: u32, text: &str) -> proto::Delta {
    proto::Delta {
        position,
        text: text.to_owned(),
    }
}

fn explained_to_proto(explained: &Explained, request: &RequestId) -> proto::ItemExplained {
    proto::ItemExplained {
        position: explained.position,
        explanation: Some(explanation::to_proto(
            &explained.explanation,
            explained.knowledge.as_ref(),
        )),
        error: explained.error.as_ref().map(|error| to_rpc(error, Some(request))),
    }
}

fn summary_to_proto(summary: &Summary) -> proto::Summary {
    proto::Summary {
        request_id: summary.request.0.clone(),
        rank_time: Some(time::to_proto(summary.rank_time)),
        first_text_time: summary.first_text_time.map(time::to_proto),
        total_time: Some(time::to_proto(summary.total_time)),
        rungs: summary.rungs.clone(),
        oracle_revision: summary.oracle_revision.0.clone(),
        prism_revision: summary.prism_revision.0.clone(),
        slate_origin: summary
            .slate_origin
            .map_or(0, |origin| slate::origin_to_proto(origin).into()),
    }
}

pub(super) fn recommend_event_from_proto(
    message: proto::StreamRecommendResponse,
    rules: &Rules,
) -> Result<Event, Error> {
    use proto::stream_recommend_response::Event as Wire;
    let root = Path::ROOT;
    let limits = &rules.limits;
    match root.field("event").required(message.event)? {
        Wire::Slate(slate) => slate::from_proto(slate, &root.field("slate"), limits).map(Event::Slate),
        Wire::Delta(delta) => delta_from_proto(delta, limits),
        Wire::Explained(explained) => explained_from_proto(explained, limits),
        Wire::Summary(summary) => summary_from_proto(Some(summary), limits).map(Event::Summary),
    }
}

pub(super) fn explain_event_from_proto(
    message: proto::StreamExplainResponse,
    rules: &Rules,
) -> Result<Event, Error> {
    use proto::stream_explain_response::Event as Wire;
    let limits = &rules.limits;
    match Path::ROOT.field("event").required(message.event)? {
        Wire::Delta(delta) => delta_from_proto(delta, limits),
        Wire::Explained(explained) => explained_from_proto(explained, limits),
        Wire::Summary(summary) => summary_from_proto(Some(summary), limits).map(Event::Summary),
    }
}

fn delta_from_proto(delta: proto::Delta, limits: &Limits) -> Result<Event, Error> {
    let root = Path::ROOT;
    let path = root.field("delta");
    text::prose(&delta.text, &path.field("text"), limits.explanation_chars_max)?;
    Ok(Event::Delta {
        position: position(delta.position, &path)?,
        text: delta.text,
    })
}

fn explained_from_proto(explained: proto::ItemExplained, limits: &Limits) -> Result<Event, Error> {
    let root = Path::ROOT;
    let path = root.field("explained");
    let position = position(explained.position, &path)?;
    let text_path = path.field("explanation");
    let (explanation, knowledge) =
        explanation::from_proto(text_path.required(explained.explanation)?, &text_path, limits)?;
    let error = explained.error.as_ref().map(from_rpc);
    Ok(Event::Explained(Box::new(Explained {
        position,
        explanation,
        knowledge,
        error,
    })))
}

fn position(position: u32, path: &Path<'_>) -> Result<u32, Error> {
    if position == 0 {
        Err(path.field("position").invalid("does not count from 1"))
    } else {
        Ok(position)
    }
}

/// Explanations of a unary answer, in order; positions count from 1.
pub(super) fn explained_list_from_proto(
    explanations: Vec<crate::proto::r#type::v1::Explanation>,
    limits: &Limits,
) -> Result<Vec<Explained>, Error> {
    let root = Path::ROOT;
    let path = root.field("explanations");
    path.count(explanations.len(), limits.slate_items_max)?;
    let mut position = 0;
    each(explanations, &path, |explanation, path| {
        position += 1;
        let (explanation, knowledge) = explanation::from_proto(explanation, path, limits)?;
        Ok(Explained {
            position,
            explanation,
            knowledge,
            error: None,
        })
    })
}

pub(super) fn summary_from_proto(summary: Option<proto::Summary>, limits: &Limits) -> Result<Summary, Error> {
    let root = Path::ROOT;
    let path = root.field("summary");
    let summary = path.required(summary)?;
    let first_text_path = path.field("first_text_time");
    let first_text_time = summary
        .first_text_time
        .map(|t| time::from_proto(t, &first_text_path))
        .transpose()?;
    let origin_path = path.field("slate_origin");
    let slate_origin = match summary.slate_origin {
        0 => None,
        origin => Some(slate::origin_from_proto(origin, &origin_path)?),
    };
    Ok(Summary {
        request: RequestId(summary.request_id),
        rank_time: time::from_proto_or_zero(summary.rank_time, &path.field("rank_time"))?,
        first_text_time,
        total_time: time::from_proto_or_zero(summary.total_time, &path.field("total_time"))?,
        rungs: summary.rungs,
        oracle_revision: text::revision(summary.oracle_revision, &path.field("oracle_revision"), limits)?,
        prism_revision: text::revision(summary.prism_revision, &path.field("prism_revision"), limits)?,
        slate_origin,
    })
}
