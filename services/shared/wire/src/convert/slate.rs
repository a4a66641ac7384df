//! The list that is shown, and what narrows it.

use std::sync::Arc;

use refract_domain::{AttributeFilter, Error, Slate, SlateItem, SlateOrigin};

use crate::convert::{distinct, each, item, pair};
use crate::limits::Limits;
use crate::path::Path;
use crate::proto::r#type::v1 as proto;
use crate::text;

pub fn to_proto(slate: &Slate) -> proto::Slate {
    proto::Slate {
        items: slate.items.iter().map(place_to_proto).collect(),
        origin: origin_to_proto(slate.origin).into(),
        ranker_revision: slate.ranker_revision.0.clone(),
    }
}

fn place_to_proto(place: &SlateItem) -> proto::SlateItem {
    proto::SlateItem {
        position: place.position,
        score: place.score,
        item: Some(item::to_proto(&place.item)),
        affinities: pair::affinities_to_proto(&place.affinities),
    }
}

pub fn origin_to_proto(origin: SlateOrigin) -> proto::SlateOrigin {
    match origin {
        SlateOrigin::Personal => proto::SlateOrigin::Personal,
        SlateOrigin::Popular => proto::SlateOrigin::Popular,
        SlateOrigin::Given => proto::SlateOrigin::Given,
    }
}

pub fn origin_from_proto(origin: i32, path: &Path<'_>) -> Result<SlateOrigin, Error> {
    match proto::SlateOrigin::try_from(origin) {
        Ok(proto::SlateOrigin::Personal) => Ok(SlateOrigin::Personal),
        Ok(proto::SlateOrigin::Popular) => Ok(SlateOrigin::Popular),
        Ok(proto::SlateOrigin::Given) => Ok(SlateOrigin::Given),
        Ok(proto::SlateOrigin::Unspecified) => Err(path.invalid("is required")),
        Err(_) => Err(path.invalid("is not a known value")),
    }
}

/// Positions count from 1 without gaps, and no item comes twice.
pub fn from_proto(slate: proto::Slate, path: &Path<'_>, limits: &Limits) -> Result<Slate, Error> {
    let items_path = path.field("items");
    items_path.count(slate.items.len(), limits.slate_items_max)?;
    let mut position = 0;
    let items = each(slate.items, &items_path, |place, path| {
        position += 1;
        place_from_proto(place, position, path, limits)
    })?;
    distinct(&items, &items_path, |place| &place.item.id)?;
    Ok(Slate {
        items,
        origin: origin_from_proto(slate.origin, &path.field("origin"))?,
        ranker_revision: text::revision(slate.ranker_revision, &path.field("ranker_revision"), limits)?,
    })
}

fn place_from_proto(
    place: proto::SlateItem,
    position: u32,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<SlateItem, Error> {
    if place.position != position {
        return Err(path.field("position").invalid("does not count up from 1"));
    }
    if !place.score.is_finite() {
        return Err(path.field("score").invalid("is not a finite number"));
    }
    let item_path = path.field("item");
    let item = item::from_proto(item_path.required(place.item)?, &item_path, limits)?;
    let affinities = pair::affinities_from_proto(place.affinities, &path.field("affinities"), limits)?;
    Ok(SlateItem {
        position,
        score: place.score,
        item: Arc::new(item),
        affinities,
    })
}

pub fn filters_to_proto(filters: &[AttributeFilter]) -> Vec<proto::AttributeFilter> {
    let to_proto = |f: &AttributeFilter| proto::AttributeFilter {
        attribute: f.attribute.clone(),
        any_of: f.any_of.clone(),
    };
    filters.iter().map(to_proto).collect()
}

pub fn filters_from_proto(
    filters: Vec<proto::AttributeFilter>,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<Vec<AttributeFilter>, Error> {
    path.count(filters.len(), limits.filters_max)?;
    each(filters, path, |filter, path| {
        text::line(
            &filter.attribute,
            &path.field("attribute"),
            limits.attribute_name_chars_max,
        )?;
        let values_path = path.field("any_of");
        if filter.any_of.is_empty() {
            return Err(values_path.invalid("is empty"));
        }
        values_path.count(filter.any_of.len(), limits.filter_values_max)?;
        for (i, value) in filter.any_of.iter().enumerate() {
            text::line(value, &values_path.index(i), limits.attribute_value_chars_max)?;
        }
        Ok(AttributeFilter {
            attribute: filter.attribute,
            any_of: filter.any_of,
        })
    })
}
