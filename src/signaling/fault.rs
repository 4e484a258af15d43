//! What can go wrong for a client, with the stable codes of PROTOCOL.md.

/// A refusal or complaint as a client is told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    #[error("the message is not JSON")]
    BadJson,
    #[error("the message lacks something or has it in the wrong form")]
    BadMessage,
    #[error("messages of this type are not known")]
    UnknownType,
    #[error("nobody of that id is in the room")]
    UnknownPeer,
    #[error("the first message must be a join")]
    JoinFirst,
    #[error("no join came in time")]
    JoinTimeout,
    #[error("this server speaks version 1")]
    Version,
    #[error("a room is 1 to 64 characters of A-Z a-z 0-9 . _ ~ -")]
    BadRoom,
    #[error("a name has up to 64 characters and no control characters")]
    BadName,
    #[error("this server asks for an invitation: open the link you were given")]
    TokenMissing,
    #[error("the invitation is not one of this server")]
    TokenInvalid,
    #[error("the invitation has expired")]
    TokenExpired,
    #[error("the invitation was taken back")]
    TokenRevoked,
    #[error("the invitation opens another room")]
    WrongRoom,
    #[error("the invitation is for watching only")]
    WrongRole,
    #[error("pages of this origin are not allowed")]
    OriginRefused,
    #[error("this server does not answer for that host name: set it with --domain")]
    UnknownHost,
    #[error("only a host may do that")]
    NotHost,
    #[error("a host removed you from the room")]
    Kicked,
    #[error("the room is locked")]
    RoomLocked,
    #[error("a host ended the room")]
    RoomClosed,
    #[error("the room is full")]
    RoomFull,
    #[error("the server has as many rooms as it allows")]
    RoomsFull,
    #[error("somebody is streaming here already")]
    StreamTaken,
    #[error("another viewer bears this viewerId")]
    ViewerTaken,
    #[error("the message is too large")]
    TooLarge,
    #[error("too many messages, or too many bytes, per second")]
    TooFast,
    #[error("this client reads too slowly")]
    SlowReader,
    #[error("the session is not known any more")]
    UnknownSession,
    #[error("another connection took up this session")]
    Replaced,
    #[error("the server is stopping")]
    Shutdown,
}

impl Fault {
    /// The stable machine code.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadJson => "bad-json",
            Self::BadMessage => "bad-message",
            Self::UnknownType => "unknown-type",
            Self::UnknownPeer => "unknown-peer",
            Self::JoinFirst => "join-first",
            Self::JoinTimeout => "join-timeout",
            Self::Version => "version",
            Self::BadRoom => "bad-room",
            Self::BadName => "bad-name",
            Self::TokenMissing => "token-missing",
            Self::TokenInvalid => "token-invalid",
            Self::TokenExpired => "token-expired",
            Self::TokenRevoked => "token-revoked",
            Self::WrongRoom => "wrong-room",
            Self::WrongRole => "wrong-role",
            Self::OriginRefused => "origin-refused",
            Self::UnknownHost => "unknown-host",
            Self::NotHost => "not-host",
            Self::Kicked => "kicked",
            Self::RoomLocked => "room-locked",
            Self::RoomClosed => "room-closed",
            Self::RoomFull => "room-full",
            Self::RoomsFull => "rooms-full",
            Self::StreamTaken => "stream-taken",
            Self::ViewerTaken => "viewer-taken",
            Self::TooLarge => "too-large",
            Self::TooFast => "too-fast",
            Self::SlowReader => "slow-reader",
            Self::UnknownSession => "unknown-session",
            Self::Replaced => "replaced",
            Self::Shutdown => "shutdown",
        }
    }

    /// True when the connection ends with it.
    pub fn is_fatal(self) -> bool {
        !matches!(self, Self::BadJson | Self::BadMessage | Self::UnknownType | Self::UnknownPeer | Self::NotHost)
    }

    /// The WebSocket close code that goes with it (RFC 6455 section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::TooLarge => 1009,
            Self::Shutdown => 1001,
            _ => 1008,
        }
    }
}
