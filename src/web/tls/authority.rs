//! The local CA: ECDSA P-256, ten years, path length 0, critical name constraints.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Cidr;

use super::files::{read_chain, write};
use super::names::{Permitted, Wanted};

/// Our certificates are valid from so long before they are made: a client whose clock is a little behind accepts them.
pub const BACKDATED: Duration = Duration::from_secs(24 * 3600);
const LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// A CA with less left than a leaf's lifetime is replaced.
const LEAST_LEFT: Duration = Duration::from_secs(90 * 24 * 3600);

/// The CA in use.
pub struct Authority {
    pub der: CertificateDer<'static>,
    pub pem: String,
    pub permitted: Permitted,
    pub issuer: Issuer<'static, KeyPair>,
}

/// Why there is a new CA; every device that trusted the old one has to trust the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// None was there.
    First,
    /// The reason, as a sentence.
    Replaced(String),
}

/// `ca.pem` of a state directory.
pub fn certificate_file(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

fn key_file(dir: &Path) -> PathBuf {
    dir.join("ca.key")
}

impl Authority {
    /// Loads the CA of `dir`, or makes one when none is there, it is nearly over, or it does not permit what the
    /// operator asks for. `now` in unix seconds.
    pub fn open(dir: &Path, wanted: &Wanted, now: u64) -> Result<(Self, Option<Made>)> {
        if !certificate_file(dir).exists() && !key_file(dir).exists() {
            return Ok((Self::make(dir, wanted, now)?, Some(Made::First)));
        }
        let loaded = Self::load(dir).with_context(|| {
            format!("remove ca.pem and ca.key from {} to have a new local CA made at the next start", dir.display())
        })?;
        let reason = if loaded.expires()? < now + LEAST_LEFT.as_secs() {
            "the old one was about to expire"
        } else if !loaded.permitted.has_all(&wanted.given) {
            "the old one may not sign for the domain or address that was configured"
        } else {
            return Ok((loaded, None));
        };
        Ok((Self::make(dir, wanted, now)?, Some(Made::Replaced(reason.into()))))
    }

    fn load(dir: &Path) -> Result<Self> {
        let (certificate, key) = (certificate_file(dir), key_file(dir));
        let der = read_chain(&certificate)?.swap_remove(0);
        let pem = std::fs::read_to_string(&certificate)?;
        let key_pem = std::fs::read_to_string(&key).with_context(|| format!("{}: cannot read", key.display()))?;
        let key_pair = KeyPair::from_pem(&key_pem).with_context(|| format!("{}: no private key", key.display()))?;
        let (_, parsed) = X509Certificate::from_der(&der).with_context(|| certificate.display().to_string())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key_pair.public_key_raw() {
            return Err(anyhow!("{} does not belong to {}", key.display(), certificate.display()));
        }
        let permitted = permitted_of(&parsed).with_context(|| certificate.display().to_string())?;
        let issuer =
            Issuer::from_ca_cert_der(&der, key_pair).with_context(|| format!("{}: not a CA", certificate.display()))?;
        Ok(Self { der, pem, permitted, issuer })
    }

    fn make(dir: &Path, wanted: &Wanted, now: u64) -> Result<Self> {
        let permitted = Permitted::for_new_authority(wanted);
        let key_pair = KeyPair::generate()?;
        let params = parameters(&permitted, now)?;
        let certificate = params.self_signed(&key_pair)?;
        // The key first: a certificate without its key would stop the next start, a key alone as well, but a reader
        // of ca.pem never sees one that we cannot sign for.
        write(&key_file(dir), &key_pair.serialize_pem())?;
        write(&certificate_file(dir), &certificate.pem())?;
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Ok(Self { der, pem, permitted, issuer: Issuer::new(params, key_pair) })
    }

    /// The end of its time in unix seconds.
    fn expires(&self) -> Result<u64> {
        let (_, parsed) = X509Certificate::from_der(&self.der)?;
        Ok(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0))
    }
}

/// Sets the time a certificate is valid, in unix seconds.
pub(super) fn set_validity(params: &mut CertificateParams, from: u64, until: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from);
    params.not_after = epoch + Duration::from_secs(until);
}

fn parameters(permitted: &Permitted, now: u64) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    let machine = super::names::machine_name().unwrap_or_else(|| "this machine".into());
    name.push(DnType::OrganizationName, "Relais");
    name.push(DnType::CommonName, format!("Relais local CA of {machine}"));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let dns = permitted.dns.iter().cloned().map(GeneralSubtree::DnsName);
    let blocks = permitted
        .blocks
        .iter()
        .map(|block| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(block.network, block.prefix)));
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: dns.chain(blocks).collect(), excluded_subtrees: Vec::new() });
    set_validity(&mut params, now.saturating_sub(BACKDATED.as_secs()), now + LIFETIME.as_secs());
    Ok(params)
}

/// The name constraints of a CA certificate.
fn permitted_of(certificate: &X509Certificate<'_>) -> Result<Permitted> {
    let constraints = certificate.name_constraints()?.ok_or_else(|| anyhow!("has no name constraints"))?;
    let mut permitted = Permitted { dns: BTreeSet::new(), blocks: Vec::new() };
    for subtree in constraints.value.permitted_subtrees.iter().flatten() {
        match &subtree.base {
            GeneralName::DNSName(name) => {
                permitted.dns.insert(name.to_ascii_lowercase());
            }
            GeneralName::IPAddress(bytes) => permitted.blocks.extend(block_of(bytes)),
            _ => {}
        }
    }
    Ok(permitted)
}

/// Address and mask, of 4 or 16 bytes each (RFC 5280 section 4.2.1.10).
fn block_of(bytes: &[u8]) -> Option<Cidr> {
    let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
    let prefix = mask.iter().map(|byte| byte.count_ones() as u8).sum();
    let network = if let Ok(octets) = <[u8; 4]>::try_from(address) {
        IpAddr::V4(Ipv4Addr::from(octets))
    } else {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?))
    };
    Some(Cidr { network, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tls::names::Names;

    const NOW: u64 = 1_763_700_000;

    fn wanted(domain: &str) -> Wanted {
        let given = Names { dns: [domain.to_owned()].into(), ips: ["203.0.113.9".parse().expect("address")].into() };
        Wanted { given, found: Names::default() }
    }

    #[test]
    fn is_made_once_and_loaded_again() {
        let dir = tempfile::tempdir().expect("directory");
        let (first, made) = Authority::open(dir.path(), &wanted("call.example"), NOW).expect("made");
        assert_eq!(made, Some(Made::First));
        let (second, made) = Authority::open(dir.path(), &wanted("call.example"), NOW + 1).expect("loaded");
        assert_eq!(made, None);
        assert_eq!(first.der, second.der);
        assert_eq!(first.permitted.dns, second.permitted.dns);
        assert_eq!(first.permitted.blocks, second.permitted.blocks);
    }

    #[test]
    fn is_replaced_when_the_domain_does_not_fit_or_time_runs_out() {
        let dir = tempfile::tempdir().expect("directory");
        Authority::open(dir.path(), &wanted("call.example"), NOW).expect("made");
        let (_, made) = Authority::open(dir.path(), &wanted("other.example"), NOW).expect("made again");
        assert!(matches!(made, Some(Made::Replaced(_))), "{made:?}");
        let late = NOW + LIFETIME.as_secs() - 24 * 3600;
        let (_, made) = Authority::open(dir.path(), &wanted("other.example"), late).expect("made again");
        assert!(matches!(made, Some(Made::Replaced(_))), "{made:?}");
    }

    #[test]
    fn constraints_are_critical_and_the_path_ends_here() {
        let dir = tempfile::tempdir().expect("directory");
        let (authority, _) = Authority::open(dir.path(), &wanted("call.example"), NOW).expect("made");
        let (_, parsed) = X509Certificate::from_der(&authority.der).expect("certificate");
        assert!(parsed.name_constraints().expect("one").expect("present").critical);
        let basic = parsed.basic_constraints().expect("one").expect("present");
        assert!(basic.value.ca);
        assert_eq!(basic.value.path_len_constraint, Some(0));
    }

    #[test]
    fn a_broken_pair_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().expect("directory");
        Authority::open(dir.path(), &wanted("call.example"), NOW).expect("made");
        std::fs::write(key_file(dir.path()), "nonsense").expect("written");
        let error = Authority::open(dir.path(), &wanted("call.example"), NOW).err().expect("refused");
        let text = format!("{error:#}");
        assert!(text.contains("remove ca.pem and ca.key") && text.contains("ca.key: no private key"), "{text}");
    }
}
