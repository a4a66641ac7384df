//! What a user did.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use refract_domain::{Error, History, Interaction, Item, ItemId, Signal, Timestamp};

use crate::convert::each;
use crate::convert::item::ItemRef;
use crate::limits::Rules;
use crate::path::Path;
use crate::proto::r#type::v1 as proto;
use crate::text;

/// `encoded` is [`item::encoded`], or remembers what it said.
pub fn to_proto(history: &History, encoded: impl Fn(&Arc<Item>) -> Bytes) -> proto::History {
    let interactions = history.interactions().iter();
    interactions
        .map(|interaction| interaction_to_proto(interaction, encoded(&interaction.item)))
        .collect()
}

fn interaction_to_proto(interaction: &Interaction, item: Bytes) -> proto::Interaction {
    proto::Interaction {
        item: Some(item),
        time_unix_s: interaction.at.0,
        signal: signal_to_proto(interaction.signal).into(),
        rating: interaction.rating,
        text: interaction.text.clone(),
    }
}

pub fn signal_to_proto(signal: Signal) -> proto::Signal {
    match signal {
        Signal::Liked => proto::Signal::Liked,
        Signal::Seen => proto::Signal::Seen,
        Signal::Disliked => proto::Signal::Disliked,
    }
}

/// A history whose items are all given in full, as services tell each other.
pub fn from_proto(history: proto::History, path: &Path<'_>, rules: &Rules) -> Result<History, Error> {
    let refs = refs_from_proto(history, path, rules)?;
    let whole = |r: InteractionRef| match r.item.clone() {
        ItemRef::Whole(item) => Ok(r.with(item)),
        ItemRef::Named { field, .. } => Err(Error::invalid(format!("{field}.title"), "is empty")),
    };
    let interactions = refs.into_iter().map(whole).collect::<Result<_, Error>>()?;
    Ok(History::new(interactions))
}

/// An interaction as the front door takes it: its item may only be named.
#[derive(Clone, Debug, PartialEq)]
pub struct InteractionRef {
    pub item: ItemRef,
    pub at: Timestamp,
    pub signal: Signal,
    pub rating: Option<f32>,
    pub text: Option<String>,
}

impl InteractionRef {
    fn with(self, item: Arc<Item>) -> Interaction {
        Interaction {
            item,
            at: self.at,
            signal: self.signal,
            rating: self.rating,
            text: self.text,
        }
    }

    pub fn to_proto(&self) -> proto::Interaction {
        proto::Interaction {
            item: Some(self.item.to_proto().encode_to_vec().into()),
            time_unix_s: self.at.0,
            signal: signal_to_proto(self.signal).into(),
            rating: self.rating,
            text: self.text.clone(),
        }
    }
}

/// The history itself, items from the request or else from the catalogue. An item that neither knows is an error that
/// names it.
pub fn resolve(
    interactions: &[InteractionRef],
    catalogue: impl Fn(&ItemId) -> Option<Arc<Item>>,
) -> Result<History, Error> {
    let interactions = interactions
        .iter()
        .map(|r| Ok(r.clone().with(r.item.resolve(&catalogue)?)));
    Ok(History::new(interactions.collect::<Result<_, Error>>()?))
}

/// Reads every interaction and keeps the newest `interactions_max`, oldest first.
pub fn refs_from_proto(
    history: proto::History,
    path: &Path<'_>,
    rules: &Rules,
) -> Result<Vec<InteractionRef>, Error> {
    let path = path.field("interactions");
    let mut refs = each(history.interactions, &path, |encoded, path| {
        ref_from_proto(path.decode(encoded)?, path, rules)
    })?;
    refs.sort_by_key(|r| r.at);
    refs.drain(..refs.len().saturating_sub(rules.limits.interactions_max));
    Ok(refs)
}

fn ref_from_proto(
    interaction: proto::Interaction,
    path: &Path<'_>,
    rules: &Rules,
) -> Result<InteractionRef, Error> {
    let limits = &rules.limits;
    let item_path = path.field("item");
    let item = item_path.required(interaction.item)?;
    let item = rules.items.read(&item, &item_path, limits)?;
    if interaction.rating.is_some_and(|r| !r.is_finite()) {
        return Err(path.field("rating").invalid("is not a finite number"));
    }
    let signal = match proto::Signal::try_from(interaction.signal) {
        Ok(proto::Signal::Unspecified) => rules.unspoken_signal(interaction.rating),
        Ok(proto::Signal::Liked) => Signal::Liked,
        Ok(proto::Signal::Seen) => Signal::Seen,
        Ok(proto::Signal::Disliked) => Signal::Disliked,
        Err(_) => return Err(path.field("signal").invalid("is not a known value")),
    };
    if let Some(words) = &interaction.text {
        text::prose(words, &path.field("text"), limits.interaction_text_chars_max)?;
    }
    Ok(InteractionRef {
        item,
        at: Timestamp(interaction.time_unix_s),
        signal,
        rating: interaction.rating,
        text: interaction.text,
    })
}
