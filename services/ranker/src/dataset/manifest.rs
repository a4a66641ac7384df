//! `dataset.toml`: what a data set is called, whose it is, and what its ratings mean.

use refract_domain::Signal;
use serde::{Deserialize, Serialize};

/// The content of `dataset.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// Under which terms the data may be used, as a person would say it.
    #[serde(default)]
    pub licence: String,
    /// True if the users and their ratings were made up; said wherever the data are shown.
    #[serde(default)]
    pub synthetic: bool,
    /// Absent for data without ratings: then every interaction is a like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<Rating>,
}

/// The rating scale and what its values say about taste.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rating {
    pub min: f32,
    pub max: f32,
    /// Ratings from here up are likes.
    pub liked_at: f32,
    /// Ratings from here down are dislikes. Below `liked_at`.
    pub disliked_at: f32,
    /// What an interaction without a rating says.
    #[serde(default)]
    pub unrated: Unrated,
}

/// What an interaction without a rating says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unrated {
    Liked,
    #[default]
    Seen,
}

impl Manifest {
    /// What an interaction with this rating says about taste.
    pub fn signal(&self, rating: Option<f32>) -> Signal {
        match (&self.rating, rating) {
            (None, _) => Signal::Liked,
            (Some(scale), None) if scale.unrated == Unrated::Liked => Signal::Liked,
            (Some(_), None) => Signal::Seen,
            (Some(scale), Some(r)) if r >= scale.liked_at => Signal::Liked,
            (Some(scale), Some(r)) if r <= scale.disliked_at => Signal::Disliked,
            (Some(_), Some(_)) => Signal::Seen,
        }
    }

    /// The first thing that is wrong, as field and reason.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.name.trim().is_empty() {
            return Err(("name", "must not be empty".to_owned()));
        }
        let Some(r) = &self.rating else { return Ok(()) };
        if [r.min, r.max, r.liked_at, r.disliked_at]
            .iter()
            .any(|v| !v.is_finite())
        {
            return Err(("rating", "every value must be a finite number".to_owned()));
        }
        if r.min >= r.max {
            return Err((
                "rating.min",
                format!("{} must be below rating.max, {}", r.min, r.max),
            ));
        }
        if r.disliked_at >= r.liked_at {
            let reason = format!("{} must be below rating.liked_at, {}", r.disliked_at, r.liked_at);
            return Err(("rating.disliked_at", reason));
        }
        if r.liked_at > r.max {
            return Err((
                "rating.liked_at",
                format!("{} is above rating.max, {}: nothing is liked", r.liked_at, r.max),
            ));
        }
        Ok(())
    }
}
