//! How much of everything a message may hold, and how unspoken signals are read.

use refract_domain::{History, ItemId, Signal, Slate, UserId};

use crate::items::Items;

/// Bounds of what is accepted from the network. The defaults are the numbers in the comments of `proto/`.
///
/// Characters are Unicode scalar values, ids are counted in bytes. What is over a bound is refused with the path of the
/// field, except where it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Encoded size of a request at the front door. Default 256 KiB.
    pub request_bytes_max: usize,
    /// Encoded size of a request between services, where every item of a history travels in full. Default 4 MiB.
    pub hop_request_bytes_max: usize,
    /// Encoded size of an answer, or of one message of a stream. Default 1 MiB.
    pub response_bytes_max: usize,
    /// Length of a user's id. Default 128.
    pub user_id_bytes_max: usize,
    /// Length of an item's id. Default 128.
    pub item_id_bytes_max: usize,
    /// Length of a title. Default 300.
    pub title_chars_max: usize,
    /// Length of a description. Default 4,000.
    pub description_chars_max: usize,
    /// Length of a user's own words on an interaction. Default 4,000.
    pub interaction_text_chars_max: usize,
    /// Attribute names of one item. Default 64.
    pub attributes_max: usize,
    /// Values of one attribute. Default 64.
    pub attribute_values_max: usize,
    /// Length of an attribute's name. Default 100.
    pub attribute_name_chars_max: usize,
    /// Length of an attribute's value. Default 300.
    pub attribute_value_chars_max: usize,
    /// Interactions of a history that count. Of more the newest are kept; it is not an error. Default 200.
    pub interactions_max: usize,
    /// Affinities of one pair. Default 200.
    pub affinities_max: usize,
    /// Places of a slate, and the items of a request that brings its own. Default 100.
    pub slate_items_max: usize,
    /// Places of a slate where the request names no number. Default 10.
    pub slate_items_default: usize,
    /// Ids of a candidate set. Default 500.
    pub candidates_max: usize,
    /// Attribute filters of one request. Default 16.
    pub filters_max: usize,
    /// Values of one attribute filter. Default 64.
    pub filter_values_max: usize,
    /// Facts of one pair's knowledge. Default 64.
    pub facts_max: usize,
    /// Length of one fact's clause. Default 1,000.
    pub fact_chars_max: usize,
    /// Things that one statement rests on. Default 64.
    pub evidence_max: usize,
    /// Length of the Oracle's own text. Default 8,000.
    pub knowledge_chars_max: usize,
    /// Length of an explanation. Default 8,000.
    pub explanation_chars_max: usize,
    /// Claims of one explanation. Default 128.
    pub claims_max: usize,
    /// Reasons for descending the ladder in one explanation. Default 16.
    pub descents_max: usize,
    /// Length of one such reason. Default 300.
    pub descent_chars_max: usize,
    /// Length of a revision. Default 200.
    pub revision_chars_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 256 * 1024,
            hop_request_bytes_max: 4 * 1024 * 1024,
            response_bytes_max: 1024 * 1024,
            user_id_bytes_max: UserId::BYTES_MAX,
            item_id_bytes_max: ItemId::BYTES_MAX,
            title_chars_max: 300,
            description_chars_max: 4_000,
            interaction_text_chars_max: 4_000,
            attributes_max: 64,
            attribute_values_max: 64,
            attribute_name_chars_max: 100,
            attribute_value_chars_max: 300,
            interactions_max: History::INTERACTIONS_MAX,
            affinities_max: 200,
            slate_items_max: Slate::ITEMS_MAX,
            slate_items_default: 10,
            candidates_max: 500,
            filters_max: 16,
            filter_values_max: 64,
            facts_max: 64,
            fact_chars_max: 1_000,
            evidence_max: 64,
            knowledge_chars_max: 8_000,
            explanation_chars_max: 8_000,
            claims_max: 128,
            descents_max: 16,
            descent_chars_max: 300,
            revision_chars_max: 200,
        }
    }
}

/// How a rating speaks where the interaction itself does not: the data set's own thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatingScale {
    /// Ratings from here on are likes.
    pub liked_min: f32,
    /// Ratings up to here are dislikes; what lies between was merely seen.
    pub disliked_max: f32,
}

impl RatingScale {
    pub fn signal(&self, rating: f32) -> Signal {
        if rating >= self.liked_min {
            Signal::Liked
        } else if rating <= self.disliked_max {
            Signal::Disliked
        } else {
            Signal::Seen
        }
    }
}

/// Everything that reading a message needs besides the message.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub limits: Limits,
    /// Without one, an interaction that says nothing is a like.
    pub rating_scale: Option<RatingScale>,
    /// What was read before, under these limits; clones share it.
    pub items: Items,
}

impl Rules {
    /// What an interaction means that carries no signal.
    pub fn unspoken_signal(&self, rating: Option<f32>) -> Signal {
        match (self.rating_scale, rating) {
            (Some(scale), Some(rating)) => scale.signal(rating),
            _ => Signal::Liked,
        }
    }
}
