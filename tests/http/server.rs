//! The real app on free loopback ports, and a client that shows every byte of what it answers.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use relais::app::App;
use relais::config::{ApiKey, Config, Listen};
use relais::credentials::token::{Claims, Role};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) dir: tempfile::TempDir,
}

/// One address, as an operator gives it.
pub(crate) fn listen(address: &str) -> Listen {
    Listen { addresses: vec![address.parse().expect("address")], explicit: true }
}

/// A configuration in `dir` with pages of its own.
pub(crate) fn config(dir: &std::path::Path) -> Config {
    let pages = dir.join("pages");
    std::fs::create_dir_all(&pages).expect("created");
    for (name, content) in [("index.html", "<p>home"), ("call.html", "<p>call"), ("app.js", "let a;"), (".env", "s")] {
        std::fs::write(pages.join(name), content).expect("written");
    }
    std::fs::write(dir.join("outside.txt"), "outside").expect("written");
    Config {
        state_dir: dir.join("state"),
        udp: listen("127.0.0.1:0"),
        tcp: listen("127.0.0.1:0"),
        static_dir: Some(pages),
        shards: 1,
        ..Config::default()
    }
}

impl Server {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let mut config = config(dir.path());
        change(&mut config);
        let app = App::start(config).await.expect("started");
        Self { app, dir }
    }

    /// A server whose one TCP port is bound to every address, as on a host in the network.
    pub(crate) async fn start_public(change: impl FnOnce(&mut Config)) -> Self {
        Self::start(|config| {
            config.tcp = listen("0.0.0.0:0");
            change(config);
        })
        .await
    }

    /// Where to connect to for the first sniffed port.
    pub(crate) fn tcp(&self) -> SocketAddr {
        let bound = self.app.web.bound.tcp[0];
        if bound.ip().is_unspecified() { SocketAddr::from((Ipv4Addr::LOCALHOST, bound.port())) } else { bound }
    }

    /// A token that opens every room for a minute.
    pub(crate) fn token(&self, jti: &str, exp: u64) -> String {
        let claims = Claims { jti: jti.into(), room: "*".into(), role: Role::Member, name: None, iat: exp - 60, exp };
        self.app.web.live.get().tokens.mint(&claims)
    }

    /// Sends `lines` (request line and headers) over plain TCP.
    pub(crate) async fn plain(&self, lines: &str) -> Reply {
        let stream = TcpStream::connect(self.tcp()).await.expect("connected");
        exchange(stream, lines).await
    }

    /// Posts JSON with a bearer over plain TCP.
    pub(crate) async fn post(&self, path: &str, bearer: &str, body: &str) -> Reply {
        self.plain(&post(path, bearer, body)).await
    }

    /// Sends `lines` over TLS as a client that trusts nothing but our CA.
    pub(crate) async fn tls(&self, lines: &str) -> Reply {
        exchange(self.handshake("localhost", &[]).await.expect("handshake"), lines).await
    }

    /// A TLS connection that offers `alpn` and trusts nothing but our CA.
    pub(crate) async fn handshake(&self, name: &str, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.dir.path().join("state/ca.pem")).expect("CA");
        roots.add(ca).expect("added");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.tcp()).await?;
        let name = ServerName::try_from(name.to_owned()).expect("name");
        TlsConnector::from(Arc::new(client)).connect(name, stream).await
    }
}

/// The secret of the API key `shop`.
pub(crate) const SHOP: &str = "shop-secret-of-thirty-two-characters";
/// The secret of the API key `blog`.
pub(crate) const BLOG: &str = "blog-secret-of-thirty-two-characters";

/// Two back ends.
pub(crate) fn api_keys() -> Vec<ApiKey> {
    [("shop", SHOP), ("blog", BLOG)].map(|(id, secret)| ApiKey { id: id.into(), secret: secret.into() }).to_vec()
}

/// A request with a JSON body.
pub(crate) fn post(path: &str, bearer: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\nHost: localhost\nAuthorization: Bearer {bearer}");
    format!("{head}\nContent-Type: application/json\nContent-Length: {length}\n\n{body}")
}

/// An answer in parts.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
    /// The body as it came.
    pub(crate) bytes: Vec<u8>,
    /// Every header line, in order.
    lines: Vec<(String, String)>,
}

impl Reply {
    /// Every value of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.lines.iter().filter(|(line, _)| line == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `code` of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let lines: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self {
            status: status.unwrap_or_else(|| panic!("no status: {text:?}")),
            headers: lines.iter().cloned().collect(),
            lines,
            body: body.to_owned(),
            bytes: bytes
                .windows(4)
                .position(|end| end == b"\r\n\r\n")
                .map_or_else(Vec::new, |end| bytes[end + 4..].to_vec()),
        }
    }
}

/// One request on a connection of its own. Header lines are separated by `\n`; a body follows an empty line.
pub(crate) async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, lines: &str) -> Reply {
    let (head, body) = lines.trim_start().split_once("\n\n").unwrap_or((lines.trim(), ""));
    let request = format!("{}\r\nConnection: close\r\n\r\n{body}", head.replace('\n', "\r\n"));
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    // A peer that closes TLS without a notice still has answered.
    let _ = stream.read_to_end(&mut bytes).await;
    Reply::parse(&bytes)
}

/// A STUN Binding request and the first bytes of what comes back.
pub(crate) async fn binding(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> [u8; 20] {
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend(*b"twelve bytes");
    stream.write_all(&request).await.expect("sent");
    let mut head = [0; 20];
    stream.read_exact(&mut head).await.expect("answered");
    head
}
