//! One order: every name proved, one after another, then the certificate (RFC 8555 section 7.4).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use instant_acme::{
    Account, AuthorizationStatus, Authorizations, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::Name;
use super::challenge::{Answer, Challenges, Kind};

/// How long the authority may take to look at one name; it tries from several places.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(60);
const VALIDATION_POLL: Duration = Duration::from_millis(500);
/// How long issuing may take once all names are proved.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(90);
const FEWER: &str = "the authority lists fewer names than were ordered";

/// Gets a certificate for `names`, proving each by `kind`: the key and the chain behind it in one PEM text.
pub async fn certificate(
    account: &Account,
    names: &[Name],
    profile: Option<&str>,
    kind: Kind,
    challenges: &Arc<Challenges>,
) -> Result<String> {
    let identifiers: Vec<_> = names.iter().map(Name::identifier).collect();
    let mut request = NewOrder::new(&identifiers);
    if let Some(profile) = profile {
        request = request.profile(profile);
    }
    let mut order = account.new_order(&request).await.context("the authority refused the order")?;
    for index in 0..identifiers.len() {
        prove(&mut order, index, kind, challenges).await?;
    }
    let policy = RetryPolicy::new().timeout(ISSUE_TIMEOUT);
    match order.poll_ready(&policy).await.context("the order did not become ready")? {
        OrderStatus::Ready | OrderStatus::Valid => {}
        other => bail!("the order is {other:?} although every name was proved"),
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names.iter().map(Name::subject).collect::<Result<_>>()?;
    order.finalize_csr(params.serialize_request(&key)?.der()).await.context("the authority refused the request")?;
    let chain = order.poll_certificate(&policy).await.context("the certificate was not issued")?;
    Ok(format!("{}{chain}", key.serialize_pem()))
}

/// Proves one name, unless the authority remembers it as proved.
async fn prove(order: &mut Order, index: usize, kind: Kind, challenges: &Arc<Challenges>) -> Result<()> {
    let Some(_answer) = answer(order, index, kind, challenges).await? else { return Ok(()) };
    let validated = async {
        while !is_proved(order, index, kind).await? {
            tokio::time::sleep(VALIDATION_POLL).await;
        }
        Ok(())
    };
    match tokio::time::timeout(VALIDATION_TIMEOUT, validated).await {
        Ok(result) => result,
        Err(_) => bail!("the authority did not look at TCP {} within 60 s", kind.port()),
    }
}

/// Sets the answer up and tells the authority to look; `None` when there is nothing to prove.
async fn answer(order: &mut Order, index: usize, kind: Kind, challenges: &Arc<Challenges>) -> Result<Option<Answer>> {
    let mut authorizations = order.authorizations();
    skip(&mut authorizations, index).await?;
    let mut authorization = authorizations.next().await.context(FEWER)??;
    match authorization.status {
        AuthorizationStatus::Valid => return Ok(None),
        AuthorizationStatus::Pending => {}
        other => bail!("the authorization of {} is {other:?}", authorization.identifier()),
    }
    let Some(mut challenge) = authorization.challenge(kind.challenge()) else {
        bail!("the authority offers no check over TCP {}", kind.port());
    };
    let key_authorization = challenge.key_authorization();
    let answer = match kind {
        Kind::Http => challenges.serve_file(&challenge.token, key_authorization.as_str().to_owned()),
        Kind::TlsAlpn => {
            let name = Name::of(challenge.identifier().identifier)?;
            challenges.show_certificate(&name, key_authorization.digest().as_ref())?
        }
    };
    challenge.set_ready().await.context("the authority did not begin its check")?;
    Ok(Some(answer))
}

/// Asks the authority what became of its check; a failed one is an error in its words.
async fn is_proved(order: &mut Order, index: usize, kind: Kind) -> Result<bool> {
    let mut authorizations = order.authorizations();
    skip(&mut authorizations, index).await?;
    let mut authorization = authorizations.next().await.context(FEWER)??;
    let state = authorization.refresh().await?;
    match state.status {
        AuthorizationStatus::Valid => Ok(true),
        AuthorizationStatus::Pending => Ok(false),
        other => {
            let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
            let reason = problem.map_or_else(|| format!("{other:?}"), ToString::to_string);
            bail!("{} was not proved over TCP {}: {reason}", state.identifier(), kind.port())
        }
    }
}

async fn skip(authorizations: &mut Authorizations<'_>, count: usize) -> Result<()> {
    for _ in 0..count {
        authorizations.next().await.transpose()?;
    }
    Ok(())
}

impl Name {
    fn identifier(&self) -> Identifier {
        match self {
            Self::Dns(name) => Identifier::Dns(name.clone()),
            Self::Ip(ip) => Identifier::Ip(*ip),
        }
    }

    fn of(identifier: &Identifier) -> Result<Self> {
        match identifier {
            Identifier::Dns(name) => Ok(Self::Dns(name.clone())),
            Identifier::Ip(ip) => Ok(Self::Ip(*ip)),
            other => bail!("the authority asks about {other:?}, which is no name of ours"),
        }
    }
}
