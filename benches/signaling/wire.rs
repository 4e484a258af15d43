//! The least WebSocket client that does: the same for every server, so that the load costs all of them the same.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// Client addresses: loopback has many, and servers count connections by address.
const SOURCES: usize = 40;
const READ_SIZE: usize = 2048;
const MAX_FRAME: usize = 1 << 20;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Where a server is.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<TlsConnector>,
}

/// The sending half; shared, since pings are answered while messages are sent.
#[derive(Clone)]
pub struct Writer(Arc<Mutex<Box<dyn AsyncWrite + Send + Unpin>>>);

pub struct Reader {
    half: Box<dyn AsyncRead + Send + Unpin>,
    /// What was read and not yet taken, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    writer: Writer,
}

/// Opens the `index`th connection to `target`, up to the WebSocket handshake's end.
pub async fn open(target: &Target, index: usize, path: &str) -> io::Result<Reader> {
    let socket = TcpSocket::new_v4()?;
    let source = Ipv4Addr::new(127, 0, 1, 1 + (index % SOURCES) as u8);
    socket.bind((source, 0).into())?;
    let stream = socket.connect(target.address).await?;
    stream.set_nodelay(true)?;
    let (half, writer) = halves(target, stream).await?;
    let mut reader = Reader { half, buffer: Vec::new(), start: 0, writer: Writer(Arc::new(Mutex::new(writer))) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
         Accept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nCache-Control: no-cache\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    reader.writer.0.lock().await.write_all(request.as_bytes()).await?;
    reader.handshake().await?;
    Ok(reader)
}

type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

async fn halves(target: &Target, stream: TcpStream) -> io::Result<Halves> {
    let Some(tls) = &target.tls else {
        let (reader, writer) = stream.into_split();
        return Ok((Box::new(reader), Box::new(writer)));
    };
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let (reader, writer) = tokio::io::split(tls.connect(name, stream).await?);
    Ok((Box::new(reader), Box::new(writer)))
}

impl Writer {
    /// Sends a text frame. The mask is zero: a mask is only there to confuse proxies.
    pub async fn send(&self, text: &str) -> io::Result<()> {
        self.frame(TEXT, text.as_bytes()).await
    }

    async fn frame(&self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        frame.push(0x80 | opcode);
        match payload.len() {
            len @ 0..126 => frame.push(0x80 | len as u8),
            len @ 126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.0.lock().await.write_all(&frame).await
    }
}

impl Reader {
    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// The next text frame; pings are answered.
    pub async fn next(&mut self) -> io::Result<&str> {
        loop {
            let (opcode, length) = self.frame().await?;
            let payload = self.start..self.start + length;
            self.start += length;
            match opcode {
                TEXT => return std::str::from_utf8(&self.buffer[payload]).map_err(io::Error::other),
                PING => {
                    let payload = self.buffer[payload].to_vec();
                    self.writer.frame(PONG, &payload).await?;
                }
                CLOSE => return Err(io::Error::other(format!("the server closed: {:?}", &self.buffer[payload]))),
                _ => {}
            }
        }
    }

    async fn handshake(&mut self) -> io::Result<()> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                self.start = end + 4;
                let status = String::from_utf8_lossy(self.buffer.get(..12).unwrap_or_default());
                let is_switched = status == "HTTP/1.1 101";
                return if is_switched { Ok(()) } else { Err(io::Error::other(status.into_owned())) };
            }
            self.read().await?;
        }
    }

    /// Opcode and length of the next frame, all of which is in the buffer from `start` on.
    async fn frame(&mut self) -> io::Result<(u8, usize)> {
        self.need(2).await?;
        let head = &self.buffer[self.start..];
        let opcode = head[0] & 0x0f;
        let (header, length) = match head[1] {
            short @ 0..126 => (2, usize::from(short)),
            126 => {
                self.need(4).await?;
                let head = &self.buffer[self.start..];
                (4, usize::from(u16::from_be_bytes([head[2], head[3]])))
            }
            _ => return Err(io::Error::other("a frame of more than 64 KiB")),
        };
        if length > MAX_FRAME {
            return Err(io::Error::other("too large a frame"));
        }
        self.need(header + length).await?;
        self.start += header;
        Ok((opcode, length))
    }

    async fn need(&mut self, bytes: usize) -> io::Result<()> {
        while self.buffer.len() - self.start < bytes {
            self.read().await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let len = self.buffer.len();
        self.buffer.resize(len + READ_SIZE, 0);
        let read = self.half.read(&mut self.buffer[len..]).await;
        self.buffer.truncate(len + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
