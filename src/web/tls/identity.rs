//! The certificate in use, exchangeable while connections go on, and what it proves to whom.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::acme::Challenges;
use crate::clock;
use crate::web::host::Host;

/// The one certificate of this server. New handshakes use what was put in last.
#[derive(Debug, Default)]
pub struct Identity {
    /// Answers to an ACME authority's handshakes.
    challenges: Option<Arc<Challenges>>,
    current: RwLock<Option<Current>>,
}

#[derive(Clone, Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// Checks chains against the public roots; `None` for the local CA, which none of them signed.
    public_roots: Option<Arc<WebPkiServerVerifier>>,
}

impl Identity {
    /// No certificate yet; `challenges` is given where ACME is on.
    pub fn new(challenges: Option<Arc<Challenges>>) -> Self {
        Self { challenges, current: RwLock::default() }
    }

    /// Takes `key` into use. `may_be_public` is false for certificates of the local CA.
    pub fn replace(&self, key: Arc<CertifiedKey>, may_be_public: bool) {
        let public_roots = if may_be_public { public_verifier() } else { None };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Current { key, public_roots });
    }

    /// True when the certificate names `host`.
    pub fn covers(&self, host: &Host) -> bool {
        let Some(current) = self.current() else { return false };
        let Some(name) = server_name(host) else { return false };
        let Some(leaf) = current.key.cert.first() else { return false };
        ParsedCertificate::try_from(leaf).is_ok_and(|leaf| rustls::client::verify_server_name(&leaf, &name).is_ok())
    }

    /// True when a browser without any setting trusts the certificate for `host`: the chain leads to a public root.
    pub fn is_public_for(&self, host: &Host) -> bool {
        let Some(Current { key, public_roots: Some(verifier) }) = self.current() else { return false };
        let Some(name) = server_name(host) else { return false };
        let Some((leaf, intermediates)) = key.cert.split_first() else { return false };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(clock::now().unix));
        verifier.verify_server_cert(leaf, intermediates, &name, &[], now).is_ok()
    }

    /// The chain in use, leaf first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.current().map_or_else(Vec::new, |current| current.key.cert.clone())
    }

    fn current(&self) -> Option<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(answer) = self.challenges.as_ref().and_then(|challenges| challenges.resolve(&hello)) {
            return answer;
        }
        self.current().map(|current| current.key)
    }
}

/// The one cryptography provider: `stun` and `turn` bring a second one, so the default builders are out.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn public_verifier() -> Option<Arc<WebPkiServerVerifier>> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()
}

fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Ip(ip) => Some(ServerName::IpAddress((*ip).into())),
        Host::Name(name) => ServerName::try_from(name.clone()).ok(),
    }
}
