//! `relais check HOST`: tests any STUN/TURN server with clients that are not ours (`stun`, `turn`).

mod cause;
mod certificate;
mod course;
mod fetch;
mod nat;
mod open;
mod outside;
mod peers;
mod probe;
mod relay;
mod report;
mod session;
pub(super) mod stream;
pub(super) mod target;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::RootCertStore;

use super::flags::{Flags, SecretFlags};
use super::{complain, print};
use crate::clock;
use crate::credentials::token::random_id;
use crate::credentials::turn;
use crate::net;
use crate::state;
use cause::{Cause, Fault};
use course::{Course, Step};
use fetch::Source;
use open::Opener;
use relay::Login;
use report::{Finding, Status};
use target::{Target, Transport};

/// Lifetime of the credentials that the check makes for itself, in seconds.
const LOGIN_TTL: u64 = 600;

/// Where a relais serves HTTPS when the link does not say.
const WEB_PORTS: [u16; 2] = [443, 8443];

const AFTER_HELP: &str = "\
Tests name, certificate, clock, STUN and TURN over each transport, the relayed address from outside, private addresses as \
peers and the NAT here; needs credentials for what goes through the relay.

Exit codes, for cron: 0 all of it works; 1 degraded: calls work over one way at least, but something fails or is dangerous; \
2 broken: nothing carries a call (or the command line is wrong).";

/// What `relais check` takes.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// HOST, HOST:PORT, a stun:, turn: or turns: URL, or an invite link of a relais
    #[arg(value_name = "HOST", value_parser = target::parse)]
    target: Target,
    /// Test this transport only (repeatable) [default: all three, or the URL's]
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    transport: Vec<Transport>,
    /// Port of TLS when it differs [default: the port given, else the first of 3478, 5349, 443 that speaks TLS]
    #[arg(long, value_name = "PORT")]
    tls_port: Option<u16>,
    /// Username
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,
    /// Its password
    #[arg(long, value_name = "TEXT", requires = "user")]
    password: Option<String>,
    /// Access token of a relais: test what its /api/ice offers, with the credentials it gives
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["user", "password"])]
    token: Option<String>,
    /// Trust the certificates in this PEM file too
    #[arg(long, visible_alias = "ca-file", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Do not verify the certificate
    #[arg(long)]
    insecure: bool,
    /// Patience with each step, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
    /// Print one JSON object (progress goes to standard error)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    secrets: Flags<SecretFlags>,
}

/// Tests and reports; the exit code is that of [`Status`].
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let findings = runtime.block_on(check(args))?;
    if args.json {
        print(&format!("{}\n", report::json(&args.target.host, &findings)));
    } else {
        let mut text = format!("\n{}\n", report::verdict(&findings));
        for cause in report::causes(&findings) {
            text += &format!("  - {}: {}\n", cause.clause(), cause.remedy());
        }
        print(&text);
    }
    Ok(ExitCode::from(Status::of(&findings).exit_code()))
}

async fn check(args: &Args) -> anyhow::Result<Vec<Finding>> {
    let mut course = Course::new(args.json);
    let opener = opener(args)?;
    let (steps, login) = match source(args) {
        Some(sources) => match offer(&mut course, args, &opener, &sources).await {
            Some(offer) => offer,
            None => return Ok(course.findings),
        },
        None => (steps(args), login(args)?),
    };
    if login.is_none() && !args.target.is_stun_only {
        complain(
            "no credentials (--user and --password, --secret-file, --state-dir, --token or an invite link): packets \
             through the relay are not tested",
        );
    }
    let mut hosts: Vec<&str> = steps.iter().map(|step| step.host.as_str()).collect();
    hosts.dedup();
    for host in hosts {
        let steps: Vec<Step> = steps.iter().filter(|step| step.host == host).cloned().collect();
        let opener = Opener { name: stream::server_name(host)?, ..opener.clone() };
        course.host(host, &steps, &opener, login.as_ref()).await;
    }
    Ok(course.findings)
}

/// Where the ICE configuration is to be fetched, if it is: one place, or several to try.
fn source(args: &Args) -> Option<Vec<Source>> {
    let Target { host, port, has_port, invite, .. } = &args.target;
    let place = |is_tls, port, token: &String| Source { is_tls, host: host.clone(), port, token: token.clone() };
    match (invite, &args.token) {
        (Some((token, is_tls)), None) => Some(vec![place(*is_tls, *port, token)]),
        (_, Some(token)) if *has_port => Some(vec![place(true, *port, token)]),
        (_, Some(token)) => Some(WEB_PORTS.iter().map(|port| place(true, *port, token)).collect()),
        (None, None) => None,
    }
}

/// The steps and credentials of an ICE configuration; `None` when there is none to be had.
async fn offer(
    course: &mut Course,
    args: &Args,
    opener: &Opener,
    sources: &[Source],
) -> Option<(Vec<Step>, Option<Login>)> {
    let mut last = Fault::other("no place to ask");
    for source in sources {
        course.going_on(&format!("fetching the ICE configuration of {}", source.host));
        match fetch::offer(opener, source).await {
            Ok(offer) => {
                let steps = offered(args, &offer.targets);
                let text = format!("{} transports offered by /api/ice on port {}", steps.len(), source.port);
                course.add(Finding::good("ice", text));
                return Some((steps, offer.login));
            }
            Err(fault) => last = fault,
        }
        if !matches!(last.cause, Cause::PortClosed | Cause::NoAnswer) {
            break;
        }
    }
    course.add(Finding::failed("ice", last));
    None
}

/// A step per URL; STUN alone only where TURN is not offered on the same port.
fn offered(args: &Args, targets: &[Target]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (stun, turn): (Vec<&Target>, Vec<&Target>) = targets.iter().partition(|target| target.is_stun_only);
    for target in turn.into_iter().chain(stun) {
        let transport = target.transport.unwrap_or(Transport::Udp);
        let step = Step::new(&target.host, transport, target.port, true, target.is_stun_only);
        let is_known =
            |known: &Step| (&known.host, known.transport, &known.ports) == (&step.host, step.transport, &step.ports);
        let is_wanted = args.transport.is_empty() || args.transport.contains(&transport);
        if is_wanted && !steps.iter().any(is_known) {
            steps.push(step);
        }
    }
    steps
}

/// A step per transport.
fn steps(args: &Args) -> Vec<Step> {
    let Target { host, port, has_port, is_stun_only, .. } = &args.target;
    let step = |transport| {
        let tls_port = args.tls_port.filter(|_| transport == Transport::Tls);
        let has_port = tls_port.is_some() || *has_port || args.target.transport.is_some();
        Step::new(host, transport, tls_port.unwrap_or(*port), has_port, *is_stun_only)
    };
    transports(args).into_iter().map(step).collect()
}

fn transports(args: &Args) -> Vec<Transport> {
    match args.target.transport {
        _ if !args.transport.is_empty() => args.transport.clone(),
        Some(transport) => vec![transport],
        None => vec![Transport::Udp, Transport::Tcp, Transport::Tls],
    }
}

fn opener(args: &Args) -> anyhow::Result<Opener> {
    // The CA of a relais on this machine is trusted without asking: its key lies beside it.
    let local = args.secrets.load().ok().map(|loaded| loaded.config.state_dir.join("ca.pem"));
    let local = local.filter(|path| std::fs::File::open(path).is_ok());
    let extra: Vec<&Path> = [args.ca.as_deref(), local.as_deref()].into_iter().flatten().collect();
    let extra = stream::roots_of(&extra)?;
    let mut roots: RootCertStore = stream::public_roots();
    roots.roots.extend(extra.roots.iter().cloned());
    Ok(Opener {
        tls: Arc::new(stream::tls_config(roots, args.insecure)?),
        extra,
        insecure: args.insecure,
        name: stream::server_name(&args.target.host)?,
        timeout: Duration::from_secs(args.timeout),
    })
}

/// The credentials to use: given, made with a given secret, or made with the secret of the state directory when that
/// was named or the server is this machine.
fn login(args: &Args) -> anyhow::Result<Option<Login>> {
    if let (Some(username), Some(password)) = (args.user.clone(), args.password.clone()) {
        return Ok(Some(Login { username, password, skew: None }));
    }
    let is_given = !args.secrets.settings.is_empty();
    if !is_given && !is_local(&args.target.host) {
        return Ok(None);
    }
    let loaded = args.secrets.load().map_err(anyhow::Error::from);
    let secrets = match loaded.and_then(|loaded| state::turn_secrets(&loaded.config)) {
        Ok(secrets) => secrets,
        Err(error) if is_given => return Err(error),
        Err(_) => return Ok(None),
    };
    let subject = format!("c.check-{}", random_id().chars().take(8).collect::<String>());
    let credential = turn::mint(&secrets[0], &subject, clock::now().unix + LOGIN_TTL);
    Ok(Some(Login { username: credential.username, password: credential.password, skew: None }))
}

/// True when every address of `host` is one of this machine.
fn is_local(host: &str) -> bool {
    let own = net::interface_addresses();
    let Ok(found) = std::net::ToSocketAddrs::to_socket_addrs(&(host, 0)) else { return false };
    let found: Vec<_> = found.collect();
    !found.is_empty() && found.iter().all(|server| server.ip().is_loopback() || own.contains(&server.ip()))
}
