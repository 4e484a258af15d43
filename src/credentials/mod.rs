//! Time-limited TURN credentials and access tokens: mint and verify. Pure computation, no I/O.

pub mod token;
pub mod turn;
