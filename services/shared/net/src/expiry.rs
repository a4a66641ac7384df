//! When certificates end, as a metric: an alert must come long before the first handshake that fails.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const EXPIRY: &str = "refract_net_certificate_expiry_seconds";

pub(crate) fn describe() {
    metrics::describe_gauge!(
        EXPIRY,
        "Unix time at which the first certificate of the chain in force ends, by use: server with its port, client"
    );
}

/// The chain that a listener shows is in force from now on.
pub(crate) fn server(chain: &[CertificateDer<'_>], port: u16) {
    if let Some(ends) = earliest(chain) {
        metrics::gauge!(EXPIRY, "use" => "server", "port" => port.to_string()).set(ends as f64);
    }
}

/// The chain that we show to servers.
pub(crate) fn client(chain: &[CertificateDer<'_>]) {
    if let Some(ends) = earliest(chain) {
        metrics::gauge!(EXPIRY, "use" => "client").set(ends as f64);
    }
}

/// Seconds since the Unix epoch; nothing for a chain that nobody could use anyway.
fn earliest(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let ends = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(certificate.validity().not_after.timestamp())
    };
    chain.iter().filter_map(ends).min()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn until(year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
    }

    #[test]
    fn a_chain_ends_with_the_first_of_its_certificates() {
        assert_eq!(earliest(&[until(2040), until(2035)]), Some(2_051_222_400));
        assert_eq!(
            earliest(&[CertificateDer::from(vec![1, 2, 3]), until(2040)]),
            Some(2_208_988_800)
        );
        assert_eq!(earliest(&[]), None);
    }
}
