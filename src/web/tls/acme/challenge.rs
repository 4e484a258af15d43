//! What proves to the authority that a name is ours: a file over HTTP (RFC 8555 section 8.3), or a certificate that is
//! shown to whoever asks for the protocol `acme-tls/1` alone (RFC 8737).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Result;
use instant_acme::ChallengeType;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use super::super::identity::provider;
use super::Name;

/// The ALPN protocol of the validation (RFC 8737 section 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// Where under our control the authority looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A handshake on TCP 443.
    TlsAlpn,
    /// A request on TCP 80.
    Http,
}

impl Kind {
    /// The name in RFC 8555 and RFC 8737.
    pub fn challenge(self) -> ChallengeType {
        match self {
            Self::TlsAlpn => ChallengeType::TlsAlpn01,
            Self::Http => ChallengeType::Http01,
        }
    }

    /// For messages.
    pub fn port(self) -> u16 {
        match self {
            Self::TlsAlpn => 443,
            Self::Http => 80,
        }
    }
}

/// The answers given at the moment. Names are proved one after another, so one certificate at a time is enough, and
/// the protocol asked for chooses it: an address has no server name of its own in a handshake (RFC 8738 section 6).
#[derive(Debug, Default)]
pub struct Challenges {
    files: Mutex<HashMap<String, String>>,
    certificate: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Challenges {
    /// The content of `/.well-known/acme-challenge/{token}`.
    pub fn file(&self, token: &str) -> Option<String> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// The certificate for a handshake that asks for `acme-tls/1` and nothing else; the outer `None` is any other.
    pub fn resolve(&self, hello: &ClientHello<'_>) -> Option<Option<Arc<CertifiedKey>>> {
        let mut protocols = hello.alpn()?;
        let is_validation = protocols.next() == Some(ALPN) && protocols.next().is_none();
        is_validation.then(|| self.certificate.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Serves `content` under `token` until the answer is dropped.
    pub fn serve_file(self: &Arc<Self>, token: &str, content: String) -> Answer {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned(), content);
        Answer { challenges: Arc::clone(self), token: Some(token.to_owned()) }
    }

    /// Shows the validation certificate of `name` until the answer is dropped. `digest` is SHA-256 of the key
    /// authorization.
    pub fn show_certificate(self: &Arc<Self>, name: &Name, digest: &[u8]) -> Result<Answer> {
        let key = Arc::new(validation_certificate(name, digest)?);
        *self.certificate.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Ok(Answer { challenges: Arc::clone(self), token: None })
    }
}

/// Takes an answer back when dropped, whatever became of the attempt.
pub struct Answer {
    challenges: Arc<Challenges>,
    token: Option<String>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        match &self.token {
            Some(token) => {
                self.challenges.files.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
            }
            None => *self.challenges.certificate.write().unwrap_or_else(PoisonError::into_inner) = None,
        }
    }
}

/// Self-signed, with the name and the digest in a critical extension (RFC 8737 section 3).
fn validation_certificate(name: &Name, digest: &[u8]) -> Result<CertifiedKey> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![name.subject()?];
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let signer = provider().key_provider.load_private_key(private)?;
    // Not `from_der`, which reads the certificate and stumbles over the critical extension.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signer))
}

impl Name {
    /// As a subject alternative name.
    pub fn subject(&self) -> Result<SanType> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.clone().try_into()?),
            Self::Ip(ip) => SanType::IpAddress(*ip),
        })
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn answers_go_with_their_attempt() {
        let challenges = Arc::new(Challenges::default());
        let answer = challenges.serve_file("t1", "t1.thumb".into());
        assert_eq!(challenges.file("t1").as_deref(), Some("t1.thumb"));
        assert_eq!(challenges.file("t2"), None);
        drop(answer);
        assert_eq!(challenges.file("t1"), None);
        let answer = challenges.show_certificate(&Name::Dns("a.example".into()), &[7; 32]).expect("made");
        assert!(challenges.certificate.read().expect("lock").is_some());
        drop(answer);
        assert!(challenges.certificate.read().expect("lock").is_none());
    }

    #[test]
    fn the_validation_certificate_is_that_of_the_rfc() {
        for name in [Name::Dns("a.example".into()), Name::Ip("192.0.2.1".parse().expect("address"))] {
            let key = validation_certificate(&name, &[9; 32]).expect("made");
            let (_, parsed) = X509Certificate::from_der(&key.cert[0]).expect("a certificate");
            let extension =
                parsed.extensions().iter().find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").expect("there");
            assert!(extension.critical);
            assert_eq!(extension.value, [&[4, 32][..], &[9; 32]].concat());
            let names = parsed.subject_alternative_name().expect("one").expect("there").value;
            assert_eq!(names.general_names.len(), 1);
        }
    }
}
