//! First-byte demultiplexing (RFC 7983) and stream framing (RFC 8656 section 12.5, RFC 8489 section 6.2.2).

use super::stun::{HEADER, MAGIC_COOKIE};

/// Bytes before the payload of a ChannelData message: channel number and length.
pub const CHANNEL_HEADER: usize = 4;

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
/// ChannelData and `advance` includes it. `None`: more bytes are needed. The largest advance is 65,556 bytes.
pub fn next_frame(buffered: &[u8]) -> Result<Option<(usize, usize)>, BadFrame> {
    let Some(&first) = buffered.first() else { return Ok(None) };
    let kind = FirstByte::of(first);
    if kind == FirstByte::Other {
        return Err(BadFrame);
    }
    let Some(&[_, _, high, low]) = buffered.first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (frame, advance) = if kind == FirstByte::Stun {
        check_stun_start(buffered, length)?;
        (HEADER + length, HEADER + length)
    } else {
        (CHANNEL_HEADER + length, CHANNEL_HEADER + padded(length))
    };
    Ok((buffered.len() >= advance).then_some((frame, advance)))
}

/// `length` rounded up to the four bytes that STUN attributes and stream ChannelData are padded to.
pub fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A stream that lost its place is noticed at the next header, not 64 KiB later.
fn check_stun_start(buffered: &[u8], length: usize) -> Result<(), BadFrame> {
    let is_aligned = length.is_multiple_of(4);
    let cookie = MAGIC_COOKIE.to_be_bytes();
    let seen = buffered.get(4..).unwrap_or_default();
    let has_cookie = seen.iter().zip(cookie).all(|(seen, wanted)| *seen == wanted);
    if is_aligned && has_cookie { Ok(()) } else { Err(BadFrame) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Vec<u8> {
        let mut bytes = vec![0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend([7; 12]);
        bytes
    }

    #[test]
    fn first_bytes() {
        assert_eq!(FirstByte::of(0x00), FirstByte::Stun);
        assert_eq!(FirstByte::of(0x03), FirstByte::Stun);
        assert_eq!(FirstByte::of(0x04), FirstByte::Other);
        assert_eq!(FirstByte::of(0x16), FirstByte::Other);
        assert_eq!(FirstByte::of(0x3f), FirstByte::Other);
        assert_eq!(FirstByte::of(0x40), FirstByte::ChannelData);
        assert_eq!(FirstByte::of(0x7f), FirstByte::ChannelData);
        assert_eq!(FirstByte::of(0x80), FirstByte::Other);
        assert_eq!(FirstByte::of(b'G'), FirstByte::ChannelData, "HTTP is told apart before this is asked");
    }

    #[test]
    fn a_four_byte_channel_data_is_a_whole_frame() {
        assert_eq!(next_frame(&[0x40, 0x00, 0x00, 0x00]), Ok(Some((4, 4))));
    }

    #[test]
    fn padding_is_waited_for_and_not_part_of_the_frame() {
        let frame = [0x40, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5, 0, 0, 0];
        for end in 0..frame.len() {
            assert_eq!(next_frame(&frame[..end]), Ok(None), "{end} bytes");
        }
        assert_eq!(next_frame(&frame), Ok(Some((9, 12))));
    }

    #[test]
    fn the_largest_channel_data_does_not_wrap() {
        let mut frame = vec![0x4f, 0xff, 0xff, 0xff];
        frame.resize(4 + 65_535, 9);
        assert_eq!(next_frame(&frame), Ok(None), "one byte of padding is missing");
        frame.push(0);
        assert_eq!(next_frame(&frame), Ok(Some((65_539, 65_540))));
    }

    #[test]
    fn many_frames_in_one_read() {
        let mut bytes = binding();
        bytes.extend([0x40, 0x00, 0x00, 0x01, 0xaa, 0, 0, 0]);
        bytes.extend(binding());
        let mut lengths = Vec::new();
        let mut rest = &bytes[..];
        while let Some((frame, advance)) = next_frame(rest).unwrap() {
            lengths.push(frame);
            rest = &rest[advance..];
        }
        assert_eq!(lengths, [20, 5, 20]);
        assert!(rest.is_empty());
    }

    #[test]
    fn what_is_neither_closes_the_stream() {
        assert_eq!(next_frame(&[0x16]), Err(BadFrame));
        assert_eq!(next_frame(&[0x00, 0x01, 0x00, 0x03]), Err(BadFrame), "STUN lengths are multiples of four");
        assert_eq!(next_frame(&[0x00, 0x01, 0x00, 0x00, 0x21, 0x13]), Err(BadFrame), "not the magic cookie");
        assert_eq!(next_frame(&[]), Ok(None));
        assert_eq!(next_frame(&[0x00, 0x01, 0x00, 0x00, 0x21, 0x12]), Ok(None));
    }
}
