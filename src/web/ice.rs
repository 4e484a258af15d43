//! The ICE configuration: `GET /api/ice` and the same in every join reply (DESIGN section 7).

use serde::Serialize;

use super::{Connection, Web};

/// One entry of `RTCConfiguration.iceServers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IceServer {
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// The JSON shape of DESIGN section 7.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IceConfig {
    pub ice_servers: Vec<IceServer>,
    /// Seconds until the credential expires.
    pub ttl: u64,
    /// The same as unix seconds.
    pub expires_at: u64,
}

/// The request's Host header names neither us nor the address the connection came to: 421.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server does not answer for that host name: set it with --domain")]
pub struct UnknownHost;

impl Web {
    /// The ICE configuration for a browser that reached us as `host` (the Host header), credentials for `subject`.
    pub fn ice_config(
        &self,
        connection: &Connection,
        host: Option<&str>,
        user_agent: Option<&str>,
        subject: &str,
        all: bool,
    ) -> Result<IceConfig, UnknownHost> {
        let _ = (connection, host, user_agent, subject, all);
        todo!("W2")
    }
}
