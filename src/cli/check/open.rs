//! Opens a connection to the server over each transport, and says in words why it cannot.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use webrtc_util::Conn;

use super::stream::StreamConn;
use super::target::Transport;

/// A connection to the server, whatever the transport.
pub type Connection = Arc<dyn Conn + Send + Sync>;

/// What it takes to open a connection.
pub struct Opener {
    pub tls: Arc<ClientConfig>,
    pub name: ServerName<'static>,
    /// Patience with each step.
    pub timeout: Duration,
}

impl Opener {
    /// Connects to `server`; an error is the cause in words, with the remedy.
    pub async fn open(&self, transport: Transport, server: SocketAddr) -> Result<Connection, String> {
        if transport == Transport::Udp {
            return open_udp(server).await.map_err(|error| format!("no UDP socket toward {server}: {error}"));
        }
        let stream = match tokio::time::timeout(self.timeout, TcpStream::connect(server)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(refused(server, &error)),
            Err(_) => return Err(silent("TCP", server)),
        };
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().map_err(|error| error.to_string())?;
        if transport == Transport::Tcp {
            return Ok(Arc::new(StreamConn::new(stream, local, server)));
        }
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), stream);
        match tokio::time::timeout(self.timeout, handshake).await {
            Ok(Ok(stream)) => Ok(Arc::new(StreamConn::new(stream, local, server))),
            Ok(Err(error)) => Err(untrusted(&error)),
            Err(_) => Err("the server takes TCP but does not answer TLS: it speaks none on this port".into()),
        }
    }
}

async fn open_udp(server: SocketAddr) -> io::Result<Connection> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // Connected, so that the kernel reports a port where nobody listens.
    socket.connect(server).await?;
    Ok(Arc::new(socket))
}

/// Why nothing came back in time.
pub fn silent(transport: &str, server: SocketAddr) -> String {
    format!("no answer: a firewall drops {transport} to port {}, or the server is down", server.port())
}

/// Why the system refused at once.
pub fn refused(server: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("refused: nothing listens on port {}, or a firewall rejects it", server.port())
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            format!("this machine has no way to {}: {error}", server.ip())
        }
        _ => error.to_string(),
    }
}

fn untrusted(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let remedy = "name its CA with --ca FILE (of a relais server: https://HOST/ca.crt), or test with --insecure";
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            format!("the certificate's issuer is not trusted: {remedy}")
        }
        Some(rustls::Error::InvalidCertificate(problem)) => {
            format!(
                "browsers refuse the certificate ({problem}): renew it for the name in use, or test with --insecure"
            )
        }
        Some(rustls::Error::InvalidMessage(_)) => "the server answers with something that is not TLS".into(),
        _ if error.kind() == io::ErrorKind::UnexpectedEof || error.kind() == io::ErrorKind::ConnectionReset => {
            "the server closed the connection in the TLS handshake: it speaks no TLS on this port".into()
        }
        _ => format!("TLS failed: {error}"),
    }
}
