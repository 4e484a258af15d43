//! What back ends may do with their keys, and how wrong requests are answered.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use relais::clock;
use relais::config::Access;
use relais::credentials::token::{Claims, Role};
use relais::credentials::turn;
use serde_json::{Value, json};

use crate::server::{BLOG, SHOP, Server, api_keys, post};

async fn server() -> Server {
    Server::start(|config| {
        config.api_keys = api_keys();
        config.access = Some(Access::Invite);
    })
    .await
}

/// `GET path` with a bearer.
fn get(path: &str, bearer: &str) -> String {
    format!("GET {path} HTTP/1.1\nHost: localhost\nAuthorization: Bearer {bearer}")
}

/// A token as a back end signs it by itself.
fn signed(algorithm: Algorithm, kid: &str, secret: &str, claims: &impl serde::Serialize) -> String {
    let mut header = Header::new(algorithm);
    header.kid = Some(kid.into());
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("signs")
}

#[tokio::test]
async fn a_back_end_mints_invites_that_open_their_room() {
    let server = server().await;
    let wish = r#"{"room":"blue","role":"host","name":"Ada","ttl":600}"#;
    let reply = server.post("/api/tokens", SHOP, wish).await;
    assert_eq!((reply.status, reply.header("cache-control")), (201, "no-store"), "{}", reply.body);
    let minted = reply.json();
    let now = clock::now().unix;
    assert_eq!((&minted["room"], &minted["role"], &minted["name"]), (&json!("blue"), &json!("host"), &json!("Ada")));
    assert!((now + 590..=now + 600).contains(&minted["expiresAt"].as_u64().expect("number")));
    let token = minted["token"].as_str().expect("text");
    let verified = server.app.web.verify(token).expect("good");
    assert_eq!(
        (verified.claims.room.as_str(), verified.claims.role, verified.key.as_deref()),
        ("blue", Role::Host, Some("shop"))
    );
    let ice = server.plain(&get("/api/ice", token)).await;
    let username = ice.json()["iceServers"][1]["username"].as_str().expect("text").to_owned();
    let account = format!(":t.shop~{}.", minted["jti"].as_str().expect("text"));
    assert!(username.contains(&account), "{username}: counted by the token, under the key's name");
    // What is left out has its default, and the administrator mints with the server's own key.
    let admin = std::fs::read_to_string(server.dir.path().join("state/admin-token")).expect("made at first run");
    let minted = server.post("/api/tokens", admin.trim(), r#"{"room":"*"}"#).await.json();
    let verified = server.app.web.verify(minted["token"].as_str().expect("text")).expect("good");
    assert_eq!((verified.claims.role, verified.key), (Role::Member, None));
    assert_eq!(verified.claims.exp - verified.claims.iat, 24 * 3600);
}

#[tokio::test]
async fn tokens_that_a_back_end_signs_by_itself_are_taken() {
    let server = server().await;
    let now = clock::now().unix;
    let claims = Claims { jti: "order 7/é".into(), ..Claims::new("blue", Role::Member, None, now, 600) };
    let good = signed(Algorithm::HS256, "shop", SHOP, &claims);
    let ice = server.plain(&get("/api/ice", &good)).await;
    assert_eq!(ice.status, 200, "{}", ice.body);
    let mut extra = serde_json::to_value(&claims).expect("JSON");
    extra["admin"] = json!(true);
    let unsigned = format!("{}..", good.split('.').take(1).collect::<String>());
    for (what, token, code) in [
        ("another key", signed(Algorithm::HS256, "blog", SHOP, &claims), "token-invalid"),
        ("no such key", signed(Algorithm::HS256, "nobody", SHOP, &claims), "token-invalid"),
        ("HS384", signed(Algorithm::HS384, "shop", SHOP, &claims), "token-invalid"),
        ("HS512", signed(Algorithm::HS512, "shop", SHOP, &claims), "token-invalid"),
        ("an unknown claim", signed(Algorithm::HS256, "shop", SHOP, &extra), "token-invalid"),
        ("no signature", unsigned, "token-invalid"),
        (
            "a year",
            signed(Algorithm::HS256, "shop", SHOP, &Claims { exp: now + 31_536_000, ..claims.clone() }),
            "token-invalid",
        ),
        (
            "expired",
            signed(Algorithm::HS256, "shop", SHOP, &Claims { iat: now - 60, exp: now - 1, ..claims.clone() }),
            "token-expired",
        ),
    ] {
        for path in ["/api/ice", "/api/turn?service=turn"] {
            let reply = server.plain(&get(path, &token)).await;
            assert_eq!((reply.status, reply.code().as_str()), (401, code), "{what} at {path}");
            assert_eq!(reply.header("www-authenticate"), "Bearer");
        }
    }
}

#[tokio::test]
async fn a_back_end_mints_credentials_for_its_users() {
    let server = server().await;
    let reply = server.post("/api/credentials", SHOP, r#"{"name":"ada","ttl":600}"#).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let minted = reply.json();
    let username = minted["username"].as_str().expect("text");
    let (expires, subject) = turn::parse_username(username).expect("form");
    assert_eq!((subject, minted["subject"].as_str()), ("a.shop.ada", Some("a.shop.ada")));
    assert_eq!((minted["ttl"].as_u64(), minted["expiresAt"].as_u64()), (Some(600), Some(expires)));
    assert_eq!(minted["password"], turn::password(&server.app.web.live.get().turn_secrets[0], username));
    assert_eq!(minted["uris"], minted["iceServers"][1]["urls"]);
    // The REST draft's form, by the same key and by a token.
    let rest = server.plain(&get("/api/turn?service=turn&username=bob", SHOP)).await.json();
    assert!(rest["username"].as_str().expect("text").ends_with(":a.shop.bob"), "{rest}");
    assert_eq!(
        rest["password"],
        turn::password(&server.app.web.live.get().turn_secrets[0], rest["username"].as_str().expect("text"))
    );
    assert_eq!(rest["uris"], minted["uris"]);
    let token = server.token("abc", clock::now().unix + 60);
    let rest = server.plain(&get("/api/turn?service=turn&username=bob", &token)).await.json();
    assert!(rest["username"].as_str().expect("text").contains(":t.abc."), "a token names nobody else: {rest}");
    assert_eq!(rest["ttl"], 24 * 3600);
}

#[tokio::test]
async fn the_configuration_comes_as_link_headers_but_not_to_preflights() {
    let server = Server::start_public(|config| config.origins = vec!["https://pages.example".into()]).await;
    let (udp, tcp) = (server.app.web.bound.udp[0].port(), server.tcp().port());
    let token = server.token("abc", clock::now().unix + 60);
    let ask = |lines: &str| format!("OPTIONS /api/ice HTTP/1.1\nHost: localhost\n{lines}");
    let reply = server.tls(&ask(&format!("Authorization: Bearer {token}"))).await;
    assert_eq!((reply.status, reply.header("cache-control")), (204, "no-store"));
    let links = reply.all("link");
    assert_eq!(links[0], format!("<stun:localhost:{udp}>; rel=\"ice-server\""));
    assert_eq!(links.len(), 3);
    for (link, url) in links[1..]
        .iter()
        .zip([format!("turn:localhost:{udp}?transport=udp"), format!("turn:localhost:{tcp}?transport=tcp")])
    {
        let parts: Vec<&str> = link.split("; ").collect();
        let [target, rel, username, credential, kind] = parts[..] else { panic!("{link}") };
        assert_eq!((target, rel, kind), (&*format!("<{url}>"), "rel=\"ice-server\"", "credential-type=\"password\""));
        let inside = |part: &str, name: &str| {
            let quoted = part.strip_prefix(name).and_then(|rest| rest.strip_prefix("=\"")).expect(name);
            quoted.strip_suffix('"').expect("quoted").to_owned()
        };
        let (username, credential) = (inside(username, "username"), inside(credential, "credential"));
        assert_eq!(credential, turn::password(&server.app.web.live.get().turn_secrets[0], &username));
    }
    // A browser asks first, without a bearer, and then with it.
    let origin = "Origin: https://pages.example";
    let preflight =
        format!("{origin}\nAccess-Control-Request-Method: OPTIONS\nAccess-Control-Request-Headers: authorization");
    let reply = server.tls(&ask(&preflight)).await;
    assert_eq!((reply.status, reply.all("link").len()), (204, 0));
    assert_eq!(reply.header("access-control-allow-origin"), "https://pages.example");
    assert!(reply.header("access-control-allow-methods").contains("OPTIONS"));
    let reply = server.tls(&ask(&format!("{origin}\nAuthorization: Bearer {token}"))).await;
    assert_eq!((reply.status, reply.all("link").len()), (204, 3));
    assert!(reply.header("access-control-expose-headers").contains("link"));
    let reply = server.tls(&ask(origin)).await;
    assert_eq!((reply.status, reply.code().as_str()), (401, "token-missing"));
}

#[tokio::test]
async fn wrong_requests_get_a_code() {
    let server = server().await;
    let paths = ["/api/tokens", "/api/credentials", "/api/revoke"];
    let long = "x".repeat(17_000);
    let bodies: [(&str, String, u16, &str); 7] = [
        ("nothing", String::new(), 400, "bad-json"),
        ("half", "{".into(), 400, "bad-json"),
        ("empty", "{}".into(), 400, "bad-request"),
        ("a list", "[]".into(), 400, "bad-request"),
        ("an unknown field", r#"{"room":"blue","name":"ada","jti":"a","admin":true}"#.into(), 400, "bad-request"),
        ("wrong types", r#"{"room":7,"name":7,"jti":7}"#.into(), 400, "bad-request"),
        ("too much", format!(r#"{{"room":"{long}"}}"#), 413, "too-large"),
    ];
    for path in paths {
        for (what, body, status, code) in &bodies {
            let reply = server.post(path, SHOP, body).await;
            let code = if path == "/api/revoke" && *status == 400 { reply.code() } else { (*code).to_owned() };
            assert_eq!((reply.status, reply.code()), (*status, code), "{what} at {path}: {}", reply.body);
            assert_eq!(reply.header("content-type"), "application/json");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            let request = post(path, SHOP, "{}").replace("application/json", kind);
            let reply = server.plain(&request).await;
            assert_eq!((reply.status, reply.code().as_str()), (415, "unsupported-media-type"), "{kind}");
        }
        let with_charset = post(path, SHOP, "{").replace("application/json", "Application/JSON; charset=utf-8");
        assert_eq!(server.plain(&with_charset).await.status, 400);
        let missing = post(path, SHOP, "{}").replace("Authorization: Bearer", "X:");
        let reply = server.plain(&missing).await;
        assert_eq!(
            (reply.status, reply.code().as_str(), reply.header("www-authenticate")),
            (401, "key-missing", "Bearer")
        );
        let reply = server.plain(&post(path, SHOP, "{}").replacen('\n', "\nOrigin: https://evil.example\n", 1)).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "origin-refused"));
        let reply = server.plain(&format!("GET {path} HTTP/1.1\nHost: localhost")).await;
        assert_eq!((reply.status, reply.code().as_str(), reply.header("allow")), (405, "method-not-allowed", "POST"));
    }
    // A token is no key, however good.
    let token = server.token("abc", clock::now().unix + 60);
    for wrong in [token.as_str(), "shop", &SHOP[1..]] {
        let reply = server.post("/api/tokens", wrong, r#"{"room":"blue"}"#).await;
        assert_eq!((reply.status, reply.code().as_str()), (401, "key-invalid"));
    }
    for (path, body) in [
        ("/api/tokens", r#"{"room":"a b"}"#),
        ("/api/tokens", r#"{"room":"a","role":"admin"}"#),
        ("/api/tokens", r#"{"room":"a","name":"\u0007"}"#),
        ("/api/tokens", r#"{"room":"a","ttl":59}"#),
        ("/api/tokens", r#"{"room":"a","ttl":2592001}"#),
        ("/api/tokens", r#"{"room":"a","ttl":-1}"#),
        ("/api/credentials", r#"{"name":"a b"}"#),
        ("/api/credentials", r#"{"name":"a","ttl":59}"#),
        ("/api/revoke", r#"{"jti":"a","subject":"a.shop.a"}"#),
        ("/api/revoke", r#"{"subject":"","until":1}"#),
        ("/api/revoke", r#"{"token":"a.b.c"}"#),
    ] {
        let reply = server.post(path, SHOP, body).await;
        assert_eq!(reply.status, 400, "{path} {body}: {}", reply.body);
    }
    for query in ["", "?service=stun", "?service="] {
        let reply = server.plain(&get(&format!("/api/turn{query}"), SHOP)).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "bad-request"), "{query}");
    }
    let stranger = post("/api/credentials", SHOP, r#"{"name":"ada"}"#).replace("Host: localhost", "Host: evil.example");
    assert_eq!(server.plain(&stranger).await.status, 421);
}

#[tokio::test]
async fn keys_have_a_rate_of_their_own() {
    let server = server().await;
    let mint = |key: &'static str| server.post("/api/credentials", key, r#"{"name":"ada"}"#);
    let mut refused: Option<Value> = None;
    for _ in 0..2_000 {
        let reply = mint(SHOP).await;
        if reply.status == 429 {
            assert_eq!(reply.header("retry-after"), "1");
            refused = Some(reply.json());
            break;
        }
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
    assert_eq!(refused.expect("limited at last")["code"], "too-many-requests");
    assert_eq!(mint(BLOG).await.status, 201, "another key has its own");
}

#[tokio::test]
async fn no_secret_is_logged_or_shown() {
    let server = server().await;
    let reply = server.post("/api/tokens", &SHOP[..20], r#"{"room":"blue"}"#).await;
    assert!(!reply.body.contains(&SHOP[..20]), "{}", reply.body);
    let text = relais::config::show::to_toml(&server.app.web.config());
    assert!(text.contains("shop") && !text.contains(SHOP), "{text}");
}
