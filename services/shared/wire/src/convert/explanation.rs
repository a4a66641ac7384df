//! Why: the text, what it rests on, how it came.

use refract_domain::{
    Claim, Error, Explanation, FinishReason, Grounding, Knowledge, NoneReason, Rung, StageTimings, TokenUsage,
};

use crate::convert::{each, knowledge, time};
use crate::limits::Limits;
use crate::path::Path;
use crate::proto::r#type::v1 as proto;
use crate::text;

/// `knowledge` is what the explanation was made with, where the caller asked to see it.
pub fn to_proto(explanation: &Explanation, knowledge: Option<&Knowledge>) -> proto::Explanation {
    proto::Explanation {
        text: explanation.text.clone(),
        grounding: Some(grounding_to_proto(&explanation.grounding)),
        finish_reason: finish_to_proto(explanation.finish).into(),
        tokens: Some(proto::TokenUsage {
            prompt: explanation.tokens.prompt,
            generated: explanation.tokens.generated,
        }),
        prism_revision: explanation.prism_revision.0.clone(),
        template_revision: explanation.template_revision.0.clone(),
        history_truncated: explanation.history_truncated,
        timings: Some(timings_to_proto(&explanation.timings)),
        knowledge: knowledge.map(knowledge::to_proto),
    }
}

/// The explanation, and the knowledge that came with it if any.
///
/// Checks what a caller relies on: text exactly when the rung is not `None`, claims on character boundaries of it.
pub fn from_proto(
    explanation: proto::Explanation,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<(Explanation, Option<Knowledge>), Error> {
    let text_path = path.field("text");
    text::prose(&explanation.text, &text_path, limits.explanation_chars_max)?;
    let knowledge_path = path.field("knowledge");
    let knowledge = explanation
        .knowledge
        .map(|k| knowledge::from_proto(k, &knowledge_path, limits))
        .transpose()?;

    let grounding_path = path.field("grounding");
    let grounding = grounding_path.required(explanation.grounding)?;
    let grounding = grounding_from_proto(grounding, &explanation.text, &grounding_path, limits)?;
    if explanation.text.is_empty() != matches!(grounding.rung, Rung::None(_)) {
        return Err(text_path.invalid("must be empty exactly when the rung is NONE"));
    }
    let tokens = explanation.tokens.unwrap_or_default();
    let explanation = Explanation {
        text: explanation.text,
        grounding,
        finish: finish_from_proto(explanation.finish_reason, &path.field("finish_reason"))?,
        tokens: TokenUsage {
            prompt: tokens.prompt,
            generated: tokens.generated,
        },
        prism_revision: text::revision(explanation.prism_revision, &path.field("prism_revision"), limits)?,
        template_revision: text::revision(
            explanation.template_revision,
            &path.field("template_revision"),
            limits,
        )?,
        history_truncated: explanation.history_truncated,
        timings: timings_from_proto(explanation.timings.unwrap_or_default(), &path.field("timings"))?,
    };
    Ok((explanation, knowledge))
}

fn grounding_to_proto(grounding: &Grounding) -> proto::Grounding {
    let (rung, none_reason) = rung_to_proto(grounding.rung);
    proto::Grounding {
        rung: rung.into(),
        none_reason: none_reason.into(),
        claims: grounding.claims.iter().map(claim_to_proto).collect(),
        descents: grounding.descents.clone(),
        knowledge_age: grounding.knowledge_age.map(time::to_proto),
        sentences_refused: grounding.sentences_refused,
    }
}

fn grounding_from_proto(
    grounding: proto::Grounding,
    of_text: &str,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<Grounding, Error> {
    let rung = rung_from_proto(grounding.rung, grounding.none_reason, path)?;
    let claims_path = path.field("claims");
    claims_path.count(grounding.claims.len(), limits.claims_max)?;
    let claims = each(grounding.claims, &claims_path, |claim, path| {
        claim_from_proto(claim, of_text, path, limits)
    })?;
    let descents_path = path.field("descents");
    descents_path.count(grounding.descents.len(), limits.descents_max)?;
    for (i, descent) in grounding.descents.iter().enumerate() {
        text::line(descent, &descents_path.index(i), limits.descent_chars_max)?;
    }
    let age_path = path.field("knowledge_age");
    Ok(Grounding {
        rung,
        claims,
        descents: grounding.descents,
        knowledge_age: grounding
            .knowledge_age
            .map(|age| time::from_proto(age, &age_path))
            .transpose()?,
        sentences_refused: grounding.sentences_refused,
    })
}

fn claim_to_proto(claim: &Claim) -> proto::Claim {
    let byte = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    proto::Claim {
        begin: byte(claim.span.start),
        end: byte(claim.span.end),
        evidence: claim.evidence.iter().map(knowledge::evidence_to_proto).collect(),
    }
}

fn claim_from_proto(
    claim: proto::Claim,
    of_text: &str,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<Claim, Error> {
    let span = claim.begin as usize..claim.end as usize;
    if of_text.get(span.clone()).is_none() {
        return Err(path.invalid("is not a span of the text on character boundaries"));
    }
    // A claim may lean on knowledge that is not in this message, so any index that knowledge can have is fine.
    let evidence =
        knowledge::evidence_list(claim.evidence, &path.field("evidence"), limits.facts_max, limits)?;
    Ok(Claim { span, evidence })
}

pub fn rung_to_proto(rung: Rung) -> (proto::Rung, proto::NoneReason) {
    let none = proto::NoneReason::Unspecified;
    match rung {
        Rung::Fresh => (proto::Rung::Fresh, none),
        Rung::Cached => (proto::Rung::Cached, none),
        Rung::Stale => (proto::Rung::Stale, none),
        Rung::HistoryOnly => (proto::Rung::HistoryOnly, none),
        Rung::Template => (proto::Rung::Template, none),
        Rung::None(reason) => (proto::Rung::None, none_reason_to_proto(reason)),
    }
}

/// The rung by the name it has on the wire (`RUNG_CACHED`), as in a summary's counts.
pub fn rung_name(rung: Rung) -> &'static str {
    rung_to_proto(rung).0.as_str_name()
}

fn none_reason_to_proto(reason: NoneReason) -> proto::NoneReason {
    match reason {
        NoneReason::NotRequested => proto::NoneReason::NotRequested,
        NoneReason::Deadline => proto::NoneReason::Deadline,
        NoneReason::BelowMinimum => proto::NoneReason::BelowMinimum,
        NoneReason::NoEvidence => proto::NoneReason::NoEvidence,
        NoneReason::Internal => proto::NoneReason::Internal,
    }
}

fn rung_from_proto(rung: i32, none_reason: i32, path: &Path<'_>) -> Result<Rung, Error> {
    let rung = match proto::Rung::try_from(rung) {
        Ok(proto::Rung::Fresh) => Rung::Fresh,
        Ok(proto::Rung::Cached) => Rung::Cached,
        Ok(proto::Rung::Stale) => Rung::Stale,
        Ok(proto::Rung::HistoryOnly) => Rung::HistoryOnly,
        Ok(proto::Rung::Template) => Rung::Template,
        Ok(proto::Rung::None) => return none_reason_from_proto(none_reason, path).map(Rung::None),
        Ok(proto::Rung::Unspecified) => return Err(path.field("rung").invalid("is required")),
        Err(_) => return Err(path.field("rung").invalid("is not a known value")),
    };
    if none_reason != i32::from(proto::NoneReason::Unspecified) {
        return Err(path
            .field("none_reason")
            .invalid("is set although there is an explanation"));
    }
    Ok(rung)
}

fn none_reason_from_proto(reason: i32, path: &Path<'_>) -> Result<NoneReason, Error> {
    match proto::NoneReason::try_from(reason) {
        Ok(proto::NoneReason::NotRequested) => Ok(NoneReason::NotRequested),
        Ok(proto::NoneReason::Deadline) => Ok(NoneReason::Deadline),
        Ok(proto::NoneReason::BelowMinimum) => Ok(NoneReason::BelowMinimum),
        Ok(proto::NoneReason::NoEvidence) => Ok(NoneReason::NoEvidence),
        Ok(proto::NoneReason::Internal) => Ok(NoneReason::Internal),
        Ok(proto::NoneReason::Unspecified) => Err(path.field("none_reason").invalid("is required")),
        Err(_) => Err(path.field("none_reason").invalid("is not a known value")),
    }
}

fn finish_to_proto(finish: FinishReason) -> proto::FinishReason {
    match finish {
        FinishReason::Stop => proto::FinishReason::Stop,
        FinishReason::Length => proto::FinishReason::Length,
        FinishReason::Rule => proto::FinishReason::Rule,
        FinishReason::Cut => proto::FinishReason::Cut,
    }
}

fn finish_from_proto(finish: i32, path: &Path<'_>) -> Result<FinishReason, Error> {
    match proto::FinishReason::try_from(finish) {
        Ok(proto::FinishReason::Stop) => Ok(FinishReason::Stop),
        Ok(proto::FinishReason::Length) => Ok(FinishReason::Length),
        Ok(proto::FinishReason::Rule) => Ok(FinishReason::Rule),
        Ok(proto::FinishReason::Cut) => Ok(FinishReason::Cut),
        Ok(proto::FinishReason::Unspecified) => Err(path.invalid("is required")),
        Err(_) => Err(path.invalid("is not a known value")),
    }
}

fn timings_to_proto(timings: &StageTimings) -> proto::StageTimings {
    proto::StageTimings {
        consult: Some(time::to_proto(timings.consult)),
        queue: Some(time::to_proto(timings.queue)),
        encode: Some(time::to_proto(timings.encode)),
        decode: Some(time::to_proto(timings.decode)),
        total: Some(time::to_proto(timings.total)),
        prism: Some(time::to_proto(timings.prism)),
    }
}

fn timings_from_proto(timings: proto::StageTimings, path: &Path<'_>) -> Result<StageTimings, Error> {
    Ok(StageTimings {
        consult: time::from_proto_or_zero(timings.consult, &path.field("consult"))?,
        queue: time::from_proto_or_zero(timings.queue, &path.field("queue"))?,
        encode: time::from_proto_or_zero(timings.encode, &path.field("encode"))?,
        decode: time::from_proto_or_zero(timings.decode, &path.field("decode"))?,
        total: time::from_proto_or_zero(timings.total, &path.field("total"))?,
        prism: time::from_proto_or_zero(timings.prism, &path.field("prism"))?,
    })
}
