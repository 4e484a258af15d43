//! The certificate: taken in a handshake that believes everybody, and judged then, so that what is wrong with it can be
//! told with its names and dates.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, RootCertStore};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::cause::{Cause, Fault};
use super::open::{Opener, refusal};
use super::report::Finding;
use super::stream;

const DAY: u64 = 24 * 3600;

/// The chain that the server presents on `server`; `None` when TLS cannot be spoken there.
pub async fn fetch(opener: &Opener, server: SocketAddr) -> Option<Vec<CertificateDer<'static>>> {
    let tls = stream::tls_config(RootCertStore::empty(), true).ok()?;
    let stream = opener.connect(server).await.ok()?;
    let stream = opener.handshake(Arc::new(tls), stream).await.ok()?;
    let (_, session) = stream.get_ref();
    session.peer_certificates().map(|chain| chain.iter().map(|one| one.clone().into_owned()).collect())
}

/// Judges a chain at `now` (unix seconds) for `name`: by the public roots, and by those of `extra`.
pub fn judge(
    chain: &[CertificateDer<'static>],
    name: &ServerName<'static>,
    extra: &RootCertStore,
    is_insecure: bool,
    now: u64,
) -> Finding {
    let (about, left) = describe(chain, now);
    let public = verify(chain, name, stream::public_roots(), now);
    let verdict = match &public {
        Err(CertificateError::UnknownIssuer) if !extra.is_empty() => verify(chain, name, extra.clone(), now),
        public => public.clone(),
    };
    match (verdict, public) {
        (Err(problem), _) if is_insecure => {
            Finding::note("certificate", format!("{about}; browsers refuse it: {problem}"))
        }
        (Err(problem), _) => {
            let Fault { cause, text } = refusal(&problem);
            Finding::failed("certificate", Fault::new(cause, format!("{about}; {text}")))
        }
        (Ok(()), _) if left.is_some_and(|left| ends_soon(chain, left)) => {
            Finding::warning("certificate", Fault::new(Cause::CertificateExpires, about))
        }
        (Ok(()), Ok(())) => Finding::good("certificate", format!("{about}; browsers trust it")),
        (Ok(()), Err(_)) => Finding::good("certificate", format!("{about}; trusted by the authority given here only")),
    }
}

/// True when less than a fifth of a certificate's life is left: renewal at two thirds should have come long before.
fn ends_soon(chain: &[CertificateDer<'_>], left: u64) -> bool {
    let Some(Ok((_, leaf))) = chain.first().map(|leaf| X509Certificate::from_der(leaf)) else { return false };
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    u64::try_from(life).is_ok_and(|life| left < life / 5)
}

fn verify(
    chain: &[CertificateDer<'static>],
    name: &ServerName<'static>,
    roots: RootCertStore,
    now: u64,
) -> Result<(), CertificateError> {
    let bad = || CertificateError::BadEncoding;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|_| bad())?;
    let (leaf, rest) = chain.split_first().ok_or_else(bad)?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    match verifier.verify_server_cert(leaf, rest, name, &[], now) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(problem)) => Err(problem),
        Err(_) => Err(bad()),
    }
}

/// Names, issuer and the rest of its life, in words and in seconds.
fn describe(chain: &[CertificateDer<'_>], now: u64) -> (String, Option<u64>) {
    let Some(Ok((_, leaf))) = chain.first().map(|leaf| X509Certificate::from_der(leaf)) else {
        return ("a certificate that cannot be read".into(), None);
    };
    let names = leaf
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|names| names.value.general_names.iter().filter_map(text).take(6).collect::<Vec<_>>().join(", "));
    let names = names.unwrap_or_else(|| "nobody".into());
    let issuer = leaf.issuer();
    let organization = issuer.iter_organization().next().or_else(|| issuer.iter_common_name().next());
    let issuer = organization.and_then(|name| name.as_str().ok()).unwrap_or("an unnamed issuer");
    let end = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0);
    let left = end.checked_sub(now);
    let life = match left {
        Some(left) if left >= 2 * DAY => format!("{} days left", left / DAY),
        Some(left) => format!("{} hours left", left / 3600),
        None => format!("ended {} days ago", (now - end) / DAY),
    };
    let count = chain.len();
    (format!("for {names}, by {issuer}, {life}, {count} in the chain"), left)
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn each_fault_has_its_cause() {
        let made = rcgen::generate_simple_self_signed(vec!["good.example".to_owned()]).expect("made");
        let chain = [made.cert.der().clone()];
        let mut own = RootCertStore::empty();
        own.add(chain[0].clone()).expect("added");
        let now = clock::now().unix;
        let cause = |name: &str, roots: &RootCertStore, now| {
            let name = ServerName::try_from(name.to_owned()).expect("a name");
            judge(&chain, &name, roots, false, now).cause
        };
        assert_eq!(cause("good.example", &own, now), None);
        assert_eq!(cause("good.example", &RootCertStore::empty(), now), Some(Cause::CertificateUntrusted));
        assert_eq!(cause("other.example", &own, now), Some(Cause::CertificateName));
        // rcgen's default life ends in the year 4096.
        assert_eq!(cause("good.example", &own, 70_000_000_000), Some(Cause::CertificateExpired));
        let name = ServerName::try_from("good.example").expect("a name");
        let known = judge(&chain, &name, &RootCertStore::empty(), true, now);
        assert!(known.ok && known.text.contains("for good.example"), "{known:?}");
    }
}
