//! One TCP port for everything: STUN/TURN, TLS and HTTP told apart by the first byte, and again inside TLS.

mod impatient;
mod silent;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use impatient::Impatient;
use silent::Silent;

use super::Connection;
use super::figures::Handshake;
use super::host::{client_prefix, is_in_block};
use super::routes::{Arrival, Site};
use crate::logging::Seldom;
use crate::net::ReadAhead;
use crate::relay::{FiveTuple, Transport};

/// How long a connection may take to show what it speaks, handshake included (DESIGN section 7).
const SILENCE: Duration = Duration::from_secs(10);
/// How long a request's head may take, and how long a kept-alive connection may rest.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Silent connections per client prefix: a browser opens about six at once, and a /24 may hide many browsers that all
/// come back in the same second. This machine itself and trusted proxies stand for many, here and below.
const SILENT_PER_PREFIX: usize = 1024;
/// Silent connections in all: each costs a file descriptor, a task, and some 20 KiB in the middle of a TLS handshake.
const SILENT_TOTAL: usize = 4096;
/// Connections per client prefix, whatever they speak: some thirty for each address of a /24.
const OPEN_PER_PREFIX: usize = 8192;
/// How long a client may take nothing of an answer.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// Headers of one request; browsers send about twenty.
const MAX_HEADERS: usize = 100;
/// Bytes of a request's head. The HTTP library looks at its buffer's size only before it reads on, so `routes` measures
/// what came out of it.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A bound TCP port.
pub struct Listener {
    pub socket: TcpListener,
    pub address: SocketAddr,
    /// `--http`: plain HTTP is served without a redirect.
    pub serves_plain: bool,
}

/// What all connections share.
pub struct Front {
    site: Arc<Site>,
    acceptor: TlsAcceptor,
    silent: Arc<Silent>,
    open: Arc<Gate>,
    /// For the log, when connections cannot be taken.
    refused: Seldom,
    stop: watch::Receiver<bool>,
    /// Held by every HTTP connection; when all are gone, the drain is over. Weak, since TURN connections, which end
    /// with the shards, hold this struct as well.
    alive: mpsc::WeakSender<()>,
}

impl Front {
    /// `stop` turns true when no more connections are taken; `alive` is held by each HTTP connection.
    pub fn new(site: Arc<Site>, stop: watch::Receiver<bool>, alive: mpsc::WeakSender<()>) -> Self {
        let acceptor = TlsAcceptor::from(Arc::clone(&site.tls.server));
        let silent = Silent::new(SILENT_TOTAL, SILENT_PER_PREFIX);
        let open = Gate::new(open_total(), OPEN_PER_PREFIX);
        Self { site, acceptor, silent, open, refused: Seldom::default(), stop, alive }
    }

    /// Takes connections until `stop`; closes the listener then.
    pub async fn accept(self: Arc<Self>, listener: Listener) {
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => return,
                accepted = listener.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => self.take(&listener, stream, client),
                Err(error) => {
                    if let Some(more) = self.refused.take() {
                        let remedy = "raise LimitNOFILE= of the unit (or ulimit -n) when it is out of files";
                        tracing::warn!(address = %listener.address, %error, more, "cannot take a connection; {remedy}");
                    }
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, listener: &Listener, stream: TcpStream, client: SocketAddr) {
        let ip = client.ip().to_canonical();
        let config = self.site.web.config();
        let is_trusted = config.trust_proxy.iter().any(|block| is_in_block(block, ip));
        let counts_for = (!is_trusted && !ip.is_loopback()).then_some(ip);
        let Some(open) = self.open.enter(counts_for) else {
            self.site.web.figures.count_connection(false);
            tracing::debug!(%client, "too many connections from there");
            return;
        };
        self.site.web.figures.count_connection(true);
        // The address that was asked, which a wildcard listener does not know.
        let Ok(server) = stream.local_addr() else { return };
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            client: canonical(client),
            server: canonical(server),
            secure: false,
            loopback_listener: listener.address.ip().is_loopback(),
        };
        let serves_plain = listener.serves_plain || connection.loopback_listener;
        let arrival = Arrival { connection, serves_plain };
        // A proxy of ours opens connections by the thousand when its clients come back, before it speaks on the first.
        let (silence, eviction) = (!is_trusted).then(|| self.silent.enter(counts_for)).unzip();
        let places = Places { silence, open };
        let front = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = front.plain(stream, arrival, places) => {}
                () = silent::comes(eviction) => tracing::debug!(%client, "silent for too long while others wait"),
            }
        });
    }

    /// The first byte on the wire decides.
    async fn plain(self: Arc<Self>, stream: TcpStream, arrival: Arrival, places: Places) {
        let mut first = [0; 1];
        let Ok(Ok(1)) = timeout(SILENCE, stream.peek(&mut first)).await else { return };
        match speaks(first[0]) {
            Some(Speaks::Stun) => {
                drop(places.silence);
                self.site.web.net.serve_stream(stream, tuple(&arrival, Transport::Tcp), &[]).await;
            }
            Some(Speaks::Tls) => self.secure(stream, arrival, places).await,
            Some(Speaks::Http) => self.http(stream, arrival, places).await,
            None => {}
        }
    }

    /// The first byte after the handshake decides: browsers name no protocol by ALPN on `turns:`.
    async fn secure(self: Arc<Self>, stream: TcpStream, mut arrival: Arrival, places: Places) {
        let figures = &self.site.web.figures;
        let shaking = AtomicBool::new(true);
        let opening = async {
            let accepted = self.acceptor.accept(ReadAhead::new(stream)).await;
            shaking.store(false, Ordering::Relaxed);
            figures.count_handshake(accepted.as_ref().err().map_or(Handshake::Done, Handshake::of));
            let mut stream = accepted?;
            let mut first = vec![0; 2048];
            let len = stream.read(&mut first).await?;
            first.truncate(len);
            io::Result::Ok((stream, first))
        };
        let (stream, first) = match timeout(SILENCE, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                tracing::debug!(client = %arrival.connection.client, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                if shaking.into_inner() {
                    figures.count_handshake(Handshake::TimedOut);
                }
                return;
            }
        };
        arrival.connection.secure = true;
        match first.first().and_then(|byte| speaks(*byte)) {
            Some(Speaks::Stun) => {
                drop(places.silence);
                let tuple = tuple(&arrival, Transport::Tls);
                self.site.web.net.serve_tls(stream, tuple, &first).await;
            }
            Some(Speaks::Http) => self.http(Rewound { first: first.into(), stream }, arrival, places).await,
            Some(Speaks::Tls) | None => {}
        }
    }

    async fn http<S>(self: Arc<Self>, stream: S, arrival: Arrival, places: Places)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(alive) = self.alive.upgrade() else { return };
        let silence = Mutex::new(places.silence);
        let client = arrival.connection.client;
        let service = service_fn(|request| {
            // A whole request head has come: this connection is silent no longer.
            drop(silence.lock().unwrap_or_else(PoisonError::into_inner).take());
            self.site.answer(arrival.clone(), request)
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD);
        // A WebSocket outlives this task, and keeps its place.
        let stream = Impatient::new(stream, WRITE_STALL, places.open);
        let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let mut stop = self.stop.clone();
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = stopped(&mut stop) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%client, %error, "HTTP connection ended");
        }
        drop(alive);
    }
}

/// Waits until the server stops (or its owner is gone).
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await;
}

enum Speaks {
    Stun,
    Tls,
    Http,
}

/// What a client speaks, by its first byte: a STUN type begins with two zero bits and a method below 0x400, a TLS
/// record of a handshake with 0x16, an HTTP method with a letter. ChannelData never comes first.
fn speaks(first: u8) -> Option<Speaks> {
    match first {
        0x00..=0x03 => Some(Speaks::Stun),
        0x16 => Some(Speaks::Tls),
        b'A'..=b'Z' => Some(Speaks::Http),
        _ => None,
    }
}

/// The 5-tuple of a TURN client that came by `transport`.
fn tuple(arrival: &Arrival, transport: Transport) -> FiveTuple {
    let Connection { client, server, .. } = arrival.connection;
    FiveTuple { client, server, transport }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Connections in all: a quarter of the file descriptors is kept for relay sockets and the rest.
fn open_total() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let descriptors = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    descriptors.map_or(usize::MAX, |descriptors| descriptors / 4 * 3)
}

/// What a connection holds while it is open: the one until it has spoken, the other to its end.
struct Places {
    silence: Option<silent::Pass>,
    open: Pass,
}

/// Counts connections against a cap in all and one per client prefix.
struct Gate {
    total: usize,
    per_prefix: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_prefix: HashMap<String, usize>,
}

/// One connection that a gate counts, until this is dropped.
struct Pass {
    gate: Arc<Gate>,
    prefix: Option<String>,
}

impl Gate {
    fn new(total: usize, per_prefix: usize) -> Arc<Self> {
        Arc::new(Self { total, per_prefix, counts: Mutex::default() })
    }

    /// `None` when there are too many from that client's prefix, or in all. A client of `None` counts in all only.
    fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> Option<Pass> {
        let prefix = client.map(client_prefix);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= self.total {
            return None;
        }
        if let Some(prefix) = &prefix {
            let of_prefix = counts.by_prefix.get(prefix).copied().unwrap_or(0);
            if of_prefix >= self.per_prefix {
                return None;
            }
            counts.by_prefix.insert(prefix.clone(), of_prefix + 1);
        }
        counts.total += 1;
        Some(Pass { gate: Arc::clone(self), prefix })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        let Some(prefix) = &self.prefix else { return };
        let left = counts.by_prefix.get(prefix).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            counts.by_prefix.remove(prefix);
        } else {
            counts.by_prefix.insert(prefix.clone(), left);
        }
    }
}

/// A stream that gives back what was read from it already.
struct Rewound<S> {
    first: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let len = self.first.len().min(out.remaining());
        out.put_slice(&self.first[..len]);
        self.first.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_capped_per_prefix() {
        let open = Gate::new(100, 2);
        let enter = |ip: &str| open.enter(Some(ip.parse().expect("address")));
        let mut held: Vec<_> = (0..2).map(|_| enter("192.0.2.1").expect("room")).collect();
        assert!(enter("192.0.2.200").is_none(), "the same /24");
        assert!(enter("192.0.3.1").is_some(), "another /24");
        held.pop();
        assert!(enter("192.0.2.200").is_some());
        drop(held);
        let counts = open.counts.lock().expect("lock");
        assert_eq!((counts.total, counts.by_prefix.len()), (0, 0));
    }

    #[test]
    fn who_stands_for_many_counts_in_all_only() {
        let gate = Gate::new(3, 1);
        let held: Vec<_> = (0..3).map(|_| gate.enter(None).expect("room")).collect();
        assert!(gate.enter(None).is_none());
        drop(held);
        assert!(gate.enter(None).is_some());
    }

    #[test]
    fn some_descriptors_are_left_for_relay_sockets() {
        assert!((1..usize::MAX).contains(&open_total()), "this system says how many files may be open");
    }

    #[tokio::test]
    async fn what_was_read_comes_again() {
        let (mut far, near) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut far, b"world").await.expect("written");
        drop(far);
        let mut text = String::new();
        let mut stream = Rewound { first: Bytes::from_static(b"hello "), stream: near };
        stream.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "hello world");
    }
}
