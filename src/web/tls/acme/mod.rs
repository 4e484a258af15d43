//! Certificates from an authority that speaks ACME (RFC 8555): asked for when needed, renewed in time, kept in the
//! state directory. Until the first one is there the local CA's leaf serves.

mod account;
mod challenge;
mod client;
mod order;
mod schedule;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use challenge::{ALPN, Challenges, Kind};
pub use schedule::Validity;

use super::files::{self, read_certified_key};
use super::identity::Identity;
use super::leaf::names_of;
use super::names::Names;
use crate::clock;
use crate::config::{AcmeConfig, Config};
use crate::credentials::token::random_bytes;

/// The clock may be set while we wait, so it is read at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The profile under which Let's Encrypt certifies addresses.
const ADDRESS_PROFILE: &str = "shortlived";

/// One subject of the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Dns(String),
    Ip(IpAddr),
}

/// What the operator should know about certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// When the first of them failed, in unix seconds; `None` while all is well.
    pub failing_since: Option<u64>,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// When the next attempt is due, in unix seconds.
    pub next: u64,
    /// Of the certificate in use; `None` before the first one.
    pub validity: Option<Validity>,
}

impl Status {
    /// After an attempt that failed at `now`, with the next one after `pause`.
    fn failed(self, error: String, now: u64, pause: impl FnOnce(u32) -> Duration) -> Self {
        let failures = self.failures.saturating_add(1);
        Self {
            failures,
            failing_since: self.failing_since.or(Some(now)),
            last_error: Some(error),
            next: now + pause(failures).as_secs(),
            validity: self.validity,
        }
    }
}

/// The ACME side of one server.
pub struct Acme {
    config: AcmeConfig,
    names: Vec<Name>,
    dir: PathBuf,
    /// The answers to the authority's checks that are being served now.
    pub challenges: Arc<Challenges>,
    status: Mutex<Status>,
}

impl Acme {
    /// The ACME side of `config`, `None` when it is off; with the certificate of an earlier run if it still serves.
    /// Fails when the directory cannot be made. `now` in unix seconds.
    pub fn open(config: &Config, now: u64) -> Result<Option<(Arc<Self>, Option<CertifiedKey>)>> {
        let Some(acme) = config.acme.clone() else { return Ok(None) };
        let dir = config.state_dir.join("acme");
        make_private(&dir)?;
        let names = names(config);
        let stored = stored(&dir, &names, now);
        let validity = stored.as_ref().and_then(validity);
        let next = validity.map_or(0, |validity| schedule::renewal(validity, random()));
        let status = Mutex::new(Status { next, validity, ..Status::default() });
        let challenges = Arc::default();
        Ok(Some((Arc::new(Self { config: acme, names, dir, challenges, status }), stored)))
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for certificates and puts them into use, until `stopped`. `kinds` are tried in their order.
    pub async fn run(self: Arc<Self>, identity: Arc<Identity>, kinds: Vec<Kind>, mut stopped: watch::Receiver<bool>) {
        let looping = async {
            loop {
                let wait = self.status().next.saturating_sub(clock::now().unix);
                if wait > 0 {
                    tokio::time::sleep(Duration::from_secs(wait).min(LONGEST_SLEEP)).await;
                } else {
                    self.attempt(&identity, &kinds).await;
                }
            }
        };
        tokio::select! {
            () = looping => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    async fn attempt(&self, identity: &Identity, kinds: &[Kind]) {
        tracing::info!(names = %self.shown_names(), directory = %self.config.directory, "asking for a certificate");
        let issued = self.issue(kinds).await;
        let now = clock::now().unix;
        let status = match issued {
            Ok((key, validity)) => {
                identity.replace(Arc::new(key), true);
                let next = schedule::renewal(validity, random()).max(now + 1);
                let days = validity.not_after.saturating_sub(now) / (24 * 3600);
                tracing::info!(names = %self.shown_names(), days, "a new certificate is in use");
                Status { next, validity: Some(validity), ..Status::default() }
            }
            Err(error) => {
                let pause = |failures| schedule::pause(failures, random());
                let status = self.status().failed(format!("{error:#}"), now, pause);
                tracing::error!(
                    names = %self.shown_names(),
                    failures = status.failures,
                    next_attempt_in = status.next - now,
                    "no certificate: {error:#}"
                );
                status
            }
        };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// One certificate, by the first way that works; stored before it is used.
    async fn issue(&self, kinds: &[Kind]) -> Result<(CertifiedKey, Validity)> {
        let mut failures = Vec::new();
        for kind in kinds {
            match self.order(*kind).await {
                Ok(pem) => return self.store(&pem),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        bail!("{}", failures.join("; "))
    }

    async fn order(&self, kind: Kind) -> Result<String> {
        let profile = self.config.profile.as_deref().or_else(|| {
            let has_address = self.names.iter().any(|name| matches!(name, Name::Ip(_)));
            has_address.then_some(ADDRESS_PROFILE)
        });
        let account = account::open(&self.config, &self.dir).await?;
        let ordered = order::certificate(&account, &self.names, profile, kind, &self.challenges).await;
        match ordered {
            Err(error) if account::is_forgotten(&error) => {
                tracing::warn!("the authority does not know our account any more; making a new one");
                account::forget(&self.dir)?;
                let account = account::open(&self.config, &self.dir).await?;
                order::certificate(&account, &self.names, profile, kind, &self.challenges).await
            }
            other => other,
        }
    }

    fn store(&self, pem: &str) -> Result<(CertifiedKey, Validity)> {
        let file = certificate_file(&self.dir);
        files::write(&file, pem)?;
        let key = read_certified_key(&file, &file)?;
        let validity = validity(&key).context("the authority's certificate cannot be read")?;
        Ok((key, validity))
    }

    fn shown_names(&self) -> String {
        let names = self.names.iter().map(|name| match name {
            Name::Dns(name) => name.clone(),
            Name::Ip(ip) => ip.to_string(),
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

/// The ways of proving that these listeners allow: the authority looks at ports 443 and 80 and nowhere else.
pub fn kinds(listeners: impl Iterator<Item = SocketAddr> + Clone) -> Vec<Kind> {
    let is_ours = |kind: &Kind| listeners.clone().any(|address| address.port() == kind.port());
    [Kind::TlsAlpn, Kind::Http].into_iter().filter(is_ours).collect()
}

/// The domain, else the public addresses: a certificate for both would live only as long as one for addresses.
fn names(config: &Config) -> Vec<Name> {
    match &config.domain {
        Some(domain) => vec![Name::Dns(domain.to_ascii_lowercase())],
        None => config.public_ips.iter().map(|public| Name::Ip(public.public)).collect(),
    }
}

/// The key and the chain behind it, in one file, so that a crash never leaves halves of two.
fn certificate_file(dir: &Path) -> PathBuf {
    dir.join("certificate.pem")
}

/// The certificate of an earlier run, if it is for these names and in time.
fn stored(dir: &Path, names: &[Name], now: u64) -> Option<CertifiedKey> {
    let file = certificate_file(dir);
    if !file.exists() {
        return None;
    }
    let key = match read_certified_key(&file, &file) {
        Ok(key) => key,
        Err(error) => {
            tracing::warn!("the stored certificate is not used: {error:#}");
            return None;
        }
    };
    let (_, leaf) = X509Certificate::from_der(key.cert.first()?).ok()?;
    let mut wanted = Names::default();
    for name in names {
        match name {
            Name::Dns(name) => wanted.dns.insert(name.clone()),
            Name::Ip(ip) => wanted.ips.insert(*ip),
        };
    }
    let serves = names_of(&leaf)? == wanted && validity(&key)?.has(now);
    serves.then_some(key)
}

fn validity(key: &CertifiedKey) -> Option<Validity> {
    let (_, leaf) = X509Certificate::from_der(key.cert.first()?).ok()?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).ok();
    let validity = leaf.validity();
    Some(Validity { not_before: seconds(validity.not_before)?, not_after: seconds(validity.not_after)? })
}

fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("{}: cannot be made", dir.display()))
}

fn random() -> u64 {
    u64::from_ne_bytes(random_bytes())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn only_ports_that_the_authority_looks_at_count() {
        let kinds = |addresses: &[&str]| {
            kinds(addresses.iter().map(|address| address.parse().expect("address")).collect::<Vec<_>>().into_iter())
        };
        assert_eq!(kinds(&["0.0.0.0:80", "0.0.0.0:443"]), [Kind::TlsAlpn, Kind::Http]);
        assert_eq!(kinds(&["[::]:80", "0.0.0.0:8443"]), [Kind::Http]);
        assert_eq!(kinds(&["0.0.0.0:3478"]), []);
    }

    #[test]
    fn failures_are_counted_from_the_first_one() {
        let validity = Some(Validity { not_before: 1, not_after: 9000 });
        let pause = |failures: u32| Duration::from_secs(u64::from(failures) * 10);
        let first = Status { validity, ..Status::default() }.failed("no way".into(), 100, pause);
        let second = first.clone().failed("closed".into(), 110, pause);
        assert_eq!((first.failing_since, first.failures, first.next), (Some(100), 1, 110));
        let last_error = Some("closed".to_owned());
        assert_eq!(second, Status { failures: 2, failing_since: Some(100), last_error, next: 130, validity });
    }

    #[test]
    fn a_stored_certificate_serves_while_it_fits() {
        let dir = tempfile::tempdir().expect("directory");
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("parameters");
        super::super::authority::set_validity(&mut params, 1_000_000, 2_000_000);
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("signed");
        let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
        files::write(&certificate_file(dir.path()), &pem).expect("written");
        let serves = |name: &str, now| stored(dir.path(), &[Name::Dns(name.into())], now).is_some();
        assert!(serves("a.example", 1_500_000));
        assert!(!serves("b.example", 1_500_000), "another name");
        assert!(!serves("a.example", 2_000_000), "it has ended");
        files::write(&certificate_file(dir.path()), "nonsense").expect("written");
        assert!(!serves("a.example", 1_500_000));
    }
}
