//! The settings in force. Every core holds them; they are replaced whole, and looked up here only by who is new: a
//! connection, an Allocate.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Setup, interface_addresses};
use crate::config::Config;
use crate::relay::{self, Alternate, Revoked, Settings};

/// What all cores share, and which of our addresses never change.
pub(super) struct Current {
    relay: RwLock<Arc<relay::Shared>>,
    revoked: Arc<dyn Revoked>,
    /// Bound, public and relay addresses of the configuration, sorted.
    fixed_ips: Vec<IpAddr>,
}

impl Current {
    /// The settings to start with; the error says what is wrong with them.
    pub(super) fn new(
        setup: &Setup<'_>,
        udp: &[SocketAddr],
        alternate: Option<Alternate>,
        revoked: Arc<dyn Revoked>,
    ) -> Result<Self, String> {
        let config = setup.config;
        let other = alternate.map(|alternate| alternate.other);
        let bound: Vec<_> = udp.iter().chain(&setup.tcp_addresses).chain(&other).copied().collect();
        let public = config.public_ips.iter().map(|rule| rule.public);
        let listening = bound.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        let fixed_ips = sorted(listening.chain(public).chain(config.relay_ips.iter().copied()));
        let own_ips = sorted(fixed_ips.iter().copied().chain(interface_addresses()));
        Self::of(settings(setup, own_ips, &bound, alternate), fixed_ips, revoked)
    }

    /// `settings` as they are.
    pub(super) fn of(settings: Settings, fixed_ips: Vec<IpAddr>, revoked: Arc<dyn Revoked>) -> Result<Self, String> {
        settings.check()?;
        let relay = relay::Shared::with_revoked(settings, Arc::clone(&revoked));
        Ok(Self { relay: RwLock::new(Arc::new(relay)), revoked, fixed_ips })
    }

    pub(super) fn get(&self) -> Arc<relay::Shared> {
        Arc::clone(&self.relay.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every address of ours, when the interfaces have these.
    pub(super) fn own_ips(&self, interfaces: &[IpAddr]) -> Vec<IpAddr> {
        sorted(self.fixed_ips.iter().chain(interfaces).copied())
    }

    /// Edits a copy of the settings and puts it in force, if it is one to start with.
    pub(super) fn replace(&self, edit: impl FnOnce(&mut Settings)) -> Result<Arc<relay::Shared>, String> {
        let mut settings = self.get().settings().clone();
        edit(&mut settings);
        settings.check()?;
        let relay = Arc::new(relay::Shared::with_revoked(settings, Arc::clone(&self.revoked)));
        *self.relay.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&relay);
        Ok(relay)
    }
}

fn sorted(ips: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = ips.collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

/// The relay's part of the configuration, with what only the shell knows: our own addresses and service ports.
fn settings(setup: &Setup<'_>, own_ips: Vec<IpAddr>, bound: &[SocketAddr], alternate: Option<Alternate>) -> Settings {
    let config = setup.config;
    let mut service_ports: Vec<u16> = bound.iter().map(SocketAddr::port).collect();
    service_ports.sort_unstable();
    service_ports.dedup();
    let mut settings = Settings {
        realm: config.realm.clone(),
        software: concat!("relais ", env!("CARGO_PKG_VERSION")).into(),
        turn_secrets: setup.turn_secrets.clone(),
        users: Vec::new(),
        nonce_secrets: vec![setup.nonce_secret.clone()],
        own_ips,
        service_ports,
        public_ips: config.public_ips.clone(),
        alternate,
        allow_peers: Vec::new(),
        deny_peers: Vec::new(),
        permissions: 0,
        channels: 0,
        tcp_connections: 0,
        legacy_channels: false,
        strict_family: false,
        strict_expiry: false,
        password_algorithms: true,
        limits: crate::relay::Limits::default(),
    };
    take(&mut settings, config);
    settings
}

/// Takes over what may change while the server runs.
pub(super) fn take(settings: &mut Settings, config: &Config) {
    settings.users.clone_from(&config.users);
    settings.allow_peers.clone_from(&config.allow_peers);
    settings.deny_peers.clone_from(&config.deny_peers);
    settings.permissions = config.limits.permissions;
    settings.channels = config.limits.channels;
    settings.tcp_connections = if config.tcp_relay { config.limits.tcp_connections } else { 0 };
    settings.legacy_channels = config.legacy_channels;
    settings.strict_family = config.strict_family;
    settings.strict_expiry = config.strict_expiry;
    settings.limits.bandwidth = config.limits.bandwidth;
    settings.limits.total_bandwidth = config.limits.total_bandwidth;
}
