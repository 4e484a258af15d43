//! Opens a connection to the server over each transport, and says in words why it cannot.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webrtc_util::Conn;

use super::cause::{Cause, Fault};
use super::stream::StreamConn;
use super::target::Transport;

/// A connection to the server, whatever the transport.
pub type Connection = Arc<dyn Conn + Send + Sync>;

/// What it takes to open a connection.
#[derive(Clone)]
pub struct Opener {
    pub tls: Arc<ClientConfig>,
    /// Authorities trusted beside the public ones.
    pub extra: RootCertStore,
    /// True to believe every certificate.
    pub insecure: bool,
    pub name: ServerName<'static>,
    /// Patience with each step.
    pub timeout: Duration,
}

impl Opener {
    /// Connects to `server`; an error is the cause in words, with the remedy.
    pub async fn open(&self, transport: Transport, server: SocketAddr) -> Result<Connection, Fault> {
        if transport == Transport::Udp {
            return open_udp(server).await.map_err(|error| refused(server, &error));
        }
        let stream = self.connect(server).await?;
        let local = stream.local_addr().map_err(Fault::other)?;
        if transport == Transport::Tcp {
            return Ok(Arc::new(StreamConn::new(stream, local, server)));
        }
        let stream = self.handshake(Arc::clone(&self.tls), stream).await?;
        Ok(Arc::new(StreamConn::new(stream, local, server)))
    }

    /// Connects over TCP.
    pub async fn connect(&self, server: SocketAddr) -> Result<TcpStream, Fault> {
        match tokio::time::timeout(self.timeout, TcpStream::connect(server)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(Err(error)) => Err(refused(server, &error)),
            Err(_) => Err(silent("TCP", server)),
        }
    }

    /// Makes a TLS connection out of a TCP connection, with the trust of `tls`.
    pub async fn handshake(&self, tls: Arc<ClientConfig>, stream: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
        let handshake = TlsConnector::from(tls).connect(self.name.clone(), stream);
        match tokio::time::timeout(self.timeout, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(untrusted(&error)),
            Err(_) => Err(Fault::new(
                Cause::NotTls,
                "the server takes TCP but does not answer TLS: it speaks none on this port",
            )),
        }
    }
}

async fn open_udp(server: SocketAddr) -> io::Result<Connection> {
    let socket = UdpSocket::bind(any(server)).await?;
    // Connected, so that the kernel reports a port where nobody listens.
    socket.connect(server).await?;
    Ok(Arc::new(socket))
}

/// The unspecified address of the family of `server`.
pub fn any(server: SocketAddr) -> SocketAddr {
    if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() }
}

/// Why nothing came back in time.
pub fn silent(transport: &str, server: SocketAddr) -> Fault {
    let text = format!("no answer: a firewall drops {transport} to port {}, or the server is down", server.port());
    Fault::new(Cause::NoAnswer, text)
}

/// Why the system refused at once.
pub fn refused(server: SocketAddr, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            let text = format!("refused: nothing listens on port {}, or a firewall rejects it", server.port());
            Fault::new(Cause::PortClosed, text)
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable => {
            Fault::new(Cause::NoRoute, format!("this machine has no way to {}: {error}", server.ip()))
        }
        io::ErrorKind::TimedOut => silent("TCP", server),
        _ => Fault::other(error),
    }
}

fn untrusted(error: &io::Error) -> Fault {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => refusal(problem),
        Some(rustls::Error::InvalidMessage(_)) => {
            Fault::new(Cause::NotTls, "the server answers with something that is not TLS")
        }
        _ if error.kind() == io::ErrorKind::UnexpectedEof || error.kind() == io::ErrorKind::ConnectionReset => {
            let text = "the server closed the connection in the TLS handshake: it speaks no TLS on this port";
            Fault::new(Cause::NotTls, text)
        }
        _ => Fault::new(Cause::NotTls, format!("TLS failed: {error}")),
    }
}

/// Why browsers refuse a certificate.
pub fn refusal(problem: &CertificateError) -> Fault {
    let insecure = "or test with --insecure";
    let (cause, text) = match problem {
        CertificateError::UnknownIssuer => {
            let remedy = "name its CA with --ca FILE (of a relais server: https://HOST/ca.crt)";
            (Cause::CertificateUntrusted, format!("the certificate's issuer is not trusted: {remedy}, {insecure}"))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (Cause::CertificateName, format!("the certificate is for another name ({problem}), {insecure}"))
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            let text = format!("browsers refuse the certificate ({problem}): renew it, compare the clocks, {insecure}");
            (Cause::CertificateExpired, text)
        }
        problem => (Cause::CertificateInvalid, format!("browsers refuse the certificate ({problem}); {insecure}")),
    };
    Fault::new(cause, text)
}
