//! What a reload replaces, as one value: whoever answers a request takes it once and sees nothing half changed.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::gate::Gate;
use crate::config::{Access, Config};
use crate::credentials::token::Tokens;

/// The configuration in force and what was made of it.
pub struct InForce {
    pub config: Arc<Config>,
    /// The access mode in force (DESIGN section 5: default derived from the listeners).
    pub access: Access,
    pub tokens: Tokens,
    /// Secrets of time-limited TURN credentials, newest first.
    pub turn_secrets: Vec<Vec<u8>>,
    /// Who holds API keys and the admin token, and how fast they may use them.
    pub gate: Gate,
    /// The longest lifetime that credentials were given so far: what is revoked is remembered that long.
    pub longest_ttl: Duration,
}

/// Holds what is in force; it is replaced whole.
pub struct Live {
    current: RwLock<Arc<InForce>>,
}

impl Live {
    /// Starts with `first`.
    pub fn new(first: InForce) -> Self {
        Self { current: RwLock::new(Arc::new(first)) }
    }

    /// What is in force now.
    pub fn get(&self) -> Arc<InForce> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `next` in force; requests under way end with what they began with.
    pub fn replace(&self, next: InForce) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}
