//! The client's side of STUN/TURN over TCP and TLS: a `webrtc-util` connection that cuts the stream into messages
//! (RFC 8656 section 3.1 and 12.5), and the TLS handshake before it.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;
use webrtc_util::{Conn, Error};

/// STUN header, RFC 8489 section 5, and ChannelData header, RFC 8656 section 12.4, in bytes.
const STUN_HEADER: usize = 20;
const CHANNEL_HEADER: usize = 4;

/// A stream that carries STUN messages and ChannelData.
pub struct StreamConn {
    reader: Mutex<Reader>,
    writer: Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    local: SocketAddr,
    remote: SocketAddr,
}

struct Reader {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    /// What has arrived of the next messages; kept here so that an abandoned read loses nothing.
    buffer: Vec<u8>,
}

impl StreamConn {
    /// Wraps a connected stream.
    pub fn new<S>(stream: S, local: SocketAddr, remote: SocketAddr) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        let reader = Reader { stream: Box::new(reader), buffer: Vec::new() };
        Self { reader: Mutex::new(reader), writer: Mutex::new(Box::new(writer)), local, remote }
    }
}

impl Reader {
    /// The next message without its padding.
    async fn next(&mut self, message: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((length, padded)) = frame(&self.buffer)?
                && self.buffer.len() >= padded
            {
                let target = message.get_mut(..length).ok_or(io::ErrorKind::OutOfMemory)?;
                target.copy_from_slice(&self.buffer[..length]);
                self.buffer.drain(..padded);
                return Ok(length);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Length of the message at the start of `buffer`, and the same with padding; `None` when its header is incomplete.
fn frame(buffer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let &[first, _, high, low, ..] = buffer else { return Ok(None) };
    // An HTTP server's answer would pass for ChannelData of the channel "HT", which is far above those in use here.
    let first = if buffer.starts_with(b"HTTP") { 0xff } else { first };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match first {
        0x00..=0x03 => Ok(Some((STUN_HEADER + length, STUN_HEADER + length))),
        0x40..=0x7f => Ok(Some((CHANNEL_HEADER + length, CHANNEL_HEADER + length.next_multiple_of(4)))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the server answers with something that is not STUN")),
    }
}

#[async_trait]
impl Conn for StreamConn {
    async fn connect(&self, _: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn recv(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        Ok(self.reader.lock().await.next(buffer).await?)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        Ok((self.recv(buffer).await?, self.remote))
    }

    async fn send(&self, message: &[u8]) -> Result<usize, Error> {
        let mut writer = self.writer.lock().await;
        writer.write_all(message).await?;
        let padding = message.len().next_multiple_of(4) - message.len();
        writer.write_all(&[0; 3][..padding]).await?;
        writer.flush().await?;
        Ok(message.len())
    }

    async fn send_to(&self, message: &[u8], _: SocketAddr) -> Result<usize, Error> {
        self.send(message).await
    }

    fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.remote)
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(self.writer.lock().await.shutdown().await?)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// A TLS client that trusts `roots`, or, if `insecure`, everybody.
pub fn tls_config(roots: RootCertStore, insecure: bool) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    if insecure {
        let verifier = Arc::new(TrustEverybody { algorithms: algorithms(&provider) });
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What browsers trust.
pub fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The certificates of these PEM files.
pub fn roots_of(files: &[&Path]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for path in files {
        let read = || format!("cannot read certificates from {}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
            roots.add(certificate.with_context(read)?).with_context(read)?;
        }
    }
    Ok(roots)
}

/// The name that the server's certificate must bear.
pub fn server_name(host: &str) -> anyhow::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no name for TLS"))
}

fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

/// `--insecure`: the handshake is checked, the certificate is not.
#[derive(Debug)]
struct TrustEverybody {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for TrustEverybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_cut_out_of_the_stream_and_padded() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let address: SocketAddr = "127.0.0.1:1".parse().expect("literal");
        let conn = StreamConn::new(ours, address, address);
        let binding = [&[0, 1, 0, 0][..], &[7; 16]].concat();
        let channel = [0x40, 0, 0, 2, 8, 9, 0, 0];
        theirs.write_all(&[&channel[..], &binding, &binding[..9]].concat()).await.expect("written");
        let mut buffer = [0; 100];
        let length = conn.recv(&mut buffer).await.expect("channel data");
        assert_eq!(buffer[..length], channel[..6]);
        let length = conn.recv(&mut buffer).await.expect("a message");
        assert_eq!(buffer[..length], binding[..]);
        theirs.write_all(&binding[9..]).await.expect("written");
        assert_eq!(conn.recv(&mut buffer).await.expect("the split one"), binding.len());

        conn.send(&channel[..6]).await.expect("sent");
        let mut sent = [0xff; 8];
        theirs.read_exact(&mut sent).await.expect("arrived with padding");
        assert_eq!(sent, channel);
    }

    #[test]
    fn http_is_not_stun() {
        assert!(frame(b"HTTP/1.1 400").is_err());
        assert!(frame(&[0, 1, 0]).expect("short").is_none());
    }
}
