//! TLS towards TURN clients in few system calls: a record for each frame, many records in one write, and reads larger
//! than the TLS library's own.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// Bytes made into records before they are passed on: below what the library keeps, so that no frame is split over two.
const RECORDS: usize = 40 << 10;
/// Bytes read from the socket in one go, and with it the most that is kept for the library, which reads 4 KiB at a time.
const AHEAD: usize = 32 << 10;

/// A TLS stream on which each buffer of a vectored write becomes a record of its own, and all of them one write.
pub(super) struct Records<T>(pub TlsStream<T>);

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Records<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Records<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        frames: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (socket, session) = self.get_mut().0.get_mut();
        // What waits goes first, so that there is room for whole records.
        ready!(pass_on(cx, socket, session))?;
        let mut taken = 0;
        for frame in frames {
            if taken >= RECORDS {
                break;
            }
            let count = io::Write::write(&mut session.writer(), frame)?;
            taken += count;
            if count < frame.len() {
                break;
            }
        }
        // They are taken; what the socket does not accept now is the flush's.
        if let Poll::Ready(Err(error)) = pass_on(cx, socket, session) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Writes the records that wait, as far as the socket takes them.
fn pass_on<T: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    socket: &mut T,
    session: &mut ServerConnection,
) -> Poll<io::Result<()>> {
    while session.wants_write() {
        match session.write_tls(&mut Blocking { socket: &mut *socket, cx: &mut *cx }) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}

/// A socket as the TLS library wants it: what would wait is an error.
struct Blocking<'a, 'b, T> {
    socket: &'a mut T,
    cx: &'a mut Context<'b>,
}

fn or_would_block<R>(polled: Poll<io::Result<R>>) -> io::Result<R> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<T: AsyncWrite + Unpin> io::Write for Blocking<'_, '_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, records))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_would_block(Pin::new(&mut *self.socket).poll_flush(self.cx))
    }
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; AHEAD].into());
}

/// A socket below TLS, read in larger pieces than are asked for. It holds a buffer only while there is something in it.
pub struct ReadAhead<T> {
    socket: T,
    ahead: Vec<u8>,
    taken: usize,
}

impl<T> ReadAhead<T> {
    pub fn new(socket: T) -> Self {
        Self { socket, ahead: Vec::new(), taken: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ReadAhead<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(rest) = this.ahead.get(this.taken..).filter(|rest| !rest.is_empty()) {
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..count]);
            this.taken += count;
            if this.taken == this.ahead.len() {
                (this.ahead, this.taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut read))?;
            let (now, later) = read.filled().split_at(read.filled().len().min(buffer.remaining()));
            buffer.put_slice(now);
            if !later.is_empty() {
                (this.ahead, this.taken) = (later.to_vec(), 0);
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ReadAhead<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_read_ahead_comes_in_order_and_is_given_back() {
        let (mut theirs, ours) = tokio::io::duplex(AHEAD * 2);
        let mut ours = ReadAhead::new(ours);
        let sent: Vec<u8> = (0..AHEAD * 2).map(|index| (index % 251) as u8).collect();
        theirs.write_all(&sent).await.unwrap();
        drop(theirs);
        let mut got = Vec::new();
        let mut small = [0; 4096];
        loop {
            let count = ours.read(&mut small).await.unwrap();
            assert!(ours.ahead.len() <= AHEAD);
            if count == 0 {
                break;
            }
            got.extend_from_slice(&small[..count]);
        }
        assert!(got == sent);
        assert_eq!(ours.ahead.capacity(), 0, "nothing is held while there is nothing to hold");
    }
}
