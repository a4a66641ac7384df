//! One user and one item, with what others' behaviour says about them.

use std::sync::Arc;

use refract_domain::{Affinity, Error, Item, Pair, TenantId, UserId};

use crate::convert::{each, item};
use crate::limits::Limits;
use crate::path::Path;
use crate::proto::r#type::v1 as proto;
use crate::text;

pub fn affinity_to_proto(affinity: &Affinity) -> proto::Affinity {
    proto::Affinity {
        item_id: affinity.item.as_str().to_owned(),
        lift: affinity.lift,
        support: affinity.support,
    }
}

pub fn affinities_to_proto(affinities: &[Affinity]) -> Vec<proto::Affinity> {
    affinities.iter().map(affinity_to_proto).collect()
}

pub fn affinities_from_proto(
    affinities: Vec<proto::Affinity>,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<Vec<Affinity>, Error> {
    path.count(affinities.len(), limits.affinities_max)?;
    each(affinities, path, |affinity, path| {
        let item = text::item_id(affinity.item_id, &path.field("item_id"), limits)?;
        let lift = lift(affinity.lift, &path.field("lift"))?;
        Ok(Affinity {
            item,
            lift,
            support: affinity.support,
        })
    })
}

/// A ratio of probabilities.
pub(crate) fn lift(lift: f32, path: &Path<'_>) -> Result<f32, Error> {
    if lift.is_finite() && lift >= 0.0 {
        Ok(lift)
    } else {
        Err(path.invalid("is not a finite number from 0 up"))
    }
}

/// The parts of a pair as a message holds them; the tenant is not among them, since nobody may choose it.
#[derive(Debug)]
pub struct PairParts {
    pub user_id: String,
    pub item: Option<proto::Item>,
    pub affinities: Vec<proto::Affinity>,
}

pub fn to_parts(pair: &Pair) -> PairParts {
    PairParts {
        user_id: pair
            .user
            .as_ref()
            .map_or_else(String::new, |user: &UserId| user.expose().to_owned()),
        item: Some(item::to_proto(&pair.item)),
        affinities: affinities_to_proto(&pair.affinities),
    }
}

pub fn from_parts(
    parts: PairParts,
    tenant: TenantId,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<Pair, Error> {
    let user = text::user_id_or_none(parts.user_id, &path.field("user_id"), limits)?;
    let item_path = path.field("item");
    let item: Item = item::from_proto(item_path.required(parts.item)?, &item_path, limits)?;
    let affinities = affinities_from_proto(parts.affinities, &path.field("affinities"), limits)?;
    Ok(Pair {
        tenant,
        user,
        item: Arc::new(item),
        affinities,
    })
}
