//! What a TCP or TLS client has not read yet: bounded in bytes and time, dropped by whole media frames, oldest first.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::time::Mono;

/// Media waiting for one client: about a second of good video. More is of no use to a call.
const MEDIA_BYTES: usize = 1 << 20;
/// How long a media frame may wait.
const MEDIA_AGE: Duration = Duration::from_secs(2);
/// Control messages waiting for one client: a client that asks and never reads is closed.
const CONTROL_BYTES: usize = 64 << 10;
/// Bytes gathered for one write.
const GATHER: usize = 64 << 10;
/// Frames in one vectored write.
const SLICES: usize = 48;

/// Frames for one client, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    frames: Vec<(usize, bool)>,
}

impl Frames {
    /// Adds a frame of media: header, payload and `padding` zero bytes.
    pub(super) fn push_media(&mut self, head: &[u8], payload: &[u8], padding: u8) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len() + usize::from(padding), 0);
        self.frames.push((self.bytes.len() - start, true));
    }

    /// Adds a control message, which is never dropped.
    pub(super) fn push_control(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.frames.push((message.len(), false));
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}

struct Waiting {
    bytes: Box<[u8]>,
    media: bool,
    since: Mono,
}

/// How frames are put into writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Many frames to a write: a stream without records.
    Anywhere,
    /// Each frame a buffer of a vectored write, so that it is a TLS record of its own ([`super::records`]). Clients exist that take what one read gives them for
    /// one frame (coturn's, some builds of libwebrtc), and over TLS a read gives one record.
    Frames,
}

/// Why a client's connection must end.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Io(io::Error),
    #[error("the client does not read its control messages")]
    ControlBacklog,
}

/// Frames that wait until the client reads.
pub(super) struct Backlog {
    cut: Cut,
    waiting: VecDeque<Waiting>,
    /// Bytes of the first frame that are written already: it must be finished.
    written: usize,
    media_bytes: usize,
    control_bytes: usize,
    /// The stream holds bytes that it has not passed on.
    unflushed: bool,
    /// Media frames dropped since this was last taken.
    pub dropped: u64,
}

impl Backlog {
    pub(super) fn new(cut: Cut) -> Self {
        Self {
            cut,
            waiting: VecDeque::new(),
            written: 0,
            media_bytes: 0,
            control_bytes: 0,
            unflushed: false,
            dropped: 0,
        }
    }

    /// True when everything is written and passed on.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.unflushed
    }

    /// Writes what waits, then `frames` (left empty), as far as the client reads; keeps the rest. `gather` is scratch.
    pub(super) fn write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        frames: &mut Frames,
        gather: &mut Vec<u8>,
        now: Mono,
    ) -> Result<(), WriteError> {
        let direct = if self.waiting.is_empty() { self.write_frames(cx, stream, frames)? } else { 0 };
        self.keep(frames, direct, now);
        frames.clear();
        self.shed(now);
        if self.control_bytes > CONTROL_BYTES {
            return Err(WriteError::ControlBacklog);
        }
        while !self.waiting.is_empty() && self.cut == Cut::Frames {
            let mut skip = self.written;
            let frames = self.waiting.iter().map(|frame| frame.bytes.get(mem::take(&mut skip)..).unwrap_or_default());
            let Some(written) = write_slices(cx, stream, frames)? else { break };
            self.unflushed = true;
            self.advance(written);
        }
        while !self.waiting.is_empty() && self.cut == Cut::Anywhere {
            self.gather(gather);
            let written = self.write_all(cx, stream, gather)?;
            self.advance(written);
            if written < gather.len() {
                break;
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(stream).poll_flush(cx)
        {
            flushed.map_err(WriteError::Io)?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Writes `frames` as far as the stream takes them; returns how many bytes it took.
    fn write_frames<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        frames: &Frames,
    ) -> Result<usize, WriteError> {
        if self.cut == Cut::Anywhere {
            return self.write_all(cx, stream, &frames.bytes);
        }
        let (mut index, mut start, mut written) = (0, 0, 0);
        loop {
            let mut at = start;
            let rest = frames.frames.get(index..).unwrap_or_default().iter().map(|(len, _)| {
                let frame = frames.bytes.get(at.max(written)..at + len).unwrap_or_default();
                at += len;
                frame
            });
            let Some(count) = write_slices(cx, stream, rest)? else { return Ok(written) };
            self.unflushed = true;
            written += count;
            while let Some((len, _)) = frames.frames.get(index).filter(|(len, _)| start + len <= written) {
                start += len;
                index += 1;
            }
        }
    }

    /// Writes until done or until the stream takes no more; returns how much it took.
    fn write_all<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        bytes: &[u8],
    ) -> Result<usize, WriteError> {
        let mut written = 0;
        while written < bytes.len() {
            match Pin::new(&mut *stream).poll_write(cx, &bytes[written..]) {
                Poll::Ready(Ok(0)) => return Err(WriteError::Io(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    written += count;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(WriteError::Io(error)),
                Poll::Pending => break,
            }
        }
        Ok(written)
    }

    /// Keeps the frames that are not wholly among the first `written` bytes.
    fn keep(&mut self, frames: &Frames, written: usize, now: Mono) {
        let mut start = 0;
        for &(len, media) in &frames.frames {
            let end = start + len;
            if end > written {
                if start < written {
                    self.written = written - start;
                }
                *self.bytes_of(media) += len;
                self.waiting.push_back(Waiting { bytes: frames.bytes[start..end].into(), media, since: now });
            }
            start = end;
        }
    }

    /// Drops the oldest media beyond the limits, but no frame that is half written.
    fn shed(&mut self, now: Mono) {
        let mut index = usize::from(self.written > 0);
        while let Some(frame) = self.waiting.get(index) {
            if !frame.media {
                index += 1;
            } else if self.media_bytes > MEDIA_BYTES || now - frame.since > MEDIA_AGE {
                self.media_bytes -= frame.bytes.len();
                self.waiting.remove(index);
                self.dropped += 1;
            } else {
                break;
            }
        }
    }

    fn gather(&self, gather: &mut Vec<u8>) {
        gather.clear();
        let mut skip = self.written;
        for frame in &self.waiting {
            gather.extend_from_slice(&frame.bytes[skip..]);
            skip = 0;
            if gather.len() >= GATHER {
                break;
            }
        }
    }

    fn advance(&mut self, written: usize) {
        let mut left = written + self.written;
        while let Some(first) = self.waiting.front()
            && first.bytes.len() <= left
        {
            let (len, media) = (first.bytes.len(), first.media);
            left -= len;
            *self.bytes_of(media) -= len;
            self.waiting.pop_front();
        }
        self.written = left;
    }

    fn bytes_of(&mut self, media: bool) -> &mut usize {
        if media { &mut self.media_bytes } else { &mut self.control_bytes }
    }
}

/// Writes the first of `frames`, each as a buffer of its own; how many bytes were taken, or `None` when the stream takes
/// no more now, or there is nothing to write.
fn write_slices<'a, S: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    frames: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<usize>, WriteError> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut count = 0;
    for (slice, frame) in slices.iter_mut().zip(frames.filter(|frame| !frame.is_empty())) {
        *slice = IoSlice::new(frame);
        count += 1;
    }
    if count == 0 {
        return Ok(None);
    }
    match Pin::new(stream).poll_write_vectored(cx, slices.get(..count).unwrap_or_default()) {
        Poll::Ready(Ok(0)) => Err(WriteError::Io(io::ErrorKind::WriteZero.into())),
        Poll::Ready(Ok(count)) => Ok(Some(count)),
        Poll::Ready(Err(error)) => Err(WriteError::Io(error)),
        Poll::Pending => Ok(None),
    }
}

#[cfg(test)]
mod tests;
