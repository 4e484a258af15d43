//! SIGHUP: the configuration, the secrets and the certificate are read again. All of it is read and checked before any
//! of it is put in force, so that a broken file changes nothing.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use super::App;
use crate::config::load::ConfigError;
use crate::config::reload::{self, Change};
use crate::config::{Access, Config};
use crate::credentials::token::Tokens;
use crate::state::{self, State};
use crate::web::access::access_mode;
use crate::web::gate::Gate;
use crate::web::live::InForce;
use crate::{logging, systemd};

/// What a reload has come to.
#[derive(Debug)]
pub struct Reloaded {
    /// Keys of the configuration that have another value, those that need a restart included.
    pub changes: Vec<Change>,
    /// Files whose contents are others, and are in force.
    pub files: Vec<&'static str>,
}

impl App {
    /// Reads everything again by `load`, and tells the log and systemd.
    pub(super) async fn obey_reload(&mut self, load: &super::Source) {
        systemd::reloading();
        let read = load().map_err(anyhow::Error::from);
        let reloaded = match read {
            Ok(loaded) => {
                loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                self.reload(loaded.config).await
            }
            Err(error) => Err(error),
        };
        match reloaded {
            Ok(reloaded) => reloaded.log(),
            Err(error) => complain(&error),
        }
        systemd::ready();
    }

    /// Puts `read` in force, as far as that goes without a restart, and what the files hold now. When anything of it
    /// cannot be used nothing changes, and the error says what and why.
    pub async fn reload(&mut self, read: Config) -> Result<Reloaded> {
        let live = self.web.live.get();
        let (config, changes) = reload::merge(&live.config, read);
        let state = State::open(&config.state_dir)?;
        let turn_secrets = state::turn_secrets(&config)?;
        let certificate = self.tls.read_again().context("the certificate")?;
        self.web.net.apply(&config, &turn_secrets, &state.turn_secret).map_err(anyhow::Error::msg)?;

        // From here on nothing fails.
        let mut files = Vec::new();
        if let Some(certificate) = certificate {
            self.tls.identity.replace(certificate.into(), true);
            files.push("certificate");
        }
        if turn_secrets != live.turn_secrets {
            files.push("shared secrets");
        }
        let changed = self.state.take(state).into_iter();
        files.extend(changed.filter(|(name, changed)| *changed && *name != state::TURN_SECRET).map(|(name, _)| name));
        self.watch.set_ttl(config.credential_ttl);
        self.web.hub.set_limits(&config.limits, config.resume).await;
        if config.log_level != live.config.log_level {
            logging::set_level(&config.log_level);
        }
        let gate = live.gate.with_keys(&config.api_keys, &self.state.admin_token);
        let longest_ttl = live.longest_ttl.max(config.credential_ttl);
        let access = access_mode(&config, &self.web.bound);
        self.is_open.store(access == Access::Open, Ordering::Relaxed);
        self.web.live.replace(in_force(config, &self.state, turn_secrets, access, gate, longest_ttl));
        if live.access != access {
            super::warn_about_access(&self.web);
        }
        Ok(Reloaded { changes, files })
    }
}

impl Reloaded {
    fn log(&self) {
        for change in &self.changes {
            let key = change.key.path();
            let value = change.value.as_deref().unwrap_or("its default");
            if change.needs_restart() {
                tracing::warn!(key, value, "changed in the configuration: needs restart");
            } else {
                tracing::info!(key, value, "changed in the configuration: applied");
            }
        }
        for file in &self.files {
            tracing::info!(file, "changed on the disk: applied");
        }
        let waiting = self.changes.iter().filter(|change| change.needs_restart()).count();
        let applied = self.changes.len() - waiting + self.files.len();
        tracing::info!(applied, needs_restart = waiting, "reloaded");
    }
}

/// What is made of a configuration and the secrets of the state directory.
pub(super) fn in_force(
    config: Config,
    state: &State,
    turn_secrets: Vec<Vec<u8>>,
    access: Access,
    gate: Gate,
    longest_ttl: std::time::Duration,
) -> InForce {
    let keys = config.api_keys.iter().map(|key| (key.id.as_str(), key.secret.as_str()));
    let tokens = Tokens::new(state.token_key.clone()).with_api_keys(keys);
    InForce { access, tokens, turn_secrets, gate, longest_ttl, config: config.into() }
}

/// One line for each problem.
fn complain(error: &anyhow::Error) {
    match error.downcast_ref() {
        Some(ConfigError(problems)) => {
            for problem in problems {
                tracing::error!("nothing was reloaded: {problem}");
            }
        }
        None => tracing::error!("nothing was reloaded: {error:#}"),
    }
}
