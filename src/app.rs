//! Binds everything, starts shards and web, waits, drains.

mod announce;
mod bind;
mod follow;
mod passed;
mod revoked;
pub mod status;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::{Access, Config};
use crate::credentials::token::Tokens;
use crate::net::{self, Net, Revocations, Setup};
use crate::state::{self, State};
use crate::systemd;
use crate::web::access::{access_mode, spent_pass};
use crate::web::front::{Front, Listener};
use crate::web::gate::Gate;
use crate::web::hub::HubHandle;
use crate::web::routes::Site;
use crate::web::tls::{Tls, acme};
use crate::web::{self, Bound, Web};
use crate::webhooks::Webhooks;
pub(crate) use announce::is_global;
use follow::Watch;
pub use passed::Passed;

/// How often addresses and the leaf's age are looked at.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);
/// How often a stopping server looks whether its signaling connections are closed.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long a stopping server waits for the webhook's receiver.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Exit code after a second signal: that of a process ended by SIGINT in a shell.
const INTERRUPTED: i32 = 130;

/// Runs `serve` until SIGINT or SIGTERM.
pub fn run(config: Config) -> Result<()> {
    let started = clock::now().mono;
    let passed = Passed::from_environment();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let app = App::start_with(config, passed).await?;
        status::serve(&app, started);
        announce::ready(&app, started);
        systemd::ready();
        tokio::spawn(systemd::keep_alive());
        signals.first().await;
        tokio::spawn(async move {
            signals.first().await;
            std::process::exit(INTERRUPTED);
        });
        app.stop().await;
        Ok(())
    })
}

/// A running server.
pub struct App {
    pub web: Arc<Web>,
    pub tls: Arc<Tls>,
    /// Addresses of this machine's interfaces at start.
    pub interfaces: Vec<IpAddr>,
    /// True to take no more connections.
    stop: watch::Sender<bool>,
    alive: Alive,
    keeping: Keeping,
    webhooks: Webhooks,
    /// Holds the lock of the state directory.
    _state: State,
}

impl App {
    /// Opens the state, binds every socket and serves. When this returns, all of it answers.
    pub async fn start(config: Config) -> Result<Self> {
        Self::start_with(config, Passed::default()).await
    }

    /// The same, with sockets that are bound already.
    pub async fn start_with(config: Config, mut passed: Passed) -> Result<Self> {
        let now = clock::now();
        let state = State::create(&config.state_dir)?;
        let interfaces = net::interface_addresses();
        let tls = Arc::new(Tls::open(&config, &interfaces, now.unix)?);
        let listeners = bind::listeners(&config, &mut passed)?;
        let metrics = bind::metrics(&config)?;
        let mut bound = bind::addresses(&listeners);
        bound.metrics = metrics.as_ref().map(TcpListener::local_addr).transpose()?;
        let turn_secrets = state::turn_secrets(&config)?;
        let revoked = Arc::<Revocations>::default();
        revoked::restore(&config.state_dir, &revoked)?;
        let keeper = revoked::Keeper::new(&config.state_dir, Arc::clone(&revoked));
        let net = start_net(&config, &state, &turn_secrets, &bound, revoked, passed.take_udp())?;
        bound.udp = net.udp_addresses();
        let access = access_mode(&config, &bound);
        let webhooks = Webhooks::start(config.webhook.as_ref())?;
        let watch = Watch::start(net.clone(), webhooks.clone(), config.credential_ttl);
        let bar = spent_pass(access, Arc::clone(net.revoked()));
        let hub = HubHandle::start(&config.limits, config.resume, bar, move |notice| watch.notice(notice));
        let web = Arc::new(Web {
            access,
            tokens: Tokens::new(state.token_key.clone())
                .with_api_keys(config.api_keys.iter().map(|key| (key.id.as_str(), key.secret.as_str()))),
            gate: Gate::new(&config.api_keys, &state.admin_token),
            kept: keeper.kept(),
            turn_secrets,
            net,
            hub,
            bound,
            identity: Arc::clone(&tls.identity),
            config: Arc::new(config),
        });
        let (stop, alive) = serve(&web, &tls, listeners, metrics)?;
        let (keep, last) = watch::channel(false);
        let keeping = Keeping { stop: keep, task: tokio::spawn(keeper.run(last)) };
        warn_about_access(&web);
        Ok(Self { web, tls, interfaces, stop, alive, keeping, webhooks, _state: state })
    }

    /// Stops: no more connections, pages are told, requests under way end (at most `drain_timeout`), shards end.
    pub async fn stop(self) {
        systemd::stopping();
        let allocations = self.web.net.allocations();
        tracing::info!(allocations, "stopping");
        let _ = self.stop.send(true);
        let drain_timeout = self.web.config.drain_timeout;
        let hub = self.web.hub.clone();
        let drained = async {
            // Pages get their notice before the requests under way are waited for.
            hub.shutdown().await;
            self.alive.ended().await;
            while hub.connections() > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        if tokio::time::timeout(drain_timeout, drained).await.is_err() {
            tracing::warn!(seconds = drain_timeout.as_secs(), "requests were still under way");
        }
        let _ = self.keeping.stop.send(true);
        let _ = self.keeping.task.await;
        let net = self.web.net.clone();
        // It waits for threads.
        let _ = tokio::task::spawn_blocking(move || net.stop()).await;
        self.webhooks.finish(LAST_WORDS).await;
        tracing::info!("stopped");
    }
}

/// The task that writes what was revoked; it writes once more when it is stopped.
struct Keeping {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Tells when the last HTTP connection has ended: each holds a sender of the channel.
struct Alive {
    held: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Alive {
    fn new() -> Self {
        let (held, ended) = mpsc::channel(1);
        Self { held, ended }
    }

    async fn ended(self) {
        let Self { held, mut ended } = self;
        drop(held);
        let _ = ended.recv().await;
    }
}

/// Starts one accept loop per listener, and what follows this host's addresses.
fn serve(
    web: &Arc<Web>,
    tls: &Arc<Tls>,
    listeners: Vec<Listener>,
    metrics: Option<TcpListener>,
) -> Result<(watch::Sender<bool>, Alive)> {
    let (stop, stopped) = watch::channel(false);
    let alive = Alive::new();
    let site = Arc::new(Site::new(Arc::clone(web), Arc::clone(tls)).context("cannot open --static-dir")?);
    let front = Arc::new(Front::new(site, stopped.clone(), alive.held.downgrade()));
    for listener in listeners {
        tokio::spawn(Arc::clone(&front).accept(listener));
    }
    if let Some(listener) = metrics {
        tokio::spawn(web::metrics::serve(Arc::clone(web), listener, stopped.clone()));
    }
    if let Some(acme) = &tls.acme {
        let bound = &web.bound;
        let kinds = acme::kinds(bound.tcp.iter().chain(&bound.http).copied());
        tokio::spawn(Arc::clone(acme).run(Arc::clone(&tls.identity), kinds, stopped.clone()));
    }
    tokio::spawn(renew(Arc::clone(web), Arc::clone(tls), stopped));
    Ok((stop, alive))
}

/// Follows this host's addresses: the peer policy must know them all, and the certificate names them. Issues the leaf
/// again when it ages, too.
async fn renew(web: Arc<Web>, tls: Arc<Tls>, mut stopped: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(RENEWAL_INTERVAL);
    interval.tick().await;
    let addresses = net::AddressWatch::new();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = interval.tick() => {}
            () = addresses.changed() => {}
        }
        let (web, tls) = (Arc::clone(&web), Arc::clone(&tls));
        let renewed = tokio::task::spawn_blocking(move || {
            let interfaces = net::interface_addresses();
            if web.net.set_interface_addresses(&interfaces) {
                tracing::info!("the addresses of this host have changed");
            }
            tls.renew(&web.config, &interfaces, clock::now().unix)
        });
        match renewed.await {
            Ok(Ok(true)) => tracing::info!("a new server certificate is in use"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => tracing::error!("cannot renew the server certificate: {error:#}"),
        }
    }
}

fn start_net(
    config: &Config,
    state: &State,
    turn_secrets: &[Vec<u8>],
    bound: &Bound,
    revoked: Arc<Revocations>,
    passed: Vec<UdpSocket>,
) -> Result<Net> {
    let setup = Setup {
        config,
        turn_secrets: turn_secrets.to_vec(),
        nonce_secret: state.turn_secret.clone(),
        tcp_addresses: [bound.tcp.as_slice(), &bound.http, bound.metrics.as_slice()].concat(),
        revoked,
    };
    Net::start_with(setup, passed).map_err(|error| {
        let remedy = if error.in_use { "stop that, or choose another port with --udp" } else { "see --udp" };
        anyhow::anyhow!("UDP {}: {}; {remedy}", error.address, error.reason)
    })
}

fn warn_about_access(web: &Web) {
    let is_loopback = |address: &SocketAddr| address.ip().is_loopback();
    let bound = &web.bound;
    let is_local = bound.udp.iter().chain(&bound.tcp).chain(&bound.http).all(is_loopback);
    if web.access == Access::Open && !is_local {
        tracing::warn!(
            "access is open: whoever reaches this server may hold calls and use its relay (--access invite)"
        );
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn first(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
