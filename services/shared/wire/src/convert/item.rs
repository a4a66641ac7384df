//! Items, and items that are only named.

use std::collections::BTreeMap;
use std::sync::Arc;

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

/// An item as the front door takes it: in full, or by id alone where the catalogue holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemRef {
    pub id: ItemId,
    /// As the request describes it; absent when the request only names it.
    pub inline: Option<Arc<Item>>,
    /// Where the request names it, for errors.
    pub field: String,
}

impl ItemRef {
    /// The item, as the request describes it or else as the catalogue does.
    pub fn resolve(&self, catalogue: impl Fn(&ItemId) -> Option<Arc<Item>>) -> Result<Arc<Item>, Error> {
        let item = self.inline.clone().or_else(|| catalogue(&self.id));
        item.ok_or_else(|| Error::NotFound {
            resource: Resource::Item,
            field: format!("{}.id", self.field),
        })
    }

    pub fn to_proto(&self) -> proto::Item {
        match &self.inline {
            Some(item) => to_proto(item),
            None => proto::Item {
                id: self.id.as_str().to_owned(),
                ..Default::default()
            },
        }
    }

    /// An item with nothing but an id is a name; with anything else it must be whole.
    pub fn from_proto(item: proto::Item, path: &Path<'_>, limits: &Limits) -> Result<Self, Error> {
        let field = path.to_string();
        if item.title.is_empty() && item.attributes.is_empty() && item.description.is_empty() {
            let id = text::item_id(item.id, &path.field("id"), limits)?;
            return Ok(Self {
                id,
                inline: None,
                field,
            });
        }
        let item = from_proto(item, path, limits)?;
        Ok(Self {
            id: item.id.clone(),
            inline: Some(Arc::new(item)),
            field,
        })
    }
}
