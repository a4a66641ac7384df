//! The limits of both sides of a connection.

use std::time::Duration;

use refract_resilience::backoff;
use refract_resilience::limits::{Unfit, ensure};
use serde::{Deserialize, Serialize};

use crate::eject::EjectConfig;
use crate::tls::{ClientTls, ServerTls};

/// How a server listens, and what a peer may cost it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Where to listen; port 0 takes any free one. Default 127.0.0.1:0.
    pub address: String,
    /// Connections at once; more wait in the kernel's queue until one ends. Default 1024.
    pub connections_max: usize,
    /// Calls at once on one connection. Default 128.
    pub streams_per_connection_max: u32,
    /// A connection must send its HTTP/2 preface and first frame header within this. Default 2s.
    #[serde(with = "humantime_serde")]
    pub preface_max: Duration,
    /// Bytes of request headers, names and values and 32 for each. Default 16384.
    pub header_bytes_max: u32,
    /// Streams that the peer's own faults made us reset before the connection is closed ("MadeYouReset"). Default 1024.
    pub local_resets_max: usize,
    /// Streams that the peer may open and reset before we looked at them ("rapid reset"). Default 20.
    pub pending_resets_max: usize,
    /// Bytes that one stream may hold in our send buffer. Default 262144.
    pub send_buffer_bytes_max: usize,
    /// Ping a peer that has been silent this long. Default 30s.
    #[serde(with = "humantime_serde")]
    pub keepalive_every: Duration,
    /// A ping must be answered within this, or the connection is closed. Default 10s.
    #[serde(with = "humantime_serde")]
    pub keepalive_wait_max: Duration,
    /// A connection is asked to go (GOAWAY) at this age, give or take a tenth, so that callers spread over new
    /// replicas. Zero means never. Default 5m.
    #[serde(with = "humantime_serde")]
    pub connection_age_max: Duration,
    /// After that, its calls may take this long; longer than the longest deadline. Default 65s.
    #[serde(with = "humantime_serde")]
    pub connection_grace: Duration,
    /// After GOAWAY, a peer without calls gets this long to close before we do. Default 1s.
    #[serde(with = "humantime_serde")]
    pub linger_max: Duration,
    /// TLS on this port. Without it calls are plaintext: a mesh or a private network has to carry them.
    pub tls: Option<ServerTls>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:0".to_owned(),
            connections_max: 1024,
            streams_per_connection_max: 128,
            preface_max: Duration::from_secs(2),
            header_bytes_max: 16 << 10,
            local_resets_max: 1024,
            pending_resets_max: 20,
            send_buffer_bytes_max: 256 << 10,
            keepalive_every: Duration::from_secs(30),
            keepalive_wait_max: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(300),
            connection_grace: Duration::from_secs(65),
            linger_max: Duration::from_secs(1),
            tls: None,
        }
    }
}

impl ListenConfig {
    /// The defaults at another address.
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            ..Self::default()
        }
    }

    pub fn check(&self) -> Result<(), Unfit> {
        if let Some(tls) = &self.tls {
            tls.check().map_err(|unfit| unfit.within("tls"))?;
        }
        ensure(
            self.address.contains(':'),
            "address",
            "must be host:port, such as 0.0.0.0:8101",
        )?;
        ensure(self.connections_max >= 1, "connections_max", "must be at least 1")?;
        ensure(
            self.streams_per_connection_max >= 1,
            "streams_per_connection_max",
            "must be at least 1",
        )?;
        ensure(
            !self.preface_max.is_zero(),
            "preface_max",
            "must be longer than zero",
        )?;
        ensure(
            self.header_bytes_max >= 1024,
            "header_bytes_max",
            "must be at least 1024: a gRPC call needs that much",
        )?;
        ensure(
            self.local_resets_max >= 1,
            "local_resets_max",
            "must be at least 1",
        )?;
        ensure(
            self.send_buffer_bytes_max >= 1024,
            "send_buffer_bytes_max",
            "must be at least 1024",
        )?;
        ensure(
            !self.keepalive_every.is_zero(),
            "keepalive_every",
            "must be longer than zero",
        )?;
        ensure(
            !self.keepalive_wait_max.is_zero(),
            "keepalive_wait_max",
            "must be longer than zero",
        )
    }
}

/// How a client connects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DialConfig {
    /// A connection must stand, and the server have spoken, within this. Default 500ms.
    #[serde(with = "humantime_serde")]
    pub connect_max: Duration,
    /// A call waits this long for a first or renewed connection that is being made; when every endpoint is known to be
    /// unreachable, it does not wait at all. Default 1s.
    #[serde(with = "humantime_serde")]
    pub ready_wait_max: Duration,
    /// Waits between attempts to connect.
    pub backoff: backoff::Config,
    /// Connections to each endpoint. Default 1.
    pub connections_per_endpoint: usize,
    /// Calls at once on one connection, also those that wait for a stream; more are refused. Default 1024.
    pub calls_per_connection_max: usize,
    /// Endpoints of one target; more are ignored, with a warning. Default 256.
    pub endpoints_max: usize,
    /// How often names are looked up again; also after each lost connection. Default 5s.
    #[serde(with = "humantime_serde")]
    pub resolve_every: Duration,
    /// Ping a server that has been silent this long, also between calls. Default 10s.
    #[serde(with = "humantime_serde")]
    pub keepalive_every: Duration,
    /// A ping must be answered within this, or the connection is given up. Default 3s.
    #[serde(with = "humantime_serde")]
    pub keepalive_wait_max: Duration,
    /// Bytes of response headers and trailers. Default 16384.
    pub header_bytes_max: u32,
    /// When an endpoint that fails or is slow is left out.
    pub eject: EjectConfig,
    /// TLS to the server. Without it calls are plaintext.
    pub tls: Option<ClientTls>,
}

impl Default for DialConfig {
    fn default() -> Self {
        Self {
            connect_max: Duration::from_millis(500),
            ready_wait_max: Duration::from_secs(1),
            backoff: backoff::Config::default(),
            connections_per_endpoint: 1,
            calls_per_connection_max: 1024,
            endpoints_max: 256,
            resolve_every: Duration::from_secs(5),
            keepalive_every: Duration::from_secs(10),
            keepalive_wait_max: Duration::from_secs(3),
            header_bytes_max: 16 << 10,
            eject: EjectConfig::default(),
            tls: None,
        }
    }
}

impl DialConfig {
    pub fn check(&self) -> Result<(), Unfit> {
        if let Some(tls) = &self.tls {
            tls.check().map_err(|unfit| unfit.within("tls"))?;
        }
        ensure(
            !self.connect_max.is_zero(),
            "connect_max",
            "must be longer than zero",
        )?;
        self.backoff.check().map_err(|unfit| unfit.within("backoff"))?;
        self.eject.check().map_err(|unfit| unfit.within("eject"))?;
        ensure(
            (1..=16).contains(&self.connections_per_endpoint),
            "connections_per_endpoint",
            "must be from 1 to 16",
        )?;
        ensure(
            self.calls_per_connection_max >= 1,
            "calls_per_connection_max",
            "must be at least 1",
        )?;
        ensure(self.endpoints_max >= 1, "endpoints_max", "must be at least 1")?;
        ensure(
            !self.resolve_every.is_zero(),
            "resolve_every",
            "must be longer than zero",
        )?;
        ensure(
            !self.keepalive_every.is_zero(),
            "keepalive_every",
            "must be longer than zero",
        )?;
        ensure(
            !self.keepalive_wait_max.is_zero(),
            "keepalive_wait_max",
            "must be longer than zero",
        )?;
        ensure(
            self.header_bytes_max >= 1024,
            "header_bytes_max",
            "must be at least 1024",
        )
    }
}
