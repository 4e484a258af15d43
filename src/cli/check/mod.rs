//! `relais check HOST`: tests any STUN/TURN server with clients that are not ours (`stun`, `turn`).

mod open;
mod probe;
mod relay;
mod report;
mod stream;
mod target;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::flags::{Flags, SecretFlags};
use super::{FAILED, complain, print};
use crate::clock;
use crate::credentials::token::random_id;
use crate::credentials::turn;
use crate::net;
use crate::state;
use open::Opener;
use relay::Login;
use report::{Finding, milliseconds};
use target::{Target, Transport};

/// Lifetime of the credentials that the check makes for itself, in seconds.
const LOGIN_TTL: u64 = 600;

/// What `relais check` takes.
#[derive(clap::Args)]
pub struct Args {
    /// HOST, HOST:PORT or a stun:, turn: or turns: URL
    #[arg(value_name = "HOST", value_parser = target::parse)]
    target: Target,
    /// Test this transport only (repeatable) [default: all three, or the URL's]
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    transport: Vec<Transport>,
    /// Port of TLS when it differs (coturn: 5349) [default: the same port]
    #[arg(long, value_name = "PORT")]
    tls_port: Option<u16>,
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
    /// Patience with each step, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
    /// Print one JSON object (progress goes to standard error)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    secrets: Flags<SecretFlags>,
}

/// Tests and reports; the exit code is 0 when everything that was tested works.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let findings = runtime.block_on(check(args))?;
    let ok = findings.iter().all(|finding| finding.ok);
    let verdict = report::verdict(&findings);
    if args.json {
        let object = json!({ "host": args.target.host, "ok": ok, "verdict": verdict, "findings": findings });
        print(&format!("{object}\n"));
    } else {
        print(&format!("{verdict}\n"));
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn check(args: &Args) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Findings { list: Vec::new(), json: args.json };
    let Target { host, port, .. } = &args.target;
    let servers = match target::resolve(host, *port).await {
        Ok(servers) if !servers.is_empty() => servers,
        Ok(_) => {
            findings.add(Finding::new("dns", false, format!("{host} has no address")));
            return Ok(findings.list);
        }
        Err(error) => {
            let text = format!("{host} cannot be resolved ({error}): check the spelling and this machine's resolver");
            findings.add(Finding::new("dns", false, text));
            return Ok(findings.list);
        }
    };
    let shown = servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(", ");
    findings.add(Finding::new("dns", true, format!("{host} is {shown}")));
    let login = login(args, &servers)?;
    if login.is_none() {
        complain(
            "no credentials (--user and --password, --secret-file or --state-dir): packets through the relay are not tested",
        );
    }
    let opener = opener(args)?;
    for server in &servers {
        for transport in transports(args) {
            let port = args.tls_port.filter(|_| transport == Transport::Tls).unwrap_or(*port);
            let server = SocketAddr::new(server.ip(), port);
            check_transport(&mut findings, &opener, transport, server, login.as_ref()).await;
        }
    }
    Ok(findings.list)
}

/// Findings as they come in; each is shown at once.
struct Findings {
    list: Vec<Finding>,
    json: bool,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        if self.json {
            complain(&finding.line())
        } else {
            print(&format!("{}\n", finding.line()))
        }
        self.list.push(finding);
    }
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
    Ok(Opener {
        tls: Arc::new(stream::tls_config(&extra, args.insecure)?),
        name: stream::server_name(&args.target.host)?,
        timeout: Duration::from_secs(args.timeout),
    })
}

/// The credentials to use: given, made with a given secret, or made with the secret of the state directory when that
/// was named or the server is this machine.
fn login(args: &Args, servers: &[SocketAddr]) -> anyhow::Result<Option<Login>> {
    if let (Some(username), Some(password)) = (args.user.clone(), args.password.clone()) {
        return Ok(Some(Login { username, password }));
    }
    let is_given = !args.secrets.settings.is_empty();
    let own = net::interface_addresses();
    let is_local = servers.iter().all(|server| server.ip().is_loopback() || own.contains(&server.ip()));
    if !is_given && !is_local {
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
    Ok(Some(Login { username: credential.username, password: credential.password }))
}

async fn check_transport(
    findings: &mut Findings,
    opener: &Opener,
    transport: Transport,
    server: SocketAddr,
    login: Option<&Login>,
) {
    let connection = match opener.open(transport, server).await {
        Ok(connection) => connection,
        Err(cause) => return findings.add(Finding::new("stun", false, cause).about(transport, server)),
    };
    match probe::binding(&connection, transport, server, opener.timeout).await {
        Ok(binding) => {
            let text = format!("seen as {}, round trip {}", binding.mapped, milliseconds(binding.round_trip));
            let rtt_ms = Some(binding.round_trip.as_secs_f64() * 1000.0);
            let finding = Finding { mapped: Some(binding.mapped), rtt_ms, ..Finding::new("stun", true, text) };
            findings.add(finding.about(transport, server));
        }
        Err(cause) => return findings.add(Finding::new("stun", false, cause).about(transport, server)),
    }
    let challenge = probe::challenge(&connection, transport, server, opener.timeout).await;
    let _ = connection.close().await;
    let finding = match (challenge, login) {
        (Err(cause), _) => Finding::new("turn", false, cause),
        (Ok(realm), None) => Finding::new("turn", true, format!("asks for credentials (realm {realm})")),
        (Ok(_), Some(login)) => match relay::round_trip(opener, transport, server, login).await {
            Ok(passage) => report::passage(&passage, server.ip()),
            Err(cause) => Finding::new("turn", false, cause),
        },
    };
    findings.add(finding.about(transport, server));
}
