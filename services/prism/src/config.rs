//! The Prism service's configuration. Doc comments are the manual.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data port.
    pub listen: refract_net::ListenConfig,
    /// Who may call it, and for which tenant.
    pub callers: refract_station::callers::Config,
    /// Warm-up, admin port, drain.
    pub process: refract_chassis::process::Config,
    /// The bundle and its engine's limits.
    pub worker: refract_worker::Config,
    /// Longest that a call may take, and the deadline of a caller who sets none.
    #[serde(with = "humantime_serde")]
    pub call_cap: Duration,
    /// Bytes for items of histories that were read from requests before and are found again by their bytes. Default 33554432.
    pub items_bytes_max: u64,
    /// Generations tried, each in another style, before the template speaks. Default 2.
    pub attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: refract_net::ListenConfig::default(),
            callers: refract_station::callers::Config::default(),
            process: refract_chassis::process::Config::default(),
            worker: refract_worker::Config::default(),
            call_cap: Duration::from_secs(30),
            items_bytes_max: refract_wire::Items::BYTES_DEFAULT,
            attempts_max: 2,
        }
    }
}

impl Config {
    /// Relations between the limits; an error names the key.
    pub fn check(&self) -> Result<(), refract_resilience::limits::Unfit> {
        self.listen.check().map_err(|unfit| unfit.within("listen"))?;
        self.process.check().map_err(|unfit| unfit.within("process"))?;
        refract_resilience::limits::ensure(self.attempts_max >= 1, "attempts_max", "must be at least 1")?;
        refract_resilience::limits::ensure(!self.call_cap.is_zero(), "call_cap", "must be longer than zero")
    }
}
