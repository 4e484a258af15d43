//! First-byte demultiplexing (RFC 7983) and stream framing (RFC 8656 section 12.5, RFC 8489 section 6.2.2).

/// What the first byte of a datagram or stream says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstByte {
    /// 0x00 to 0x03: a STUN message.
    Stun,
    /// 0x40 to 0x7F: ChannelData (0x50 and up is RFC 5766's range).
    ChannelData,
    Other,
}

impl FirstByte {
    /// Classifies `byte`.
    pub fn of(byte: u8) -> Self {
        match byte {
            0x00..=0x03 => Self::Stun,
            0x40..=0x7f => Self::ChannelData,
            _ => Self::Other,
        }
    }
}

/// Why a byte stream cannot be cut into frames any further: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither STUN nor ChannelData")]
pub struct BadFrame;

/// The length of the frame at the start of `buffered`: `(frame, advance)`, where `frame` excludes the padding behind
/// ChannelData and `advance` includes it. `None`: more bytes are needed.
pub fn next_frame(buffered: &[u8]) -> Result<Option<(usize, usize)>, BadFrame> {
    let _ = buffered;
    todo!("relay")
}
