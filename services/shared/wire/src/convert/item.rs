//! Items, and items that are only named.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use refract_domain::{Attributes, Error, Item, ItemId, Resource};

use crate::limits::Limits;
use crate::path::Path;
use crate::proto::r#type::v1 as proto;
use crate::text;

pub fn to_proto(item: &Item) -> proto::Item {
    let attributes = item.attributes.iter();
    proto::Item {
        id: item.id.as_str().to_owned(),
        title: item.title.clone(),
        attributes: attributes
            .map(|(k, v)| (k.clone(), proto::AttributeValues { values: v.clone() }))
            .collect(),
        description: item.description.clone(),
    }
}

/// As a field of another message holds it.
pub fn encoded(item: &Item) -> Bytes {
    to_proto(item).encode_to_vec().into()
}

/// An item in full: with a title.
pub fn from_proto(item: proto::Item, path: &Path<'_>, limits: &Limits) -> Result<Item, Error> {
    let id = text::item_id(item.id, &path.field("id"), limits)?;
    text::line(&item.title, &path.field("title"), limits.title_chars_max)?;
    text::prose(
        &item.description,
        &path.field("description"),
        limits.description_chars_max,
    )?;
    let attributes = attributes(item.attributes, &path.field("attributes"), limits)?;
    Ok(Item {
        id,
        title: item.title,
        attributes,
        description: item.description,
    })
}

fn attributes(
    attributes: BTreeMap<String, proto::AttributeValues>,
    path: &Path<'_>,
    limits: &Limits,
) -> Result<Attributes, Error> {
    path.count(attributes.len(), limits.attributes_max)?;
    let mut read = Attributes::new();
    for (i, (name, proto::AttributeValues { values })) in attributes.into_iter().enumerate() {
        // The name is the caller's text: the path counts attributes in the order of their names.
        let path = path.index(i);
        text::line(&name, &path.field("name"), limits.attribute_name_chars_max)?;
        let path = path.field("values");
        path.count(values.len(), limits.attribute_values_max)?;
        for (j, value) in values.iter().enumerate() {
            text::line(value, &path.index(j), limits.attribute_value_chars_max)?;
        }
        read.insert(name, values);
    }
    Ok(read)
}

/// An item as the front door takes it.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemRef {
    /// As the request describes it.
    Whole(Arc<Item>),
    /// By id alone: the catalogue holds it.
    Named {
        id: ItemId,
        /// Where the request names it, for errors.
        field: String,
    },
}

impl ItemRef {
    /// The item, as the request describes it or else as the catalogue does.
    pub fn resolve(&self, catalogue: impl Fn(&ItemId) -> Option<Arc<Item>>) -> Result<Arc<Item>, Error> {
        match self {
            Self::Whole(item) => Ok(Arc::clone(item)),
            Self::Named { id, field } => catalogue(id).ok_or_else(|| Error::NotFound {
                resource: Resource::Item,
                field: format!("{field}.id"),
            }),
        }
    }

    pub fn id(&self) -> &ItemId {
        match self {
            Self::Whole(item) => &item.id,
            Self::Named { id, .. } => id,
        }
    }

    pub fn to_proto(&self) -> proto::Item {
        match self {
            Self::Whole(item) => to_proto(item),
            Self::Named { id, .. } => proto::Item {
                id: id.as_str().to_owned(),
                ..Default::default()
            },
        }
    }

    /// An item with nothing but an id is a name; with anything else it must be whole.
    pub fn from_proto(item: proto::Item, path: &Path<'_>, limits: &Limits) -> Result<Self, Error> {
        if item.title.is_empty() && item.attributes.is_empty() && item.description.is_empty() {
            return Ok(Self::Named {
                id: text::item_id(item.id, &path.field("id"), limits)?,
                field: path.to_string(),
            });
        }
        Ok(Self::Whole(Arc::new(from_proto(item, path, limits)?)))
    }
}
