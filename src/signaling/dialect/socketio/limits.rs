//! Named limits of one Socket.IO connection. What the operator sets (bytes and messages) comes in [`super::Terms`].

use std::time::Duration;

/// The server pings this often; the stock server's default.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);

/// A ping is answered within this time.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A WebSocket that was opened for an upgrade must finish it within this time.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client gets into its first namespace within this time: who is refused holds no connection for nothing.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);

/// Packets that wait for a client's next poll.
pub const MAX_BUFFERED_PACKETS: usize = 512;

/// Bytes that wait for a client's next poll, in payloads of the greatest size.
pub const MAX_BUFFERED_PAYLOADS: usize = 4;

/// Binary attachments of one packet.
pub const MAX_ATTACHMENTS: usize = 10;

/// Namespaces that one connection may be in.
pub const MAX_NAMESPACES: usize = 4;

/// Acknowledgements that a client owes us; the oldest are given up.
pub const MAX_PENDING_ACKS: usize = 64;

/// The longest private session id that is looked at, in bytes.
pub const MAX_PID: usize = 64;
