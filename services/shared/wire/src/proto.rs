//! The generated messages and services, in the tree of their packages.
//!
//! Outside this crate only tests and foreign-client tools need these; everybody else speaks `refract-domain`.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::large_futures
)]

/// Messages that several packages share.
pub mod r#type {
    pub mod v1 {
        tonic::include_proto!("refract.r#type.v1");

        pub use crate::encoded::{History, Interaction};
    }
}

/// The front door.
pub mod recommend {
    pub mod v1 {
        tonic::include_proto!("refract.recommend.v1");
    }
}

/// A ranker outside Refract.
pub mod ranker {
    pub mod v1 {
        tonic::include_proto!("refract.ranker.v1");
    }
}

/// Pair and history to knowledge.
pub mod oracle {
    pub mod v1 {
        tonic::include_proto!("refract.oracle.v1");
    }
}

/// Pair, history and knowledge to an explanation.
pub mod prism {
    pub mod v1 {
        tonic::include_proto!("refract.prism.v1");
    }
}

/// How knowledge is remembered.
pub mod knowledge {
    pub mod v1 {
        tonic::include_proto!("refract.knowledge.v1");
    }
}

/// Every file of `proto/refract` with its imports and comments, for reflection and for tools.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/refract.fds"));
