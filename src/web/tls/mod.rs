//! TLS: the certificate of the operator, or a local CA and a leaf made at first run (DESIGN section 6).

pub mod acme;
mod authority;
mod files;
mod identity;
mod leaf;
mod names;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;

pub use authority::BACKDATED;
pub use identity::{Identity, provider};

use crate::config::Config;
use acme::Acme;
use authority::{Authority, Made};
use files::Watched;
use names::Wanted;

/// What we offer by ALPN; browsers send none on `turns:`, and the first byte inside decides in any case.
const ALPN: [&[u8]; 3] = [b"http/1.1", b"stun.turn", b"stun.nat-discovery"];

/// The TLS side of the server: where its certificate comes from and the handshake's settings.
pub struct Tls {
    /// The certificate in use.
    pub identity: Arc<Identity>,
    /// What `tokio-rustls` needs; new certificates reach it through `identity`.
    pub server: Arc<ServerConfig>,
    /// What the operator should know about the certificate, one sentence each.
    pub notices: Vec<String>,
    /// Present where certificates come by ACME.
    pub acme: Option<Arc<Acme>>,
    source: Source,
}

/// Where the certificate comes from when it does not come by ACME.
enum Source {
    /// The operator's files.
    Files(Watched),
    /// Our own making.
    Local { dir: PathBuf, authority: Box<Authority> },
}

impl Tls {
    /// Reads the operator's certificate, or opens (at first run: makes) the local CA and its leaf; the certificate
    /// that ACME brought in an earlier run goes before the leaf. `interfaces` are this machine's addresses, `now` is
    /// in unix seconds.
    pub fn open(config: &Config, interfaces: &[IpAddr], now: u64) -> Result<Self> {
        if let Some((chain, key)) = &config.certificate {
            let (watched, key) = Watched::open(chain, key)?;
            let identity = Arc::new(Identity::new(None));
            let server = server_config(&identity, false)?;
            identity.replace(Arc::new(key), true);
            return Ok(Self { identity, server, notices: Vec::new(), acme: None, source: Source::Files(watched) });
        }
        let (acme, stored) = Acme::open(config, now)?.unzip();
        let identity = Arc::new(Identity::new(acme.as_ref().map(|acme| Arc::clone(&acme.challenges))));
        let server = server_config(&identity, acme.is_some())?;
        let wanted = Wanted::collect(config, interfaces);
        let (authority, made) = Authority::open(&config.state_dir, &wanted, now)?;
        let names = authority.permitted.fit(&wanted);
        let (leaf, _) = leaf::open(&config.state_dir, &authority, &names, now)?;
        match stored.flatten() {
            Some(stored) => identity.replace(Arc::new(stored), true),
            None => identity.replace(Arc::new(leaf), false),
        }
        let source = Source::Local { dir: config.state_dir.clone(), authority: Box::new(authority) };
        Ok(Self { identity, server, notices: notice(made), acme, source })
    }

    /// Takes the operator's files again when they changed, or issues the leaf again when it ages or the machine's
    /// addresses changed; true when a new certificate is in use.
    pub fn renew(&self, config: &Config, interfaces: &[IpAddr], now: u64) -> Result<bool> {
        let (key, may_be_public) = match &self.source {
            Source::Files(watched) => (watched.changed()?, true),
            Source::Local { dir, authority } => {
                let names = authority.permitted.fit(&Wanted::collect(config, interfaces));
                let (key, is_new) = leaf::open(dir, authority, &names, now)?;
                (Some(key).filter(|_| is_new && self.is_local()), false)
            }
        };
        let is_new = key.is_some();
        if let Some(key) = key {
            self.identity.replace(Arc::new(key), may_be_public);
        }
        Ok(is_new)
    }

    /// The operator's pair as its files hold it now, if that is another than the one in use. Nothing is taken into use.
    pub fn read_again(&self) -> Result<Option<CertifiedKey>> {
        let Source::Files(watched) = &self.source else { return Ok(None) };
        let read = watched.read()?;
        Ok((read.cert != self.identity.chain()).then_some(read))
    }

    /// The local CA in PEM form; `None` while its leaf is not the certificate in use.
    pub fn authority_pem(&self) -> Option<&str> {
        match &self.source {
            Source::Local { authority, .. } if self.is_local() => Some(&authority.pem),
            Source::Local { .. } | Source::Files(_) => None,
        }
    }

    /// The local CA's file.
    pub fn authority_file(&self) -> Option<PathBuf> {
        match &self.source {
            Source::Local { dir, .. } => Some(authority::certificate_file(dir)),
            Source::Files(_) => None,
        }
    }

    /// True while no certificate has come by ACME.
    fn is_local(&self) -> bool {
        self.acme.as_ref().is_none_or(|acme| acme.status().validity.is_none())
    }
}

fn server_config(identity: &Arc<Identity>, has_acme: bool) -> Result<Arc<ServerConfig>> {
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(identity) as _);
    // Sessions are resumed by tickets that the client keeps: a table here would be too small for everybody who comes
    // back after a cut, and costs memory.
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    if has_acme {
        server.alpn_protocols.push(acme::ALPN.to_vec());
    }
    Ok(Arc::new(server))
}

fn notice(made: Option<Made>) -> Vec<String> {
    match made {
        Some(Made::Replaced(reason)) => {
            vec![format!("a new local CA was made ({reason}): devices that trusted the old one must trust it too")]
        }
        Some(Made::First) | None => Vec::new(),
    }
}
