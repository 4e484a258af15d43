//! The OpenAPI document says what the server does: paths, methods, status codes and the shape of answers.

use std::collections::{BTreeMap, BTreeSet};

use relais::clock;
use relais::config::Access;
use relais::web::admin::MAX_WATCHERS;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::admin;
use crate::server::{Reply, SHOP, Server, api_keys, exchange, post};
use crate::signaling::join_with;

/// What was seen, by path and method.
type Seen = BTreeMap<(String, String), BTreeSet<u16>>;

struct Watch {
    document: Value,
    seen: Seen,
}

impl Watch {
    /// Notes an answer and holds its body against the documented schema.
    fn note(&mut self, path: &str, method: &str, reply: &Reply) {
        let operation = &self.document["paths"][path][method];
        let status = reply.status.to_string();
        let response = &operation["responses"][&status];
        assert!(response.is_object(), "{method} {path} answers {status}, which is not documented: {}", reply.body);
        let documented = response["content"].as_object().and_then(|content| content.iter().next());
        match documented {
            None => assert_eq!(reply.body, "", "{method} {path} {status}"),
            Some((kind, content)) => {
                let found = reply.header("content-type").split(';').next().unwrap_or_default().to_owned();
                assert_eq!(&found, kind, "{method} {path} {status}");
                if kind == "application/json" {
                    self.fits(&content["schema"], &reply.json(), &format!("{method} {path} {status}"));
                }
            }
        }
        self.seen.entry((path.into(), method.into())).or_default().insert(reply.status);
    }

    /// Properties and types of `value` are those of `schema`, none missing and none more.
    fn fits(&self, schema: &Value, value: &Value, place: &str) {
        if let Some(target) = schema["$ref"].as_str() {
            let target = target.strip_prefix('#').expect("local");
            return self.fits(self.document.pointer(target).expect(target), value, place);
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(kinds.contains(&kind), "{place}: {value} is no {kinds:?}");
        for item in value.as_array().into_iter().flatten() {
            self.fits(&schema["items"], item, &format!("{place}[]"));
        }
        let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else { return };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(object.contains_key(name), "{place}: {name} is missing in {value}");
        }
        for (name, value) in object {
            let property = properties.get(name).unwrap_or_else(|| panic!("{place}: {name} is not documented"));
            self.fits(property, value, &format!("{place}.{name}"));
        }
    }
}

fn ask(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\nHost: localhost{more}").trim_end().to_owned()
}

async fn document(server: &Server) -> Value {
    let reply = server.plain(&ask("GET", "/api/openapi.json", "")).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, "*"));
    reply.json()
}

async fn keyed(server: impl FnOnce(&mut relais::config::Config)) -> Server {
    Server::start(|config| {
        config.api_keys = api_keys();
        config.access = Some(Access::Invite);
        server(config);
    })
    .await
}

#[tokio::test]
async fn paths_and_methods_are_those_of_the_router() {
    let server = keyed(|_| {}).await;
    let document = document(&server).await;
    let paths = document["paths"].as_object().expect("paths");
    // What the router is built from.
    let source = include_str!("../../src/web/routes.rs");
    let routed = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let is_api = |path: &&str| path.starts_with("/api/") || matches!(*path, "/healthz" | "/ca.crt");
    let routed: BTreeSet<&str> = routed.filter(is_api).collect();
    assert_eq!(paths.keys().map(String::as_str).collect::<BTreeSet<_>>(), routed);
    for (path, item) in paths {
        let real = path.replace("{id}", "nobody");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let reply = server.plain(&ask(method, &real, "")).await;
            let is_documented = item.get(method.to_lowercase()).is_some();
            assert_eq!(reply.status != 405, is_documented, "{method} {path}: {}", reply.status);
        }
    }
}

/// Everything that a request without special circumstances can be answered with.
async fn note_plain(watch: &mut Watch, server: &Server) {
    let now = clock::now().unix;
    let token = server.token("abc", now + 600);
    let bearer = |secret: &str| format!("\nAuthorization: Bearer {secret}");
    let evil = "\nOrigin: https://evil.example";
    server.post("/api/revoke", SHOP, r#"{"subject":"a.shop.gone"}"#).await;
    for (path, method, query) in [
        ("/api/ice", "get", "?username="),
        ("/api/ice", "options", "?username="),
        ("/api/turn", "get", "?service=turn&username="),
    ] {
        let verb = method.to_uppercase();
        let plain = query.trim_end_matches("username=").trim_end_matches(['?', '&']);
        for request in [
            ask(&verb, &format!("{path}{plain}"), &bearer(&token)),
            ask(&verb, &format!("{path}{query}ada"), &bearer(SHOP)),
            ask(&verb, &format!("{path}{query}a%20b"), &bearer(SHOP)),
            ask(&verb, &format!("{path}{query}gone"), &bearer(SHOP)),
            ask(&verb, &format!("{path}{plain}"), ""),
            ask(&verb, &format!("{path}{plain}"), evil),
            ask(&verb, &format!("{path}{plain}"), &bearer(&token)).replace("localhost", "evil.example"),
        ] {
            watch.note(path, method, &server.plain(&request).await);
        }
    }
    for (path, good, bad) in [
        ("/api/tokens", r#"{"room":"blue","name":"Ada"}"#, r#"{"room":""}"#),
        ("/api/credentials", r#"{"name":"ada"}"#, r#"{"name":"gone"}"#),
        ("/api/revoke", r#"{"subject":"a.shop.*"}"#, r#"{"subject":"p.x"}"#),
    ] {
        for request in [
            post(path, SHOP, bad),
            post(path, SHOP, good),
            post(path, SHOP, "{"),
            post(path, "wrong", good),
            post(path, SHOP, &"x".repeat(20_000)),
            post(path, SHOP, good).replace("application/json", "text/plain"),
            post(path, SHOP, good).replacen('\n', &format!("{evil}\n"), 1),
            post(path, SHOP, good).replace("localhost", "evil.example"),
        ] {
            watch.note(path, "post", &server.plain(&request).await);
        }
    }
}

#[tokio::test]
async fn status_codes_and_bodies_are_those_documented() {
    let server = keyed(|_| {}).await;
    let mut watch = Watch { document: document(&server).await, seen: Seen::new() };
    note_plain(&mut watch, &server).await;
    let stranger = |path: &str| ask("GET", path, "").replace("localhost", "evil.example");
    for path in ["/api/openapi.json", "/healthz", "/ca.crt"] {
        watch.note(path, "get", &server.plain(&ask("GET", path, "")).await);
        watch.note(path, "get", &server.plain(&stranger(path)).await);
    }
    note_peers(&mut watch, &server).await;
    note_codes(&mut watch, &server).await;
    note_admin(&mut watch, &server).await;
    for path in ["/api/turn", "/api/peers/nobody"] {
        let documented = path.replace("nobody", "{id}");
        for more in ["", "\nOrigin: https://evil.example"] {
            watch.note(&documented, "options", &server.plain(&ask("OPTIONS", path, more)).await);
        }
        let stranger = ask("OPTIONS", path, "").replace("localhost", "evil.example");
        watch.note(&documented, "options", &server.plain(&stranger).await);
    }
    // 408: the bodies that never come wait side by side.
    let slow = ["/api/tokens", "/api/credentials", "/api/revoke", "/api/qr"].into_iter().chain(ADMIN_POSTS);
    let cookie = admin_cookie(&server).await;
    let slow: Vec<_> = slow
        .map(|path| {
            let (address, cookie) = (server.tcp(), cookie.clone());
            tokio::spawn(async move {
                let head = post(path, SHOP, "{}").replace("\n\n{}", &cookie).replace('\n', "\r\n");
                let mut stream = TcpStream::connect(address).await.expect("connected");
                stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n{{").as_bytes()).await.expect("sent");
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes).await;
                (path, Reply::parse(&bytes))
            })
        })
        .collect();
    note_elsewhere(&mut watch).await;
    for slow in slow {
        let (path, reply) = slow.await.expect("answered");
        watch.note(path, "post", &reply);
    }
    let mut documented = Seen::new();
    for (path, item) in watch.document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("item").iter().filter(|(name, _)| *name != "parameters") {
            let codes = operation["responses"].as_object().expect("responses").keys();
            let codes = codes.map(|code| code.parse().expect("a number")).collect();
            documented.insert((path.clone(), method.clone()), codes);
        }
    }
    assert_eq!(watch.seen, documented, "left: what the server did, right: what the document says");
}

async fn note_peers(watch: &mut Watch, server: &Server) {
    let host = server.post("/api/tokens", SHOP, r#"{"room":"blue","role":"host"}"#).await.json();
    let host = host["token"].as_str().expect("text");
    let (_socket, joined) = join_with(server, host).await;
    let path = format!("/api/peers/{}", joined["peer"].as_str().expect("id"));
    let member = server.token("abc", clock::now().unix + 60);
    let bearer = |token: &str| format!("\nAuthorization: Bearer {token}");
    for request in [
        ask("GET", &path, &bearer(host)),
        ask("GET", "/api/peers/nobody", &bearer(host)),
        ask("GET", &path, ""),
        ask("GET", &path, &bearer(&member)),
        ask("GET", &path, &bearer(host)).replace("localhost", "evil.example"),
    ] {
        watch.note("/api/peers/{id}", "get", &server.plain(&request).await);
    }
}

/// What the page `/admin` posts to.
const ADMIN_POSTS: [&str; 4] = ["/api/admin/session", "/api/admin/kick", "/api/admin/revoke", "/api/admin/room"];

/// A session over plain HTTP on this machine, and that a page of ours asks.
async fn admin_cookie(server: &Server) -> String {
    let token = std::fs::read_to_string(server.dir.path().join("state/admin-token")).expect("made at first run");
    let body = serde_json::json!({ "token": token.trim() });
    let reply = server.plain(&admin::post("/api/admin/session", "\nOrigin: http://localhost", &body)).await;
    let cookie = reply.header("set-cookie").split(';').next().unwrap_or_default();
    format!("\nOrigin: http://localhost\nCookie: {cookie}")
}

async fn note_admin(watch: &mut Watch, server: &Server) {
    let cookie = admin_cookie(server).await;
    let host = server.post("/api/tokens", SHOP, r#"{"room":"blue","role":"host"}"#).await.json();
    let (_socket, joined) = join_with(server, host["token"].as_str().expect("text")).await;
    let kick = serde_json::json!({ "peer": joined["peer"] }).to_string();
    let token = std::fs::read_to_string(server.dir.path().join("state/admin-token")).expect("made at first run");
    let token = serde_json::json!({ "token": token.trim() }).to_string();
    let room = r#"{"kind":"call","name":"blue","action":"lock"}"#;
    let gone = r#"{"kind":"live","name":"blue","action":"close"}"#;
    for (path, good, missing) in [
        ("/api/admin/session", token.as_str(), None),
        ("/api/admin/room", room, Some(gone)),
        ("/api/admin/revoke", r#"{"subject":"a.shop.x"}"#, None),
        ("/api/admin/kick", kick.as_str(), Some(r#"{"peer":"nobody"}"#)),
    ] {
        let to = |body: &str| post(path, "", body).replacen('\n', &format!("{cookie}\n"), 1);
        for request in [
            to(good),
            to("{"),
            to(&"x".repeat(20_000)),
            to(good).replace("application/json", "text/plain"),
            to(good).replace("http://localhost", "https://evil.example"),
            to(good).replace("Host: localhost", "Host: evil.example"),
        ]
        .into_iter()
        .chain(missing.map(to))
        {
            watch.note(path, "post", &server.plain(&request).await);
        }
        let stranger = to(r#"{"token":"wrong"}"#).replace("relais-admin=", "relais-admin=x");
        watch.note(path, "post", &server.plain(&stranger).await);
    }
    for (method, path) in
        [("GET", "/api/admin/session"), ("DELETE", "/api/admin/session"), ("GET", "/api/admin/events")]
    {
        for more in ["", "\nOrigin: https://evil.example"] {
            let own = if method == "DELETE" && more.is_empty() { "\nOrigin: http://localhost" } else { more };
            watch.note(path, &method.to_lowercase(), &server.plain(&ask(method, path, own)).await);
        }
        let stranger = ask(method, path, "").replace("localhost", "evil.example");
        watch.note(path, &method.to_lowercase(), &server.plain(&stranger).await);
    }
    note_events(watch, server).await;
}

/// Answers that do not end: their head alone is held against the document.
async fn note_events(watch: &mut Watch, server: &Server) {
    let cookie = admin::log_in(server).await;
    let mut watching = Vec::new();
    for query in ["?page=x"].into_iter().chain(std::iter::repeat_n("", MAX_WATCHERS + 1)) {
        let (head, events) = admin::Events::open(server, &cookie, query).await;
        let kind = watch.document["paths"]["/api/admin/events"]["get"]["responses"][head.status.to_string()]["content"]
            .clone();
        let found = head.header("content-type").to_owned();
        assert!(kind.as_object().is_some_and(|kinds| kinds.contains_key(&found)), "{} {found}", head.status);
        watch.seen.entry(("/api/admin/events".into(), "get".into())).or_default().insert(head.status);
        watching.push(events);
    }
}

async fn note_codes(watch: &mut Watch, server: &Server) {
    let good = post("/api/qr", "", "https://localhost/");
    for request in [
        good.clone(),
        post("/api/qr", "", ""),
        post("/api/qr", "", &"x".repeat(1025)),
        good.replacen('\n', "\nOrigin: https://evil.example\n", 1),
        good.replace("Host: localhost", "Host: evil.example"),
    ] {
        watch.note("/api/qr", "post", &server.plain(&request).await);
    }
}

/// What other servers answer: plain HTTP on a public port, an operator's certificate, too many requests.
async fn note_elsewhere(watch: &mut Watch) {
    let public = Server::start_public(|_| {}).await;
    for (path, method) in [("/api/openapi.json", "get"), ("/api/turn", "options"), ("/api/peers/{id}", "options")] {
        let reply = public.plain(&ask(&method.to_uppercase(), &path.replace("{id}", "x"), "")).await;
        watch.note(path, method, &reply);
    }
    let key = rcgen::KeyPair::generate().expect("key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("signed");
    let files = tempfile::tempdir().expect("directory");
    let (chain_file, key_file) = (files.path().join("chain.pem"), files.path().join("key.pem"));
    std::fs::write(&chain_file, certificate.pem()).expect("written");
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    let own = Server::start(|config| config.certificate = Some((chain_file, key_file))).await;
    watch.note("/ca.crt", "get", &own.plain(&ask("GET", "/ca.crt", "")).await);
    let busy = keyed(|_| {}).await;
    let by_key = format!("\nAuthorization: Bearer {SHOP}");
    for (path, method, request) in [
        ("/api/ice", "get", ask("GET", "/api/ice", &by_key)),
        ("/api/ice", "options", ask("OPTIONS", "/api/ice", &by_key)),
        ("/api/turn", "get", ask("GET", "/api/turn?service=turn", &by_key)),
        ("/api/tokens", "post", post("/api/tokens", "wrong", "{}")),
        ("/api/credentials", "post", post("/api/credentials", "wrong", "{}")),
        ("/api/revoke", "post", post("/api/revoke", "wrong", "{}")),
        ("/api/peers/{id}", "get", ask("GET", "/api/peers/x", "\nAuthorization: Bearer wrong")),
        ("/api/qr", "post", post("/api/qr", "", "x")),
        (
            "/api/admin/session",
            "post",
            post("/api/admin/session", "", r#"{"token":"x"}"#).replacen('\n', "\nOrigin: http://localhost\n", 1),
        ),
    ] {
        let mut reply;
        let mut tries = 0;
        loop {
            let stream = TcpStream::connect(busy.tcp()).await.expect("connected");
            reply = exchange(stream, &request).await;
            tries += 1;
            if reply.status == 429 || tries == 3_000 {
                break;
            }
        }
        watch.note(path, method, &reply);
        assert_eq!(reply.status, 429, "{method} {path}");
    }
}
