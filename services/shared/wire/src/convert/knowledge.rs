//! What the Oracle says, and what it rests on.

use prost::Message as _;
use refract_domain::{Error, Evidence, Fact, FactKind, Freshness, Knowledge, Timestamp};

use crate::convert::{each, pair};
use crate::limits::Limits;
use crate::path::Path;
use crate::proto::knowledge::v1::StoredKnowledge;
use crate::proto::r#type::v1 as proto;
use crate::text;

pub fn to_proto(knowledge: &Knowledge) -> proto::Knowledge {
    let (freshness, age_s) = match knowledge.freshness {
        Freshness::Fresh => (proto::Freshness::Fresh, 0),
        Freshness::Cached { age_s } => (proto::Freshness::Cached, age_s),
        Freshness::Stale { age_s } => (proto::Freshness::Stale, age_s),
    };
    proto::Knowledge {
        facts: knowledge.facts.iter().map(fact_to_proto).collect(),
        text: knowledge.text.clone(),
        oracle_revision: knowledge.oracle_revision.0.clone(),
        template_revision: knowledge.template_revision.0.clone(),
        created_unix_s: knowledge.created_at.0,
        freshness: freshness.into(),
        age_s,
        facts_refused: knowledge.facts_refused,
        history_truncated: knowledge.history_truncated,
    }
}

/// An `Evidence::Fact` inside a fact is refused: facts rest on the request, not on each other.
pub fn from_proto(knowledge: proto::Knowledge, path: &Path<'_>, limits: &Limits) -> Result<Knowledge, Error> {
    let facts_path = path.field("facts");
    facts_path.count(knowledge.facts.len(), limits.facts_max)?;
    let facts = each(knowledge.facts, &facts_path, |fact, path| {
        fact_from_proto(fact, path, limits)
    })?;
    text::prose(&knowledge.text, &path.field("text"), limits.knowledge_chars_max)?;
    let age_s = knowledge.age_s;
    let freshness = match proto::Freshness::try_from(knowledge.freshness) {
        Ok(proto::Freshness::Fresh) => Freshness::Fresh,
        Ok(proto::Freshness::Cached) => Freshness::Cached { age_s },
        Ok(proto::Freshness::Stale) => Freshness::Stale { age_s },
        Ok(proto::Freshness::Unspecified) => return Err(path.field("freshness").invalid("is required")),
        Err(_) => return Err(path.field("freshness").invalid("is not a known value")),
    };
    Ok(Knowledge {
        facts,
        text: knowledge.text,
        oracle_revision: text::revision(knowledge.oracle_revision, &path.field("oracle_revision"), limits)?,
        template_revision: text::revision(
            knowledge.template_revision,
            &path.field("template_revision"),
            limits,
        )?,
        created_at: Timestamp(knowledge.created_unix_s),
        freshness,
        facts_refused: knowledge.facts_refused,
        history_truncated: knowledge.history_truncated,
    })
}

/// The bytes in which knowledge is remembered.
pub fn to_stored(knowledge: &Knowledge) -> Vec<u8> {
    StoredKnowledge {
        knowledge: Some(to_proto(knowledge)),
    }
    .encode_to_vec()
}

/// Reads what was remembered, as strictly as what comes from the network.
pub fn from_stored(bytes: &[u8], limits: &Limits) -> Result<Knowledge, Error> {
    let root = Path::ROOT;
    let path = root.field("knowledge");
    let stored: StoredKnowledge = path.decode(bytes)?;
    from_proto(path.required(stored.knowledge)?, &path, limits)
}

fn fact_to_proto(fact: &Fact) -> proto::Fact {
    let mut wire = proto::Fact {
        text: fact.text.clone(),
        evidence: fact.evidence.iter().map(evidence_to_proto).collect(),
        ..Default::default()
    };
    let kind = match &fact.kind {
        FactKind::Shared { attribute, value } => {
            wire.attribute = attribute.clone();
            wire.value = value.clone();
            proto::FactKind::Shared
        }
        FactKind::CoLiked { lift } => {
            wire.lift = *lift;
            proto::FactKind::CoLiked
        }
        FactKind::Premise => proto::FactKind::Premise,
        FactKind::Unrelated => proto::FactKind::Unrelated,
        FactKind::Statement => proto::FactKind::Statement,
    };
    wire.set_kind(kind);
    wire
}

fn fact_from_proto(fact: proto::Fact, path: &Path<'_>, limits: &Limits) -> Result<Fact, Error> {
    let kind = match proto::FactKind::try_from(fact.kind) {
        Ok(proto::FactKind::Shared) => {
            text::line(
                &fact.attribute,
                &path.field("attribute"),
                limits.attribute_name_chars_max,
            )?;
            text::line(
                &fact.value,
                &path.field("value"),
                limits.attribute_value_chars_max,
            )?;
            FactKind::Shared {
                attribute: fact.attribute,
                value: fact.value,
            }
        }
        Ok(proto::FactKind::CoLiked) => FactKind::CoLiked {
            lift: pair::lift(fact.lift, &path.field("lift"))?,
        },
        Ok(proto::FactKind::Premise) => FactKind::Premise,
        Ok(proto::FactKind::Unrelated) => FactKind::Unrelated,
        Ok(proto::FactKind::Statement) => FactKind::Statement,
        Ok(proto::FactKind::Unspecified) => return Err(path.field("kind").invalid("is required")),
        Err(_) => return Err(path.field("kind").invalid("is not a known value")),
    };
    text::prose(&fact.text, &path.field("text"), limits.fact_chars_max)?;
    let evidence = evidence_list(fact.evidence, &path.field("evidence"), 0, limits)?;
    Ok(Fact {
        kind,
        text: fact.text,
        evidence,
    })
}

/// Reads a list of evidence that may point at the first `facts` facts of some knowledge.
pub(crate) fn evidence_list(
    evidence: Vec<proto::Evidence>,
    path: &Path<'_>,
    facts: usize,
    limits: &Limits,
) -> Result<Vec<Evidence>, Error> {
    path.count(evidence.len(), limits.evidence_max)?;
    each(evidence, path, |evidence, path| {
        evidence_from_proto(evidence, path, facts, limits)
    })
}

pub(crate) fn evidence_to_proto(evidence: &Evidence) -> proto::Evidence {
    use proto::evidence::Kind;
    let id = |item: &refract_domain::ItemId| item.as_str().to_owned();
    let kind = match evidence {
        Evidence::History { item } => Kind::History(proto::HistoryEvidence { item_id: id(item) }),
        Evidence::Attribute { item, name, value } => Kind::Attribute(proto::AttributeEvidence {
            item_id: id(item),
            name: name.clone(),
            value: value.clone(),
        }),
        Evidence::Description { item } => Kind::Description(proto::DescriptionEvidence { item_id: id(item) }),
        Evidence::Affinity { item } => Kind::Affinity(proto::AffinityEvidence { item_id: id(item) }),
        Evidence::Fact { index } => Kind::Fact(proto::FactEvidence {
            index: u32::try_from(*index).unwrap_or(u32::MAX),
        }),
    };
    proto::Evidence { kind: Some(kind) }
}

fn evidence_from_proto(
    evidence: proto::Evidence,
    path: &Path<'_>,
    facts: usize,
    limits: &Limits,
) -> Result<Evidence, Error> {
    use proto::evidence::Kind;
    let item = |id, kind: &'static str| text::item_id(id, &path.field(kind).field("item_id"), limits);
    Ok(match path.required(evidence.kind)? {
        Kind::History(e) => Evidence::History {
            item: item(e.item_id, "history")?,
        },
        Kind::Attribute(e) => {
            let path = path.field("attribute");
            text::line(&e.name, &path.field("name"), limits.attribute_name_chars_max)?;
            text::line(&e.value, &path.field("value"), limits.attribute_value_chars_max)?;
            Evidence::Attribute {
                item: item(e.item_id, "attribute")?,
                name: e.name,
                value: e.value,
            }
        }
        Kind::Description(e) => Evidence::Description {
            item: item(e.item_id, "description")?,
        },
        Kind::Affinity(e) => Evidence::Affinity {
            item: item(e.item_id, "affinity")?,
        },
        Kind::Fact(e) => match usize::try_from(e.index) {
            Ok(index) if index < facts => Evidence::Fact { index },
            _ => return Err(path.field("fact").field("index").invalid("points at no fact")),
        },
    })
}
