//! `relais credentials`: a TURN credential for a person at a shell or a script.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::flags::{Flags, IdentityFlags};
use super::{print, reach, words};
use crate::clock;
use crate::config::Config;
use crate::credentials::token::random_id;
use crate::credentials::turn;
use crate::state;

/// What `relais credentials` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Whom the credential is for; quotas count by it [default: a random name]
    #[arg(long, value_name = "NAME", value_parser = words::name)]
    name: Option<String>,
    /// How long it lasts: seconds, or a number with s, m, h or d [default: credential_ttl of the configuration, 24h]
    #[arg(long, value_name = "TIME", value_parser = words::lifetime)]
    ttl: Option<Duration>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    identity: Flags<IdentityFlags>,
}

/// Prints username, password and a ready `iceServers` list.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.identity.load()?.config;
    let ttl = args.ttl.unwrap_or(config.credential_ttl).as_secs();
    let name = args.name.clone().unwrap_or_else(|| random_id().chars().take(8).collect());
    let expires = clock::now().unix + ttl;
    let credential = turn::mint(&state::turn_secrets(&config)?[0], &format!("c.{name}"), expires);
    let ice_servers = ice_servers(&config, &credential);
    let (username, password) = (&credential.username, &credential.password);
    if args.json {
        let object = json!({
            "username": username, "password": password, "ttl": ttl, "expiresAt": expires, "iceServers": ice_servers,
        });
        print(&format!("{object}\n"));
    } else {
        let until = words::utc(expires);
        let list = serde_json::to_string_pretty(&ice_servers)?;
        let span = words::span(ttl);
        print(&format!(
            "username  {username}\npassword  {password}\nvalid     {span}, until {until}\n\niceServers: {list}\n"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn ice_servers(config: &Config, credential: &turn::TurnCredential) -> Value {
    let (stun, turn) = reach::ice_urls(config);
    let mut servers = Vec::new();
    if !stun.is_empty() {
        servers.push(json!({ "urls": stun }));
    }
    if !turn.is_empty() {
        servers.push(json!({ "urls": turn, "username": credential.username, "credential": credential.password }));
    }
    Value::Array(servers)
}
