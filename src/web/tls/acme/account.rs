//! The account at the authority: made once, kept in the state directory (RFC 8555 section 7.3).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use instant_acme::{Account, AccountCredentials, Error, NewAccount};
use serde::{Deserialize, Serialize};

use super::client::Https;
use crate::config::AcmeConfig;
use crate::state::write_private;

#[derive(Serialize, Deserialize)]
struct Saved {
    /// The authority it was made at: another directory needs another account.
    directory: String,
    email: Option<String>,
    credentials: AccountCredentials,
}

/// The account of an earlier run, or a new one. `--acme` says that its operator agrees to the authority's terms.
pub async fn open(config: &AcmeConfig, dir: &Path) -> Result<Account> {
    let builder = Account::builder_with_http(Box::new(Https::new(config.ca_file.as_deref())?));
    let contact = config.email.as_ref().map(|email| format!("mailto:{email}"));
    let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
    if let Some(saved) = load(dir).filter(|saved| saved.directory == config.directory) {
        let is_reachable_elsewhere = saved.email != config.email;
        let copy = clone(&saved.credentials)?;
        let account = builder.from_credentials(saved.credentials).await.context("cannot reach the authority")?;
        if is_reachable_elsewhere {
            account.update_contacts(&contacts).await.context("the authority refused the new email")?;
            save(config, dir, copy)?;
        }
        return Ok(account);
    }
    let wanted = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
    let made = builder.create(&wanted, config.directory.clone(), None).await;
    let (account, credentials) = made.context("the authority made no account")?;
    save(config, dir, credentials)?;
    Ok(account)
}

/// True when the authority said that it does not know the account.
pub fn is_forgotten(error: &anyhow::Error) -> bool {
    let problem = error.chain().find_map(|cause| match cause.downcast_ref::<Error>() {
        Some(Error::Api(problem)) => problem.r#type.as_deref(),
        _ => None,
    });
    problem == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// Drops the account of an earlier run.
pub fn forget(dir: &Path) -> Result<()> {
    fs::remove_file(file(dir)).with_context(|| format!("{}: cannot be removed", file(dir).display()))
}

fn load(dir: &Path) -> Option<Saved> {
    let text = fs::read(file(dir)).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!("{}: not an account, a new one is made: {error}", file(dir).display()))
        .ok()
}

fn save(config: &AcmeConfig, dir: &Path, credentials: AccountCredentials) -> Result<()> {
    let saved = Saved { directory: config.directory.clone(), email: config.email.clone(), credentials };
    let text = serde_json::to_vec_pretty(&saved)?;
    write_private(&file(dir), &text).with_context(|| format!("{}: cannot write", file(dir).display()))
}

fn clone(credentials: &AccountCredentials) -> Result<AccountCredentials> {
    Ok(serde_json::from_value(serde_json::to_value(credentials)?)?)
}

fn file(dir: &Path) -> PathBuf {
    dir.join("account.json")
}
