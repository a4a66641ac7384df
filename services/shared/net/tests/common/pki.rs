//! Authorities that live for one test, and the files they fill.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// Files of one certificate.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Writes the authority's own certificate.
    pub(crate) fn file(&self, path: PathBuf) -> PathBuf {
        std::fs::write(&path, &self.pem).expect("written");
        path
    }

    /// Writes a certificate for these names (`spiffe://…` is a URI, anything else a DNS name or an address) as
    /// `stem.pem` and `stem.key`, good for both ends of a connection.
    pub(crate) fn issue(&self, folder: &Path, stem: &str, names: &[&str]) -> Files {
        let (uris, hosts): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let mut params =
            CertificateParams::new(hosts.into_iter().map(str::to_owned).collect::<Vec<_>>()).expect("names");
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI(uri.try_into().expect("a URI")));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let files = Files {
            cert: folder.join(format!("{stem}.pem")),
            key: folder.join(format!("{stem}.key")),
        };
        std::fs::write(&files.key, key.serialize_pem()).expect("written");
        std::fs::write(&files.cert, certificate.pem()).expect("written");
        files
    }
}
