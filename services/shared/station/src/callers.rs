//! Who may call, and for which tenant: a file of tokens' digests and of names in certificates.
//!
//! ```toml
//! [[token]]
//! sha256 = "9f86d081884c7d65…"          # of the token that the caller sends as `authorization: Bearer …`
//! tenant = "shop"
//! expires = "2027-06-30T00:00:00Z"      # or never, without it
//!
//! [[certificate]]
//! name = "spiffe://cluster.local/ns/refract/sa/ranker"   # a URI or DNS name of its SAN; the port must ask for one (mTLS)
//! tenant = "default"
//!
//! [[quota]]
//! tenant = "shop"
//! calls_per_second = 50.0               # of each replica; further ones are refused with when to come back
//! calls_at_once_max = 100               # calls that may come in one go after a quiet time
//! ```
//!
//! The file holds no secret: a digest of a long random token does not give it back. It is read again when it changes;
//! one that cannot be read changes nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};
use refract_domain::TenantId;
use refract_net::PeerNames;
use refract_wire::callers::{Callers, Refusal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 4096;
/// Longest name of a tenant: it becomes part of every key.
const TENANT_BYTES_MAX: usize = 128;
/// A tenant with next to no quota is told to come back after this long at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// File (TOML) with the callers: `[[token]]` with `sha256`, `tenant` and perhaps `expires`; `[[certificate]]` with
    /// `name` and `tenant`. Without one nobody needs a credential, and every request belongs to the tenant `default`.
    pub file: Option<PathBuf>,
    /// How often the file is looked at. Default 10s.
    #[serde(with = "humantime_serde")]
    pub reload_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            reload_every: Duration::from_secs(10),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("callers.file {}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
}

/// The callers in force.
#[derive(Debug)]
pub(crate) struct Known {
    list: RwLock<List>,
    /// What each tenant with a quota has left; outlives a change of the file.
    left: Mutex<HashMap<TenantId, Left>>,
}

#[derive(Debug, Default)]
struct List {
    tokens: HashMap<[u8; 32], (TenantId, Option<SystemTime>)>,
    certificates: HashMap<String, TenantId>,
    quotas: HashMap<TenantId, Quota>,
}

/// How often a tenant may call.
#[derive(Clone, Copy, Debug)]
struct Quota {
    calls_per_second: f64,
    calls_at_once_max: f64,
}

/// Calls that a tenant may make now.
#[derive(Clone, Copy, Debug)]
struct Left {
    calls: f64,
    at: Instant,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Token>,
    #[serde(default)]
    certificate: Vec<Certificate>,
    #[serde(default)]
    quota: Vec<Allowance>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    sha256: String,
    tenant: String,
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Certificate {
    name: String,
    tenant: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowance {
    tenant: String,
    calls_per_second: f64,
    calls_at_once_max: u32,
}

/// Reads the file and keeps it current for as long as the process lives; nothing where there is none.
pub(crate) fn open(name: &'static str, config: &Config) -> Result<Option<Arc<Known>>, Error> {
    let Some(file) = &config.file else {
        info!("{name}: callers need no credential; every request belongs to the tenant default");
        return Ok(None);
    };
    let known = Arc::new(Known {
        list: RwLock::new(List::read(file)?),
        left: Mutex::default(),
    });
    let renewed = Arc::downgrade(&known);
    let (file, every) = (file.clone(), config.reload_every.max(Duration::from_millis(10)));
    tokio::spawn(async move {
        let mut seen = std::fs::read(&file).ok();
        loop {
            tokio::time::sleep(every).await;
            let Some(known) = renewed.upgrade() else { return };
            let now = std::fs::read(&file).ok();
            if now == seen {
                continue;
            }
            seen = now;
            match List::read(&file) {
                Ok(list) => {
                    *known.list.write().unwrap_or_else(PoisonError::into_inner) = list;
                    info!("{name}: new callers are in force");
                }
                Err(error) => warn!(%error, "{name}: new callers cannot be used, the old ones stay"),
            }
        }
    });
    Ok(Some(known))
}

impl List {
    fn read(file: &Path) -> Result<Self, Error> {
        let wrong = |reason: String| Error::File {
            file: file.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut list = Self::default();
        for (n, token) in file.token.into_iter().enumerate() {
            let at = |reason: &str| format!("token {}: {reason}", n + 1);
            let mut digest = [0; 32];
            hex::decode_to_slice(&token.sha256, &mut digest)
                .map_err(|_| at("sha256 is not 64 hexadecimal digits"))?;
            let expires = token
                .expires
                .map(|text| humantime::parse_rfc3339(&text))
                .transpose()
                .map_err(|_| at("expires is no time such as 2027-06-30T00:00:00Z"))?;
            let tenant = tenant(token.tenant).map_err(|reason| at(&reason))?;
            if list.tokens.insert(digest, (tenant, expires)).is_some() {
                return Err(at("is listed twice"));
            }
        }
        for (n, certificate) in file.certificate.into_iter().enumerate() {
            let at = |reason: &str| format!("certificate {}: {reason}", n + 1);
            let tenant = tenant(certificate.tenant).map_err(|reason| at(&reason))?;
            if certificate.name.is_empty() {
                return Err(at("name is empty"));
            }
            if list.certificates.insert(certificate.name, tenant).is_some() {
                return Err(at("is listed twice"));
            }
        }
        for (n, quota) in file.quota.into_iter().enumerate() {
            let at = |reason: &str| format!("quota {}: {reason}", n + 1);
            let tenant = tenant(quota.tenant).map_err(|reason| at(&reason))?;
            let calls_per_second = quota.calls_per_second;
            if !calls_per_second.is_finite() || calls_per_second <= 0.0 || quota.calls_at_once_max == 0 {
                return Err(at("calls_per_second and calls_at_once_max must be above zero"));
            }
            let quota = Quota {
                calls_per_second,
                calls_at_once_max: f64::from(quota.calls_at_once_max),
            };
            if list.quotas.insert(tenant, quota).is_some() {
                return Err(at("its tenant has one already"));
            }
        }
        if list.tokens.is_empty() && list.certificates.is_empty() {
            return Err("lists nobody: then nobody could call".to_owned());
        }
        Ok(list)
    }

    /// A token wins over a certificate: it says more.
    fn admit(
        &self,
        headers: &HeaderMap,
        names: Option<&PeerNames>,
        now: SystemTime,
    ) -> Result<TenantId, Refusal> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        if let Some(credential) = shown.next() {
            // Two of them would leave it to chance which one counts.
            let token = bearer(credential.as_bytes()).filter(|_| shown.next().is_none());
            let digest: [u8; 32] = Sha256::digest(token.ok_or(Refusal::BadToken)?).into();
            return match self.tokens.get(&digest) {
                None => Err(Refusal::BadToken),
                Some((_, Some(expires))) if *expires <= now => Err(Refusal::Expired),
                Some((tenant, _)) => Ok(tenant.clone()),
            };
        }
        let Some(names) = names else {
            return Err(Refusal::NoCredential);
        };
        names
            .0
            .iter()
            .find_map(|name| self.certificates.get(name))
            .cloned()
            .ok_or(Refusal::NotAllowed)
    }
}

impl Callers for Known {
    fn admit(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<TenantId, Refusal> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let tenant = list.admit(headers, extensions.get::<PeerNames>(), SystemTime::now())?;
        if let Some(quota) = list.quotas.get(&tenant) {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let full = Left {
                calls: quota.calls_at_once_max,
                at: now,
            };
            left.entry(tenant.clone()).or_insert(full).take(quota, now)?;
        }
        Ok(tenant)
    }
}

impl Left {
    /// Calls come back evenly; one is taken, or a refusal says when there will be one.
    fn take(&mut self, quota: &Quota, now: Instant) -> Result<(), Refusal> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.calls = (self.calls + passed * quota.calls_per_second).min(quota.calls_at_once_max);
        self.at = now;
        if self.calls < 1.0 {
            let missing = (1.0 - self.calls) / quota.calls_per_second;
            return Err(Refusal::Quota {
                retry_after: Duration::from_secs_f64(missing.min(RETRY_AFTER_MAX.as_secs_f64())),
            });
        }
        self.calls -= 1.0;
        Ok(())
    }
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter.
fn bearer(credential: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credential.split_at_checked(7)?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
    (is_bearer && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX).then_some(token)
}

fn tenant(name: String) -> Result<TenantId, String> {
    let visible = |c: u8| c.is_ascii_graphic();
    if name.is_empty() || name.len() > TENANT_BYTES_MAX || !name.bytes().all(visible) {
        return Err(format!(
            "tenant must be 1 to {TENANT_BYTES_MAX} visible ASCII characters"
        ));
    }
    Ok(TenantId::new(name))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn digest(token: &str) -> String {
        hex::encode(Sha256::digest(token))
    }

    fn list() -> List {
        List::parse(&format!(
            "[[token]]\nsha256 = \"{}\"\ntenant = \"shop\"\nexpires = \"2020-01-01T00:00:00Z\"\n\
             [[token]]\nsha256 = \"{}\"\ntenant = \"news\"\n\
             [[certificate]]\nname = \"spiffe://test/ranker\"\ntenant = \"default\"\n",
            digest("old"),
            digest("long random token"),
        ))
        .unwrap()
    }

    fn admit(credentials: &[&str], names: Option<&[&str]>) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        for credential in credentials {
            headers.append(AUTHORIZATION, HeaderValue::from_str(credential).unwrap());
        }
        let names = names.map(|names| PeerNames(names.iter().map(|n| (*n).to_owned()).collect()));
        let now = humantime::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        list()
            .admit(&headers, names.as_ref(), now)
            .map(|tenant| tenant.as_str().to_owned())
    }

    #[test]
    fn a_credential_says_the_tenant_and_everything_else_is_refused_with_its_reason() {
        let good = "Bearer long random token";
        let huge = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
        let ranker: &[&str] = &["a.test", "spiffe://test/ranker"];
        for (credentials, names, expected) in [
            (vec![good], None, Ok("news")),
            (vec!["bEARER long random token"], None, Ok("news")),
            (vec![good], Some(ranker), Ok("news")),
            (vec![], Some(ranker), Ok("default")),
            (vec![], None, Err(Refusal::NoCredential)),
            (
                vec![],
                Some(&["spiffe://test/prism"][..]),
                Err(Refusal::NotAllowed),
            ),
            (vec![], Some(&[][..]), Err(Refusal::NotAllowed)),
            (vec!["Bearer old"], None, Err(Refusal::Expired)),
            (vec!["Bearer guessed"], None, Err(Refusal::BadToken)),
            (vec!["Bearer guessed"], Some(ranker), Err(Refusal::BadToken)),
            (vec!["Bearer "], None, Err(Refusal::BadToken)),
            (vec!["Basic long random token"], None, Err(Refusal::BadToken)),
            (vec![good, good], None, Err(Refusal::BadToken)),
            (vec![&huge], None, Err(Refusal::BadToken)),
        ] {
            let outcome = admit(&credentials, names);
            assert_eq!(
                outcome.as_deref().map_err(|r| *r),
                expected,
                "{credentials:?} {names:?}"
            );
        }
    }

    #[test]
    fn a_quota_lets_a_burst_through_then_its_rate_and_says_when_to_come_back() {
        let quota = Quota {
            calls_per_second: 10.0,
            calls_at_once_max: 5.0,
        };
        let began = Instant::now();
        let mut left = Left {
            calls: quota.calls_at_once_max,
            at: began,
        };
        let mut admitted = |ms| left.take(&quota, began + Duration::from_millis(ms));
        assert!((0..5).all(|_| admitted(0).is_ok()));
        let refused = admitted(0).unwrap_err();
        assert_eq!(
            refused,
            Refusal::Quota {
                retry_after: Duration::from_millis(100)
            }
        );
        assert!(admitted(50).is_err() && admitted(101).is_ok() && admitted(102).is_err());
        let passed = (0..100).filter(|n| admitted(1_000 + n * 10).is_ok()).count();
        assert!(
            (14..=16).contains(&passed),
            "five saved up and ten in a second: {passed}"
        );
    }

    #[tokio::test]
    async fn only_the_tenant_with_a_quota_is_held_to_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "[[token]]\nsha256 = \"{}\"\ntenant = \"shop\"\n[[token]]\nsha256 = \"{}\"\ntenant = \"news\"\n\
             [[quota]]\ntenant = \"shop\"\ncalls_per_second = 0.001\ncalls_at_once_max = 2\n",
            digest("of the shop"),
            digest("of the news")
        );
        std::fs::write(file.path(), text).unwrap();
        let config = Config {
            file: Some(file.path().to_owned()),
            ..Config::default()
        };
        let known = open("test", &config).unwrap().unwrap();
        let admit = |token: &str| {
            let mut headers = HeaderMap::new();
            let credential = format!("Bearer {token}");
            headers.append(AUTHORIZATION, HeaderValue::from_str(&credential).unwrap());
            known.admit(&headers, &Extensions::new())
        };
        assert!(admit("of the shop").is_ok() && admit("of the shop").is_ok());
        assert!(matches!(admit("of the shop"), Err(Refusal::Quota { .. })));
        assert!((0..50).all(|_| admit("of the news").is_ok()));
    }

    #[test]
    fn a_file_that_cannot_mean_anything_is_refused_with_its_place() {
        let good = digest("t");
        for (text, says) in [
            ("", "lists nobody"),
            ("[[token]]\nsha256 = \"12\"\ntenant = \"a\"", "token 1: sha256"),
            (
                &format!("[[token]]\nsha256 = \"{good}\"\ntenant = \"\""),
                "token 1: tenant",
            ),
            (
                &format!("[[token]]\nsha256 = \"{good}\"\ntenant = \"a\"\nexpires = \"soon\""),
                "token 1: expires",
            ),
            (
                &format!(
                    "[[token]]\nsha256 = \"{good}\"\ntenant = \"a\"\n[[token]]\nsha256 = \"{good}\"\ntenant = \"b\""
                ),
                "token 2: is listed twice",
            ),
            (
                "[[certificate]]\nname = \"\"\ntenant = \"a\"",
                "certificate 1: name",
            ),
            ("[[tokens]]", "tokens"),
            (
                "[[quota]]\ntenant = \"a\"\ncalls_per_second = 0.0\ncalls_at_once_max = 1",
                "quota 1: calls_per_second",
            ),
            (
                "[[quota]]\ntenant = \"a\"\ncalls_per_second = 1.0\ncalls_at_once_max = 0",
                "quota 1: calls_per_second",
            ),
        ] {
            let reason = List::parse(text).expect_err(text);
            assert!(reason.contains(says), "{text}: {reason}");
            assert!(!reason.contains(&good), "a digest is not repeated: {reason}");
        }
    }
}
