//! The limits of both sides of a connection.

use std::time::Duration;

use refract_resilience::backoff;
use refract_resilience::limits::{Unfit, ensure};
use serde::{Deserialize, Serialize};

use crate::eject::EjectConfig;
use crate::tls::{ClientTls, ServerTls};

/// What HTTP/2 lets a window be: the one that every stream begins with, and the largest.
const WINDOW_BYTES_MIN: u32 = 65_535;
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

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
    /// Streams that the peer may open and reset before we looked at them ("rapid reset"); one more closes the connection
    /// with all its calls. Whatever lies in the socket is read before any of it is looked at, so callers who give up
    /// together, or a proxy's, reach several times `streams_per_connection_max` honestly after a moment's delay.
    /// Default 512.
    pub pending_resets_max: usize,
    /// Bytes of one call's messages that may have come and not been read yet. Default 524288.
    pub stream_window_bytes_max: u32,
    /// The same for all calls of a connection: several times as many, or one caller who sends faster than he is read
    /// would keep the others on his connection, and its health checks, from being heard. Default 4194304.
    pub connection_window_bytes_max: u32,
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
    /// After that, the calls it has may go on for this long. Most end by their deadlines; streams without one (labelling,
    /// health watches) may last for hours, and keep their old connection while new calls go elsewhere. Default 24h.
    #[serde(with = "humantime_serde")]
    pub connection_grace: Duration,
    /// After GOAWAY, a peer that has no calls, says nothing and has been sent everything gets this long to close before
    /// we do. Default 1s.
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
            pending_resets_max: 512,
            stream_window_bytes_max: 512 << 10,
            connection_window_bytes_max: 4 << 20,
            send_buffer_bytes_max: 256 << 10,
            keepalive_every: Duration::from_secs(30),
            keepalive_wait_max: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(300),
            connection_grace: Duration::from_secs(24 * 3600),
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
            self.pending_resets_max >= self.streams_per_connection_max as usize,
            "pending_resets_max",
            "must be at least streams_per_connection_max: a peer that gives up all its calls is no attacker",
        )?;
        ensure(
            (WINDOW_BYTES_MIN..=WINDOW_BYTES_MAX).contains(&self.stream_window_bytes_max),
            "stream_window_bytes_max",
            "must be from 65535 to 2147483647, as HTTP/2 has it",
        )?;
        ensure(
            self.connection_window_bytes_max <= WINDOW_BYTES_MAX
                && self.connection_window_bytes_max / 2 >= self.stream_window_bytes_max,
            "connection_window_bytes_max",
            "must be at least twice stream_window_bytes_max, and at most 2147483647",
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
    /// Answers that may come for calls given up and forgotten, over a connection's life; one more closes it with all its
    /// calls. As many calls as `calls_per_connection_max` are remembered for a second after they were given up, and late
    /// answers to those cost nothing. A server that is late is no attacker, so this is large. Default 1000000.
    pub late_answers_max: usize,
    /// Bytes of a request that are kept until its answer begins, so that a call which the server says it never looked at
    /// (GOAWAY, REFUSED_STREAM) is sent again instead of failing. Default 1048576.
    pub resend_bytes_max: usize,
    /// Ask a server that has been silent this long whether it lives, also between calls. Default 10s.
    #[serde(with = "humantime_serde")]
    pub keepalive_every: Duration,
    /// It must answer within this, or the connection is given up. Default 3s.
    #[serde(with = "humantime_serde")]
    pub keepalive_wait_max: Duration,
    /// Whether the server's program is asked (an HTTP/2 ping), or only its machine (TCP keep-alive). Programs made with
    /// stock gRPC close connections that ping them more than every five minutes, or between calls (`too_many_pings`).
    /// Default: Refract's own services are pinged, a ranker from outside is not.
    pub keepalive_pings: Option<bool>,
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
            late_answers_max: 1_000_000,
            resend_bytes_max: 1 << 20,
            keepalive_every: Duration::from_secs(10),
            keepalive_wait_max: Duration::from_secs(3),
            keepalive_pings: None,
            header_bytes_max: 16 << 10,
            eject: EjectConfig::default(),
            tls: None,
        }
    }
}

impl DialConfig {
    /// To a server that is not ours: it is not pinged unless the configuration says so.
    #[must_use]
    pub fn foreign(mut self) -> Self {
        self.keepalive_pings.get_or_insert(false);
        self
    }

    pub(crate) fn pings(&self) -> bool {
        self.keepalive_pings.unwrap_or(true)
    }

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
        ensure(
            self.late_answers_max >= 1,
            "late_answers_max",
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
