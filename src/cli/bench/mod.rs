//! `relais bench`: puts a TURN server of one's own under load and tells what it can do.

mod report;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::check::stream;
use super::check::target::{self, Target, Transport};
use super::flags::{Flags, SecretFlags};
use super::{UsageError, print};
use crate::bench::{self, Framing, Login, Peers, Plan, Process, Step, Tls, Way};
use crate::{clock, net, relay, state};

/// Packets of a video frame that leave together, and their payload.
const VIDEO: (usize, usize) = (12, 1_200);
/// A video frame comes every 33 ms.
const VIDEO_FRAMES: f64 = 1.0 / 0.033;
/// Payload of a packet of speech, and how many come in a second.
const AUDIO: (usize, f64) = (160, 50.0);
/// Not counted, at the start of a run and of each step of a search.
const WARM: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(200)];
/// How long a step of a search lasts when nothing else is said, in seconds.
const SEARCH_SECONDS: f64 = 1.5;
/// Credentials made here are good this much longer than the run.
const SPARE: u64 = 3_600;

const AFTER_HELP: &str = "\
The load is an open loop: packets are due at fixed moments whatever comes back, and latency counts from the moment a \
packet was due. Peers are sockets of this program; a relais relays to them with --allow-peer 127.0.0.0/8 on loopback.

Targets: loopback and private addresses and this machine's own; anywhere else only with the server's credentials or \
secret given, and at 50,000 packets/s at most. Everywhere at most 2,000,000 packets/s, 20,000 allocations, 15 minutes.";

/// What `relais bench` takes.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// HOST, HOST:PORT, or a turn: or turns: URL
    #[arg(value_name = "HOST", value_parser = target::parse)]
    target: Target,
    /// How clients reach the server [default: the URL's, else udp]
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    transport: Option<Transport>,
    /// Allocations
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    allocations: usize,
    /// What is sent: video, frames of 12 packets of 1200 bytes every 33 ms; audio, 160 bytes every 20 ms
    #[arg(long, value_enum, value_name = "KIND", default_value = "video")]
    profile: Profile,
    /// Payload bytes of a packet [default: the profile's]
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Packets that leave together [default: the profile's]
    #[arg(long, value_name = "NUMBER")]
    burst: Option<usize>,
    /// Packets per second, all allocations and both ways together [default: the profile's]
    #[arg(long, value_name = "NUMBER")]
    rate: Option<f64>,
    /// Which ways packets go
    #[arg(long, value_enum, value_name = "WAYS", default_value = "both")]
    ways: Ways,
    /// Send and Data indications instead of ChannelData
    #[arg(long)]
    indications: bool,
    /// Whom clients talk to
    #[arg(long, value_enum, value_name = "PEER", default_value = "own")]
    peer: PeerKind,
    /// Packets per second that the first allocation sends besides, in bursts; it is reported apart
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    hot: f64,
    /// How long a run lasts, or a step of a search [default: 10, of a search 1.5]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Search for the highest rate, beginning at --rate
    #[arg(long)]
    search: bool,
    /// Loss that a search allows, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.1)]
    loss: f64,
    /// Measure the control plane instead: Allocate with its 401, then Refresh 0
    #[arg(long, conflicts_with_all = ["search", "indications", "hot", "rate"])]
    control: bool,
    /// Operations of --control at once
    #[arg(long, value_name = "NUMBER", default_value_t = 64)]
    parallel: usize,
    /// The server's process on this machine: its CPU time and memory are told
    #[arg(long, value_name = "ID")]
    pid: Option<u32>,
    /// Send every packet by itself, as if the kernel could not cut a burst
    #[arg(long)]
    no_gso: bool,
    /// Take every packet by itself, as a receiver that does not coalesce
    #[arg(long)]
    no_gro: bool,
    /// Username
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,
    /// Its password
    #[arg(long, value_name = "TEXT", requires = "user")]
    password: Option<String>,
    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Do not verify the certificate
    #[arg(long)]
    insecure: bool,
    /// Print one JSON object (progress goes to standard error)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    secrets: Flags<SecretFlags>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    Video,
    Audio,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Ways {
    Both,
    ToPeer,
    ToClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PeerKind {
    /// Sockets of this program
    Own,
    /// The next allocation
    Allocation,
}

/// Runs the load and reports.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let server = server(&args.target)?;
    let limits = limits(args, server)?;
    let plan = plan(args, server)?;
    let process = args.pid.map(Process::new).transpose().map_err(UsageError)?;
    let object = if args.control {
        control(args, &plan, process.as_ref())?
    } else {
        load(args, &plan, limits, process.as_ref())?
    };
    if args.json {
        print(&format!("{object}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The address to load: the first the system's resolver gives.
fn server(target: &Target) -> anyhow::Result<SocketAddr> {
    let found = (target.host.as_str(), target.port).to_socket_addrs();
    let found = found.with_context(|| format!("{} has no address", target.host))?.next();
    found.with_context(|| format!("{} has no address", target.host))
}

/// Holds the arguments against the bounds; the most packets per second there may be.
fn limits(args: &Args, server: SocketAddr) -> Result<f64, UsageError> {
    let own = net::interface_addresses();
    let is_near = bench::is_near(server.ip(), &own);
    let has_credentials = args.user.is_some() || !args.secrets.settings.is_empty();
    if !is_near && !has_credentials {
        return Err(UsageError(format!(
            "{} is neither this machine nor in a private network: a load test of a server elsewhere needs its \
             credentials (--user and --password) or its secret (--secret-file)",
            server.ip()
        )));
    }
    let most_rate = if is_near { bench::MAX_RATE } else { bench::MAX_RATE_OUTSIDE };
    let most_seconds = bench::MAX_TIME.as_secs_f64();
    let checks = [
        ("--allocations", args.allocations as f64, 1.0, bench::MAX_ALLOCATIONS as f64),
        ("--size", args.size.unwrap_or(bench::STAMP) as f64, bench::STAMP as f64, bench::MAX_SIZE as f64),
        ("--burst", args.burst.unwrap_or(1) as f64, 1.0, bench::MAX_BURST as f64),
        ("--rate", args.rate.unwrap_or(1.0), 1.0, most_rate),
        ("--hot", args.hot, 0.0, most_rate),
        ("--seconds", args.seconds.unwrap_or(1.0), 0.1, most_seconds),
        ("--loss", args.loss, 0.0, 50.0),
        ("--parallel", args.parallel as f64, 1.0, bench::MAX_PARALLEL as f64),
    ];
    for (name, value, least, most) in checks {
        if !(least..=most).contains(&value) {
            return Err(UsageError(format!("{name} {value}: from {least} to {most}")));
        }
    }
    if args.peer == PeerKind::Allocation && args.allocations < 2 {
        return Err(UsageError("--peer allocation: it takes two allocations at least".into()));
    }
    Ok(most_rate)
}

fn plan(args: &Args, server: SocketAddr) -> anyhow::Result<Plan> {
    let transport = match args.transport.or(args.target.transport).unwrap_or(Transport::Udp) {
        Transport::Udp => relay::Transport::Udp,
        Transport::Tcp => relay::Transport::Tcp,
        Transport::Tls => relay::Transport::Tls,
    };
    let size = args.size.unwrap_or(match args.profile {
        Profile::Video => VIDEO.1,
        Profile::Audio => AUDIO.0,
    });
    Ok(Plan {
        server,
        transport,
        tls: if transport == relay::Transport::Tls { Some(tls(args)?) } else { None },
        login: login(args)?,
        allocations: args.allocations,
        framing: if args.indications { Framing::Indication } else { Framing::Channel },
        peers: if args.peer == PeerKind::Own { Peers::Own } else { Peers::Allocation },
        size,
        gso: !args.no_gso && bench::has_gso(server),
        gro: !args.no_gro,
        expires: clock::now().unix + bench::MAX_TIME.as_secs() + SPARE,
        deaf: false,
    })
}

fn tls(args: &Args) -> anyhow::Result<Tls> {
    let mut roots = stream::public_roots();
    // The CA of a relais on this machine is trusted without asking: its key lies beside it.
    let local = args.secrets.load().ok().map(|loaded| loaded.config.state_dir.join("ca.pem"));
    let local = local.filter(|path| std::fs::File::open(path).is_ok());
    let files: Vec<_> = [args.ca.as_deref(), local.as_deref()].into_iter().flatten().collect();
    roots.roots.extend(stream::roots_of(&files)?.roots);
    let config = Arc::new(stream::tls_config(roots, args.insecure)?);
    Ok(Tls { config, name: stream::server_name(&args.target.host)? })
}

/// The credentials given, or the secret: given, or that of the state directory.
fn login(args: &Args) -> anyhow::Result<Login> {
    if let (Some(name), Some(password)) = (args.user.clone(), args.password.clone()) {
        return Ok(Login::User { name, password });
    }
    let secrets = args.secrets.load().map_err(anyhow::Error::from);
    let secrets = secrets
        .and_then(|loaded| state::turn_secrets(&loaded.config))
        .context("no credentials: give --user and --password, or the server's secret (--secret-file, --state-dir)")?;
    Ok(Login::Secret(secrets[0].clone()))
}

fn control(args: &Args, plan: &Plan, process: Option<&Process>) -> anyhow::Result<Value> {
    if !bench::suits_control(&plan.login, args.parallel) {
        let text = "--control with one username meets its quota: give the secret, or --parallel 4 at most";
        return Err(UsageError(text.into()).into());
    }
    let time = Duration::from_secs_f64(args.seconds.unwrap_or(10.0));
    let figures = bench::run_control(plan, args.parallel, time, process)?;
    if !args.json {
        print(&report::control(&figures));
    }
    Ok(json!({ "server": plan.server.to_string(), "control": figures.json() }))
}

fn load(args: &Args, plan: &Plan, most_rate: f64, process: Option<&Process>) -> anyhow::Result<Value> {
    let ways = match args.ways {
        Ways::Both => vec![Way::ToPeer, Way::ToClient],
        Ways::ToPeer => vec![Way::ToPeer],
        Ways::ToClient => vec![Way::ToClient],
    };
    let (burst, each) = match args.profile {
        Profile::Video => (VIDEO.0, VIDEO.0 as f64 * VIDEO_FRAMES),
        Profile::Audio => (1, AUDIO.1),
    };
    let flows = if plan.peers == Peers::Own { plan.allocations } else { plan.allocations / 2 };
    let rate = args.rate.unwrap_or(each * (flows * ways.len()) as f64).min(most_rate);
    let seconds = args.seconds.unwrap_or(if args.search { SEARCH_SECONDS } else { 10.0 });
    let step = Step {
        rate,
        burst: args.burst.unwrap_or(burst),
        ways,
        warm: WARM[usize::from(args.search)],
        time: Duration::from_secs_f64(seconds),
        hot: args.hot,
        hot_way: Way::ToPeer,
    };
    let progress = report::Progress::new(args.json);
    progress.say(&format!("{} allocations at {}", plan.allocations, plan.server));
    let (mut engine, memory) = bench::set_up(plan, process)?;
    progress.head(process.is_some());
    let mut one = |rate| {
        let step = Step { rate, ..step.clone() };
        let figures = engine.run(&step, process, |time, delivered| progress.tick(time, delivered))?;
        progress.row(&figures);
        anyhow::Ok(figures)
    };
    let mut object = json!({
        "server": plan.server.to_string(),
        "transport": plan.transport.name(),
        "allocations": plan.allocations,
        "burst": step.burst,
        "memory_bytes_per_allocation": memory.map(f64::round),
    });
    if args.search {
        let found = bench::search(rate, most_rate, args.loss / 100.0, one)?;
        object["allowed_loss"] = json!(args.loss / 100.0);
        object["is_lower_bound"] = json!(found.is_lower_bound);
        object["highest"] = found.best.as_ref().map_or(Value::Null, bench::Figures::json);
        progress.found(&found, args.loss);
    } else {
        let figures = one(rate)?;
        object["run"] = figures.json();
        progress.details(&figures, memory);
    }
    bench::tear_down(engine.into_field());
    Ok(object)
}
