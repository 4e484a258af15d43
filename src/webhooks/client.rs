//! One POST over HTTP or HTTPS. Where it goes is the operator's choice, private addresses included.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one attempt may take, from the name to the status line.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What became of an attempt.
pub(super) enum Outcome {
    Taken,
    /// It makes no sense to send it again.
    Refused(String),
    /// It may work another time.
    Failed(String),
}

/// Knows the receiver.
pub(super) struct Client {
    host: String,
    port: u16,
    /// What the Host header says.
    authority: String,
    target: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Client {
    pub(super) fn new(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().context("signaling.webhook_url is no address")?;
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().context("signaling.webhook_url names no host")?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let tls = if is_tls {
            let name = ServerName::try_from(host.clone()).context("signaling.webhook_url: no name for TLS")?;
            Some((TlsConnector::from(Arc::new(trust()?)), name))
        } else {
            None
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: uri.authority().map_or_else(|| host.clone(), ToString::to_string),
            target: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            host,
            tls,
        })
    }

    /// The receiver's host, for the log; its path may be a secret.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) async fn post(&self, id: &str, timestamp: u64, signature: &str, body: &str) -> Outcome {
        let request = Request::post(&self.target)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("relais/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        match tokio::time::timeout(TIMEOUT, self.exchange(request)).await {
            Err(_) => Outcome::Failed(format!("no answer within {} s", TIMEOUT.as_secs())),
            Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
            Ok(Ok(status)) => judge(status),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<StatusCode> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.context("cannot connect")?;
        match &self.tls {
            None => send(stream, request).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.context("TLS handshake")?;
                send(stream, request).await
            }
        }
    }
}

/// Sends the request and reads the status; the rest of the answer is of no interest.
async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut answering = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut answering => answer,
        // What came with the end is handed over already.
        ended = connection => {
            ended?;
            answering.await
        }
    };
    Ok(answer?.status())
}

/// Trouble on the receiver's side may pass; what it does not want now it will not want later.
fn judge(status: StatusCode) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Taken,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Outcome::Failed(format!("status {status}")),
        status if status.is_server_error() => Outcome::Failed(format!("status {status}")),
        status => Outcome::Refused(format!("status {status}")),
    }
}

/// The public roots, and what this system trusts beside them (an operator's own authority).
fn trust() -> Result<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let (_, ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if ignored > 0 {
        tracing::debug!(ignored, "certificates of this system's store cannot be used");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A receiver over TLS that takes everything; its port and certificate.
    async fn receiver() -> (u16, CertificateDer<'static>) {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("certificate");
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.expect("bound"));
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut bytes = Vec::new();
                while !bytes.ends_with(b"the body") && stream.read_buf(&mut bytes).await.is_ok_and(|len| len > 0) {}
                let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        });
        (port, certificate)
    }

    #[tokio::test]
    async fn https_asks_for_a_certificate_that_is_trusted() {
        let (port, certificate) = receiver().await;
        let mut client = Client::new(&format!("https://localhost:{port}/hook")).expect("an address");
        let outcome = client.post("msg_1", 1, "v1,x", "the body").await;
        assert!(matches!(&outcome, Outcome::Failed(reason) if reason.contains("TLS")), "a stranger's certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("added");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (_, name) = client.tls.take().expect("TLS");
        client.tls = Some((TlsConnector::from(Arc::new(config)), name));
        assert!(matches!(client.post("msg_1", 1, "v1,x", "the body").await, Outcome::Taken));
    }
}
