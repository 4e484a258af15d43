//! Time-limited TURN credentials and access tokens: mint, verify and take back. Pure computation, no I/O.

pub mod revoked;
pub mod token;
pub mod turn;
