//! Binds everything, starts shards and web, waits, drains.

mod announce;
mod bind;
mod clock_watch;
mod drain;
mod follow;
mod passed;
mod reload;
mod revoked;
pub mod status;
mod watchdog;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::load::{ConfigError, Loaded};
use crate::config::{Access, Config};
use crate::net::{self, Net, Revocations, Setup};
use crate::state::{self, State};
use crate::systemd;
use crate::web::access::{access_mode, spent_pass};
use crate::web::admin::{self, Admin};
use crate::web::figures::Figures;
use crate::web::front::{Front, Listener};
use crate::web::gate::Gate;
use crate::web::hub::HubHandle;
use crate::web::live::Live;
use crate::web::routes::Site;
use crate::web::tls::{Tls, acme};
use crate::web::{self, Bound, Web};
use crate::webhooks::Webhooks;
pub(crate) use announce::is_global;
use follow::Watch;
pub use passed::Passed;

/// How often addresses and the leaf's age are looked at.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);
/// Exit code after a second signal: that of a process ended by SIGINT in a shell.
const INTERRUPTED: i32 = 130;

/// Reads the configuration again from where it was read at the start.
pub type Source = Box<dyn Fn() -> Result<Loaded, ConfigError>>;

/// Runs `serve` until SIGINT or SIGTERM; SIGHUP reads the configuration again, by `load`.
pub fn run(config: Config, load: &Source) -> Result<()> {
    let started = clock::now().mono;
    let passed = Passed::from_environment();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let mut app = App::start_with(config, passed).await?;
        status::serve(&app, started);
        announce::ready(&app, started);
        systemd::ready();
        tokio::spawn(clock_watch::run());
        if let Some(grants) = systemd::watchdog() {
            tokio::spawn(watchdog::run(Arc::clone(&app.web), grants));
        }
        while signals.next().await == Asked::Reload {
            app.obey_reload(load).await;
        }
        tokio::spawn(async move {
            while signals.next().await == Asked::Reload {
                tracing::warn!("nothing was reloaded: the server is stopping");
            }
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
    watch: Watch,
    /// Access is open: what the hub asks about passes.
    is_open: Arc<AtomicBool>,
    /// Holds the lock of the state directory.
    state: State,
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
        let is_open = Arc::new(AtomicBool::new(access == Access::Open));
        let bar = spent_pass(Arc::clone(&is_open), Arc::clone(net.revoked()));
        let hub = {
            let watch = watch.clone();
            HubHandle::start(&config.limits, config.resume, bar, move |notice| watch.notice(notice))
        };
        let gate = Gate::new(&config.api_keys, &state.admin_token);
        let longest_ttl = config.credential_ttl;
        let web = Arc::new(Web {
            live: Live::new(reload::in_force(config, &state, turn_secrets, access, gate, longest_ttl)),
            kept: keeper.kept(),
            net,
            hub,
            bound,
            identity: Arc::clone(&tls.identity),
            acme: tls.acme.clone(),
            webhooks: webhooks.clone(),
            figures: Figures::default(),
            admin: Admin::default(),
        });
        let (stop, alive) = serve(&web, &tls, listeners, metrics)?;
        let (keep, last) = watch::channel(false);
        let keeping = Keeping { stop: keep, task: tokio::spawn(keeper.run(last)) };
        warn_about_access(&web);
        Ok(Self { web, tls, interfaces, stop, alive, keeping, webhooks, watch, is_open, state })
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
    tokio::spawn(admin::watch(Arc::clone(web), stopped.clone()));
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
            tls.renew(&web.config(), &interfaces, clock::now().unix)
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
    if web.live.get().access == Access::Open && !is_local {
        tracing::warn!(
            "access is open: whoever reaches this server may hold calls and use its relay (--access invite)"
        );
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// SIGHUP.
    Reload,
    /// SIGINT or SIGTERM.
    Stop,
}

/// SIGHUP, SIGINT and SIGTERM.
struct Signals {
    hang_up: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        let hang_up = listen(SignalKind::hangup())?;
        Ok(Self { hang_up, interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
        }
    }
}
