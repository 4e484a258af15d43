//! TLS: the certificate of the operator, or a local CA and a leaf made at first run (DESIGN section 6).

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

pub use identity::{Identity, provider};

use crate::config::Config;
use authority::{Authority, Made};
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
    local: Option<Local>,
}

/// A certificate of our own making.
struct Local {
    dir: PathBuf,
    authority: Authority,
}

impl Tls {
    /// Reads the operator's certificate, or opens (at first run: makes) the local CA and its leaf.
    /// `interfaces` are this machine's addresses, `now` is in unix seconds.
    pub fn open(config: &Config, interfaces: &[IpAddr], now: u64) -> Result<Self> {
        let identity = Arc::new(Identity::default());
        let server = server_config(Arc::clone(&identity))?;
        if let Some((chain, key)) = &config.certificate {
            identity.replace(Arc::new(files::read_certified_key(chain, key)?), true);
            return Ok(Self { identity, server, notices: Vec::new(), local: None });
        }
        let wanted = Wanted::collect(config, interfaces);
        let (authority, made) = Authority::open(&config.state_dir, &wanted, now)?;
        let names = authority.permitted.fit(&wanted);
        let (key, _) = leaf::open(&config.state_dir, &authority, &names, now)?;
        identity.replace(Arc::new(key), false);
        let local = Local { dir: config.state_dir.clone(), authority };
        Ok(Self { identity, server, notices: notice(made), local: Some(local) })
    }

    /// Issues the leaf again when it ages or the machine's addresses changed; true when it did.
    pub fn renew(&self, config: &Config, interfaces: &[IpAddr], now: u64) -> Result<bool> {
        let Some(local) = &self.local else { return Ok(false) };
        let names = local.authority.permitted.fit(&Wanted::collect(config, interfaces));
        let (key, is_new) = leaf::open(&local.dir, &local.authority, &names, now)?;
        if is_new {
            self.identity.replace(Arc::new(key), false);
        }
        Ok(is_new)
    }

    /// The local CA in PEM form; `None` with a certificate of the operator's.
    pub fn authority_pem(&self) -> Option<&str> {
        self.local.as_ref().map(|local| local.authority.pem.as_str())
    }

    /// The local CA's file.
    pub fn authority_file(&self) -> Option<PathBuf> {
        self.local.as_ref().map(|local| authority::certificate_file(&local.dir))
    }
}

fn server_config(identity: Arc<Identity>) -> Result<Arc<ServerConfig>> {
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(identity);
    // Sessions are resumed by tickets that the client keeps: a table here would be too small for everybody who comes
    // back after a cut, and costs memory.
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
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
