//! How a `Config` says that its limits do not fit together.

/// A limit that cannot hold: which key, and why. Reported at start, before anything binds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct Unfit {
    /// The key as the configuration writes it, without its section.
    pub key: String,
    pub reason: String,
}

impl Unfit {
    pub fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            reason: reason.into(),
        }
    }

    /// The same complaint seen from one section further out: `window` becomes `breaker.window`.
    #[must_use]
    pub fn within(self, section: &str) -> Self {
        Self {
            key: format!("{section}.{}", self.key),
            ..self
        }
    }
}

/// Complains about `key` unless `holds`.
pub fn ensure(holds: bool, key: &str, reason: &str) -> Result<(), Unfit> {
    if holds {
        Ok(())
    } else {
        Err(Unfit::new(key, reason))
    }
}
