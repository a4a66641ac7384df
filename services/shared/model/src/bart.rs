//! Bart.
use crate::model::{GenerationDefaults, Spec};

#[derive(Clone, Debug)]
pub struct Bart {
    pub(crate) spec: Spec,
    pub(crate) defaults: GenerationDefaults,
}
