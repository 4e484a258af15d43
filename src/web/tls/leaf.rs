//! The leaf of the local CA: 90 days, issued again when it ages or the machine's addresses change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{Authority, BACKDATED, set_validity};
use super::files::{read_certified_key, write};
use super::names::Names;

const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Issued again when less than this is left: a server that is off for some weeks comes back with a valid one.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// `leaf.pem` of a state directory: the leaf and the CA behind it.
pub fn certificate_file(dir: &Path) -> PathBuf {
    dir.join("leaf.pem")
}

fn key_file(dir: &Path) -> PathBuf {
    dir.join("leaf.key")
}

/// Loads the leaf of `dir`, or issues one when none is there, it is of another CA, ages, or names something else
/// than `names`. The flag tells whether it is new. `now` in unix seconds.
pub fn open(dir: &Path, authority: &Authority, names: &Names, now: u64) -> Result<(CertifiedKey, bool)> {
    if let Ok(key) = read_certified_key(&certificate_file(dir), &key_file(dir))
        && is_good(&key.cert, authority, names, now)
    {
        return Ok((key, false));
    }
    issue(dir, authority, names, now)?;
    Ok((read_certified_key(&certificate_file(dir), &key_file(dir))?, true))
}

fn issue(dir: &Path, authority: &Authority, names: &Names, now: u64) -> Result<()> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Relais");
    subject.push(DnType::CommonName, "Relais server");
    params.distinguished_name = subject;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    for name in &names.dns {
        params.subject_alt_names.push(SanType::DnsName(name.clone().try_into().context("subject alternative name")?));
    }
    params.subject_alt_names.extend(names.ips.iter().copied().map(SanType::IpAddress));
    set_validity(&mut params, now.saturating_sub(BACKDATED.as_secs()), now + LIFETIME.as_secs());
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority.issuer)?;
    // A crash between the two leaves a pair that does not match, which the next start replaces.
    write(&key_file(dir), &key.serialize_pem())?;
    write(&certificate_file(dir), &format!("{}{}", certificate.pem(), authority.pem))
}

fn is_good(chain: &[CertificateDer<'_>], authority: &Authority, names: &Names, now: u64) -> bool {
    let [leaf, issuer] = chain else { return false };
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return false };
    let validity = parsed.validity();
    let is_in_time = u64::try_from(validity.not_before.timestamp()).is_ok_and(|from| from <= now)
        && u64::try_from(validity.not_after.timestamp()).is_ok_and(|until| until > now + RENEW_BEFORE.as_secs());
    *issuer == authority.der && is_in_time && names_of(&parsed).as_ref() == Some(names)
}

/// The subject alternative names of a certificate.
pub fn names_of(certificate: &X509Certificate<'_>) -> Option<Names> {
    let mut names = Names::default();
    for name in &certificate.subject_alternative_name().ok()??.value.general_names {
        match name {
            GeneralName::DNSName(name) => {
                names.dns.insert((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                names.ips.insert(address_of(bytes)?);
            }
            _ => {}
        }
    }
    Some(names)
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tls::names::Wanted;

    const NOW: u64 = 1_763_700_000;
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn names(ips: &[&str]) -> Names {
        let ips = ips.iter().map(|ip| ip.parse().expect("address")).collect();
        Names { dns: ["localhost".to_owned()].into(), ips }
    }

    #[test]
    fn is_kept_until_it_ages_or_addresses_change() {
        let dir = tempfile::tempdir().expect("directory");
        let (authority, _) = Authority::open(dir.path(), &Wanted::default(), NOW).expect("CA");
        let open = |names: &Names, now| open(dir.path(), &authority, names, now).expect("leaf");
        let home = names(&["127.0.0.1", "192.168.1.5", "fd00::5"]);
        let (first, is_new) = open(&home, NOW);
        assert!(is_new);
        let (again, is_new) = open(&home, NOW + 59 * DAY.as_secs());
        assert!(!is_new);
        assert_eq!(first.cert, again.cert);
        assert!(open(&home, NOW + 61 * DAY.as_secs()).1, "it ages");
        assert!(open(&names(&["127.0.0.1"]), NOW + 61 * DAY.as_secs()).1, "addresses changed");
        std::fs::write(key_file(dir.path()), "nonsense").expect("written");
        assert!(open(&names(&["127.0.0.1"]), NOW + 61 * DAY.as_secs()).1, "its key was damaged");
    }

    #[test]
    fn is_issued_again_for_a_new_authority() {
        let dir = tempfile::tempdir().expect("directory");
        let other = tempfile::tempdir().expect("directory");
        let (authority, _) = Authority::open(dir.path(), &Wanted::default(), NOW).expect("CA");
        let (next, _) = Authority::open(other.path(), &Wanted::default(), NOW).expect("CA");
        assert!(open(dir.path(), &authority, &names(&[]), NOW).expect("leaf").1);
        assert!(open(dir.path(), &next, &names(&[]), NOW).expect("leaf").1);
    }
}
