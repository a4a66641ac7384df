//! What a server is and what it will take.

use std::collections::BTreeMap;

use crate::limits::Limits;
use crate::proto::r#type::v1 as proto;

/// A server's answer to `GetServerInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// Refract's own version.
    pub version: String,
    /// `ranker`, `oracle` or `prism`.
    pub role: String,
    pub models: Vec<ModelInfo>,
    /// By their names in the configuration.
    pub limits: BTreeMap<String, u64>,
    /// Features that are on (`slots`, `knowledge:redis`).
    pub features: Vec<String>,
}

/// One loaded model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelInfo {
    pub name: String,
    /// `t5`, `bart` or `ials`.
    pub architecture: String,
    /// Names the exact weights.
    pub revision: String,
    /// Names the prompt template; empty for a ranker.
    pub template_revision: String,
    /// `f32`, `bf16`.
    pub dtype: String,
    pub parameters: u64,
    /// `cpu`, `cuda:0`.
    pub device: String,
}

impl ServerInfo {
    /// Of this build, with the wire's own limits.
    pub fn new(role: impl Into<String>, limits: &Limits) -> Self {
        let named = [
            ("request_bytes_max", limits.request_bytes_max),
            ("hop_request_bytes_max", limits.hop_request_bytes_max),
            ("response_bytes_max", limits.response_bytes_max),
            ("interactions_max", limits.interactions_max),
            ("slate_items_max", limits.slate_items_max),
            ("candidates_max", limits.candidates_max),
            ("filters_max", limits.filters_max),
            ("title_chars_max", limits.title_chars_max),
            ("description_chars_max", limits.description_chars_max),
        ];
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: role.into(),
            limits: named
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value as u64))
                .collect(),
            ..Self::default()
        }
    }

    pub fn to_proto(&self) -> proto::ServerInfo {
        proto::ServerInfo {
            version: self.version.clone(),
            role: self.role.clone(),
            models: self.models.iter().map(ModelInfo::to_proto).collect(),
            limits: self.limits.clone(),
            features: self.features.clone(),
        }
    }

    /// For people to read: nothing is decided by it, so nothing is refused.
    pub fn from_proto(info: proto::ServerInfo) -> Self {
        Self {
            version: info.version,
            role: info.role,
            models: info.models.into_iter().map(ModelInfo::from_proto).collect(),
            limits: info.limits,
            features: info.features,
        }
    }
}

impl ModelInfo {
    fn to_proto(&self) -> proto::ModelInfo {
        proto::ModelInfo {
            name: self.name.clone(),
            architecture: self.architecture.clone(),
            revision: self.revision.clone(),
            template_revision: self.template_revision.clone(),
            dtype: self.dtype.clone(),
            parameters: self.parameters,
            device: self.device.clone(),
        }
    }

    fn from_proto(info: proto::ModelInfo) -> Self {
        Self {
            name: info.name,
            architecture: info.architecture,
            revision: info.revision,
            template_revision: info.template_revision,
            dtype: info.dtype,
            parameters: info.parameters,
            device: info.device,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_crosses_the_wire_whole() {
        let mut info = ServerInfo::new("oracle", &Limits::default());
        info.features = vec!["slots".into()];
        info.models = vec![ModelInfo {
            name: "o".into(),
            parameters: 7,
            ..ModelInfo::default()
        }];
        assert_eq!(ServerInfo::from_proto(info.to_proto()), info);
        assert_eq!(info.limits["request_bytes_max"], 262_144);
    }
}
