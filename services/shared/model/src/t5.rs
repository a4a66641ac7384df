//! T5.
use crate::model::{GenerationDefaults, Spec};

#[derive(Clone, Debug)]
pub struct T5 {
    pub(crate) spec: Spec,
    pub(crate) defaults: GenerationDefaults,
}
