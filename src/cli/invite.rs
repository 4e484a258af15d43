//! `relais invite`: a link that carries an access token.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use super::flags::{Flags, IdentityFlags};
use super::{UsageError, print, reach, words};
use crate::clock;
use crate::credentials::token::{Claims, Role, Tokens};
use crate::{qr, state};

/// What `relais invite` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The room (or stream) that the link opens; * for any
    #[arg(long, value_name = "ROOM", default_value = "*", value_parser = words::room)]
    room: String,
    /// What the bearer may do there
    #[arg(long, value_enum, default_value = "member")]
    role: RoleWord,
    /// How long the link works: seconds, or a number with s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = words::lifetime)]
    ttl: Duration,
    /// Display name of the bearer, whatever the page says
    #[arg(long, value_name = "NAME", value_parser = words::display_name)]
    name: Option<String>,
    /// Start of the link [default: https:// with the domain, public address or default route, and the TCP port]
    #[arg(long, value_name = "URL", value_parser = base_url)]
    base_url: Option<String>,
    /// Print the link as a QR code, too, for a phone to scan off the terminal
    #[arg(long)]
    qr: bool,
    #[command(flatten)]
    identity: Flags<IdentityFlags>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleWord {
    /// Create the room, invite, kick, lock, close
    Host,
    /// Take part
    Member,
    /// Send a live stream
    Streamer,
    /// Watch a live stream
    Viewer,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Host => Self::Host,
            RoleWord::Member => Self::Member,
            RoleWord::Streamer => Self::Streamer,
            RoleWord::Viewer => Self::Viewer,
        }
    }
}

/// Prints the link on standard output, and its QR code where that is asked for.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.identity.load()?.config;
    let base = args.base_url.clone().or_else(|| reach::base_url(&config)).ok_or_else(|| {
        UsageError("the configuration names no TCP port: say where the link starts with --base-url".into())
    })?;
    let key = state::read_existing(&config.state_dir, state::TOKEN_KEY)?;
    let now = clock::now().unix;
    let claims = Claims::new(&args.room, args.role.into(), args.name.clone(), now, args.ttl.as_secs());
    let token = Tokens::new(key.into_bytes()).mint(&claims);
    let link = format!("{base}{}#t={token}", path(&claims));
    print(&format!("{link}\n"));
    if args.qr {
        let code = qr::terminal(&link).ok_or_else(|| anyhow::anyhow!("the link is too long for a QR code"))?;
        print(&code);
    }
    Ok(ExitCode::SUCCESS)
}

fn path(claims: &Claims) -> String {
    match (claims.room.as_str(), claims.role) {
        ("*", _) => "/".into(),
        (room, Role::Host | Role::Member) => format!("/call/{room}"),
        (stream, Role::Streamer) => format!("/live/{stream}/studio"),
        (stream, Role::Viewer) => format!("/live/{stream}"),
    }
}

fn base_url(text: &str) -> Result<String, String> {
    let base = text.trim_end_matches('/');
    let host = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://")).unwrap_or("");
    if host.is_empty() || host.contains(['#', '?', ' ']) {
        return Err("write http:// or https:// and a host, such as https://call.example.org".into());
    }
    Ok(base.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_links() {
        let path_of = |room: &str, role| path(&Claims::new(room, role, None, 0, 1));
        assert_eq!(path_of("*", Role::Host), "/");
        assert_eq!(path_of("a", Role::Member), "/call/a");
        assert_eq!(path_of("a", Role::Viewer), "/live/a");
        assert_eq!(path_of("a", Role::Streamer), "/live/a/studio");
    }

    #[test]
    fn starts_of_links() {
        assert_eq!(base_url("https://a.b:1/"), Ok("https://a.b:1".into()));
        assert!(base_url("a.b").is_err() && base_url("https://").is_err() && base_url("https://a#b").is_err());
    }
}
