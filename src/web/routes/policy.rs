//! What every request passes before it is served: trusted proxies, known hosts, HTTPS, and the security headers.

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};

use super::{Arrival, is_upgrade};
use crate::config::Config;
use crate::web::desk::host;
use crate::web::front::MAX_HEAD;
use crate::web::host::{Host, is_in_block};
use crate::web::{Connection, Web};

/// Pages bring no inline script, and talk to this server only (WebSocket included).
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    media-src 'self' blob: mediastream:; font-src 'self'; manifest-src 'self'; worker-src 'self'; \
    connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Marks an answer from the operator's own directory, whose pages may carry inline script.
#[derive(Clone, Copy)]
pub(super) struct OperatorsOwn;

const OPERATOR_POLICY: &str = "object-src 'none'; base-uri 'self'; frame-ancestors 'self'";

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Signs of a proxy, whether we trust it or not.
const PROXY_SIGNS: [HeaderName; 5] =
    [FORWARDED_FOR, FORWARDED_PROTO, header::FORWARDED, header::VIA, HeaderName::from_static("x-real-ip")];

/// What becomes of a request.
pub(super) enum Verdict {
    Serve,
    Answer(Box<Response<Body>>),
}

/// Believes `X-Forwarded-For` and `-Proto` of trusted proxies. What came through any proxy did not come from this
/// machine, so a loopback listener's exemptions end there.
pub(super) fn apply_proxy_headers(config: &Config, connection: &mut Connection, headers: &HeaderMap) {
    let is_trusted = |ip: IpAddr| config.trust_proxy.iter().any(|block| is_in_block(block, ip));
    if PROXY_SIGNS.iter().any(|sign| headers.contains_key(sign)) || !connection.client.ip().is_loopback() {
        connection.loopback_listener = false;
    }
    if !is_trusted(connection.client.ip()) {
        return;
    }
    if let Some(client) = forwarded_client(headers, is_trusted) {
        connection.client = SocketAddr::new(client, connection.client.port());
    }
    if let Some(proto) = headers.get(FORWARDED_PROTO) {
        connection.secure = proto.as_bytes().eq_ignore_ascii_case(b"https");
    }
}

/// The last address in the chain that is no trusted proxy: those before it anybody may have written.
fn forwarded_client(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut first = None;
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        for part in value.to_str().ok()?.rsplit(',') {
            let ip = forwarded_address(part.trim())?;
            first = Some(ip);
            if !is_trusted(ip) {
                return first;
            }
        }
    }
    first
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}

/// Roughly the bytes of a request's head on the wire.
fn head_size(request: &Request<Body>) -> usize {
    const LINE: usize = ": \r\n".len();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + LINE);
    request.method().as_str().len() + target + LINE + headers.sum::<usize>()
}

/// Refuses heads that are too large and unknown hosts, sends plain HTTP to HTTPS.
pub(super) fn check(web: &Web, arrival: &Arrival, request: &Request<Body>) -> Verdict {
    if head_size(request) > MAX_HEAD {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let message = format!("the head of a request has at most {MAX_HEAD} bytes");
        return answer(refusal(status, "head-too-large", &message));
    }
    let path = request.uri().path();
    if path == "/healthz" {
        return Verdict::Serve;
    }
    let Some(known) = web.known_host(&arrival.connection, host(request)) else {
        return answer(refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown-host",
            "this server does not answer for that host name: set it with --domain (or an address with --public-ip)",
        ));
    };
    let is_exempt = path == "/ca.crt" || path.starts_with("/.well-known/acme-challenge/");
    if arrival.connection.secure || arrival.serves_plain || is_exempt {
        return Verdict::Serve;
    }
    // A port that a router forwards has another number outside: the one the browser used.
    let asked = host(request).and_then(Host::parse_authority).and_then(|(_, port)| port);
    let port = https_port(web, asked.unwrap_or(arrival.connection.server.port()));
    let target = https_url(&known, port, request);
    let is_page = matches!(*request.method(), Method::GET | Method::HEAD)
        && !is_upgrade(request.headers())
        && !path.starts_with("/api/")
        && !matches!(path, "/socket.io" | "/socket.io/");
    answer(if is_page {
        redirect(&target)
    } else {
        refusal(StatusCode::FORBIDDEN, "https-only", &format!("use {target}"))
    })
}

/// 443 instead of 80 where it is bound, else the same port: every port of ours answers HTTPS.
fn https_port(web: &Web, asked: u16) -> u16 {
    let has_443 = web.bound.tcp.iter().any(|address| address.port() == 443);
    if asked == 80 && has_443 { 443 } else { asked }
}

fn https_url(host: &Host, port: u16, request: &Request<Body>) -> String {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let scheme = if is_upgrade(request.headers()) { "wss" } else { "https" };
    if port == 443 { format!("{scheme}://{host}{target}") } else { format!("{scheme}://{host}:{port}{target}") }
}

fn redirect(target: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(target) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    // A permanent redirect of a port that changes hands would haunt the browser.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An error as JSON: a stable code and a sentence.
pub(in crate::web) fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "code": code, "message": message }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn answer(response: Response<Body>) -> Verdict {
    Verdict::Answer(Box::new(response))
}

/// HSTS binds a browser to HTTPS for the whole host: only with a chain that browsers trust, and no plain listener.
pub(super) fn wants_hsts(web: &Web) -> bool {
    let domain = web.config().domain.as_deref().and_then(Host::parse);
    web.bound.http.is_empty() && domain.is_some_and(|domain| web.identity.is_public_for(&domain))
}

/// The security headers of every answer.
pub(super) fn add_security_headers(response: &mut Response<Body>, hsts: bool) {
    let is_operators = response.extensions().get::<OperatorsOwn>().is_some();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_SECURITY_POLICY, if is_operators { OPERATOR_POLICY } else { PAGE_POLICY });
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Links carry room names.
    set(header::REFERRER_POLICY, "no-referrer");
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), fullscreen=(self), \
         geolocation=(), payment=(), usb=()",
    );
    if hsts {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cidr;

    fn forwarded(client: &str, headers: &[(&'static str, &'static str)]) -> Connection {
        let block = Cidr { network: "10.0.0.0".parse().expect("address"), prefix: 8 };
        let config = Config { trust_proxy: vec![block], ..Config::default() };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let mut connection = Connection {
            client: client.parse().expect("address"),
            server: "127.0.0.1:80".parse().expect("address"),
            secure: false,
            loopback_listener: true,
        };
        apply_proxy_headers(&config, &mut connection, &map);
        connection
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let ip = |connection: &Connection| connection.client.ip().to_string();
        let chain = ("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.0.0.9");
        let proto = ("x-forwarded-proto", "https");
        let believed = forwarded("10.0.0.1:5", &[chain, proto]);
        assert_eq!((ip(&believed), believed.secure, believed.loopback_listener), ("203.0.113.7".into(), true, false));
        let ignored = forwarded("192.0.2.1:5", &[chain, proto]);
        assert_eq!((ip(&ignored), ignored.secure), ("192.0.2.1".into(), false));
        let broken = forwarded("10.0.0.1:5", &[("x-forwarded-for", "unknown")]);
        assert_eq!(ip(&broken), "10.0.0.1");
        let repeated =
            forwarded("10.0.0.1:5", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "[2001:db8::1]:9")]);
        assert_eq!(ip(&repeated), "2001:db8::1");
    }

    #[test]
    fn a_proxy_ends_the_exemptions_of_loopback() {
        assert!(forwarded("127.0.0.1:5", &[]).loopback_listener);
        assert!(!forwarded("127.0.0.1:5", &[("x-forwarded-for", "127.0.0.1")]).loopback_listener);
        assert!(!forwarded("127.0.0.1:5", &[("via", "1.1 proxy")]).loopback_listener);
    }
}
