//! One value each, from text. An error is a reason that ends with the remedy.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation;

use super::{ApiKey, Cidr, PublicIp, StaticUser};
use crate::relay::settings::LONGEST_REALM;

/// What is wrong with a value, and what to write instead.
pub type Reason = String;

/// `IP:PORT`, the IPv6 address in brackets.
pub fn address(text: &str) -> Result<SocketAddr, Reason> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.ip() {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Err(format!(
                "an IPv4 address in IPv6 clothes; write {}",
                SocketAddr::new(ip.to_canonical(), address.port())
            )),
            IpAddr::V4(_) | IpAddr::V6(_) => Ok(address),
        };
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(format!("the port is missing; write {}", SocketAddr::new(ip, 3478)));
    }
    let port = text.trim_start_matches([':', '*']);
    if !port.is_empty() && port.parse::<u16>().is_ok() {
        return Err(format!("the address is missing; write 0.0.0.0:{port} and [::]:{port} for all addresses"));
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        if host.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err(format!("an IPv6 address stands in brackets; write [{host}]:{port}"));
        }
        if !host.is_empty() && port.parse::<u16>().is_ok() {
            return Err("names are not resolved here; write a literal address such as 127.0.0.1:3478".into());
        }
    }
    Err("no address; write IP:PORT, such as 0.0.0.0:3478 or [::]:3478".into())
}

/// A literal address that a socket can be bound to as itself.
pub fn literal_ip(text: &str) -> Result<IpAddr, Reason> {
    let ip: IpAddr = text.parse().map_err(|_| "no IP address; write one such as 203.0.113.7".to_owned())?;
    let ip = ip.to_canonical();
    if ip.is_unspecified() || ip.is_multicast() {
        return Err("not the address of a machine; write one of this host's own addresses".into());
    }
    Ok(ip)
}

/// `ADDRESS/BITS`, or an address alone for itself.
pub fn cidr(text: &str) -> Result<Cidr, Reason> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let network: IpAddr =
        address.parse().map_err(|_| "no block of addresses; write one such as 10.0.0.0/8 or fd00::/8".to_owned())?;
    if let IpAddr::V6(ip) = network
        && let Some(inner) = ip.to_ipv4_mapped()
    {
        return Err(format!("an IPv4 address in IPv6 clothes; write {inner}"));
    }
    let width: u8 = if network.is_ipv4() { 32 } else { 128 };
    let prefix = match bits {
        None => width,
        Some(bits) => match bits.parse::<u8>() {
            Ok(prefix) if prefix <= width && bits.bytes().all(|byte| byte.is_ascii_digit()) => prefix,
            _ => return Err(format!("the part after the slash is a number of bits from 0 to {width}")),
        },
    };
    let masked = mask(network, prefix);
    if masked != network {
        return Err(format!("there are address bits behind the first {prefix}; write {masked}/{prefix}"));
    }
    Ok(Cidr { network, prefix })
}

fn mask(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & bits).into())
        }
        IpAddr::V6(ip) => {
            let bits = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & bits).into())
        }
    }
}

/// `PUBLIC` or `PUBLIC/BOUND`.
pub fn public_ip(text: &str) -> Result<PublicIp, Reason> {
    let (public, bound) = text.split_once('/').map_or((text, None), |(public, bound)| (public, Some(bound)));
    let public = literal_ip(public)?;
    let bound = bound.map(literal_ip).transpose()?;
    if bound.is_some_and(|bound| bound.is_ipv4() != public.is_ipv4()) {
        return Err("both addresses must be of one family; write PUBLIC/BOUND, both IPv4 or both IPv6".into());
    }
    Ok(PublicIp { public, bound })
}

/// `A-B`, both included.
pub fn port_range(text: &str) -> Result<(u16, u16), Reason> {
    let ports = text.split_once('-').and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
    match ports {
        Some((0, _)) => Err("port 0 cannot be relayed on; write a range such as 49152-65535".into()),
        Some((from, to)) if from > to => Err(format!("the range is reversed; write {to}-{from}")),
        Some(range) => Ok(range),
        None => Err("no range of ports; write one such as 49152-65535".into()),
    }
}

/// A host name without scheme, port or path; lower case.
pub fn domain(text: &str) -> Result<String, Reason> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!("that is an address; write --public-ip {text} and leave the domain out"));
    }
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(is_label) {
        return Ok(name);
    }
    Err("no host name; write it without scheme, port or path, such as call.example.org (xn-- form if not ASCII)".into())
}

/// `*`, `null`, or `scheme://host[:port]`; lower case.
pub fn origin(text: &str) -> Result<String, Reason> {
    let origin = text.to_ascii_lowercase();
    if origin == "*" || origin == "null" {
        return Ok(origin);
    }
    let refusal = "no origin; write scheme://host or scheme://host:port, such as https://app.example.org, or *";
    let (scheme, host) = origin.split_once("://").ok_or(refusal)?;
    let scheme_fits = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if let Some(bare) = host.strip_suffix('/').filter(|bare| !bare.contains('/')) {
        return Err(format!("an origin ends without a slash; write {scheme}://{bare}"));
    }
    let host_fits = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*', '"']);
    if scheme_fits && host_fits { Ok(origin) } else { Err(refusal.into()) }
}

/// RFC 8489 section 14.9, prepared as clients prepare it; quotes and controls would need escaping in every client, and a
/// challenge with a longer realm would be more than twice its request.
pub fn realm(text: &str) -> Result<String, Reason> {
    let realm = opaque("the realm", text)?;
    if realm.contains(['"', '\\']) {
        return Err("a realm has no quotes and no backslash".into());
    }
    if realm.len() > LONGEST_REALM {
        let len = realm.len();
        return Err(format!(
            "the realm has {len} bytes in UTF-8, and with more than {LONGEST_REALM} answers to strangers could be \
             abused to flood others; write a shorter one"
        ));
    }
    Ok(realm)
}

/// Names, passwords and realms as RFC 8489 compares them: by OpaqueString of RFC 8265, which composes accents and turns
/// odd spaces into plain ones. ASCII stays as it is.
fn opaque(what: &str, text: &str) -> Result<String, Reason> {
    let refusal =
        |_| format!("{what} is empty or has characters that nobody can type, such as controls; choose others");
    OpaqueString::enforce(text).map(std::borrow::Cow::into_owned).map_err(refusal)
}

/// A shared secret of the configuration.
pub fn secret(text: &str) -> Result<String, Reason> {
    if text.trim().is_empty() { Err("the secret is empty; write a long random text".into()) } else { Ok(text.into()) }
}

/// `NAME=PASSWORD`.
pub fn user(text: &str) -> Result<StaticUser, Reason> {
    let (name, password) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() || password.is_empty() {
        return Err("a user has a name and a password; write [turn.users] and name = \"password\" below it".into());
    }
    if crate::credentials::turn::parse_username(name).is_some() {
        return Err(format!("the user {name} looks like a time-limited one; choose a name that is no number"));
    }
    let (name, password) = (opaque("the name", name)?, opaque("the password", password)?);
    if name.len() > crate::credentials::turn::MAX_USERNAME {
        return Err(format!("a user name has at most {} bytes", crate::credentials::turn::MAX_USERNAME));
    }
    Ok(StaticUser { name, password })
}

/// Shortest secret of an API key and of webhooks, in bytes: an HMAC-SHA256 key is as long as the hash (RFC 7518
/// section 3.2).
const MIN_KEY: usize = 32;

/// `ID=SECRET` of a back end.
pub fn api_key(text: &str) -> Result<ApiKey, Reason> {
    let (id, secret) = text.split_once('=').unwrap_or((text, ""));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    // The administrator's credentials bear this name.
    if id == "admin" || !(1..=32).contains(&id.len()) || !id.bytes().all(is_plain) {
        return Err(format!(
            "the name {id:?} of an API key does not fit; write 1 to 32 of A-Z a-z 0-9 - _ (and not admin)"
        ));
    }
    if secret.len() < MIN_KEY || secret.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(format!(
            "the secret of the API key {id} is too short or has spaces; write at least {MIN_KEY} printable characters, such as what openssl rand -hex 32 prints"
        ));
    }
    Ok(ApiKey { id: id.into(), secret: secret.into() })
}

/// `https://host[:port]/path` without user, password and fragment.
pub fn webhook_url(text: &str) -> Result<String, Reason> {
    let refusal = "no address to tell; write one such as https://app.example.org/relais";
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(refusal)?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') || text.contains('#') {
        return Err(format!("user, password and fragment do not belong there; {refusal}"));
    }
    let parsed = text.parse::<axum::http::Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    parsed.map(|_| text.to_owned()).ok_or_else(|| refusal.into())
}

/// `whsec_` and base64, as Standard Webhooks writes it, or the characters themselves.
pub fn webhook_secret(text: &str) -> Result<Vec<u8>, Reason> {
    let bytes = match text.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| "what stands behind whsec_ is not base64".to_owned())?,
        None => text.as_bytes().to_vec(),
    };
    // Standard Webhooks generates 24 bytes and more.
    let least = if text.starts_with("whsec_") { 24 } else { MIN_KEY };
    if bytes.len() < least {
        return Err(format!(
            "the secret is too short; write at least {MIN_KEY} characters, such as what openssl rand -hex 32 prints"
        ));
    }
    Ok(bytes)
}

/// Seconds, or a number with `s`, `m`, `h` or `d`.
pub fn duration(text: &str) -> Result<Duration, Reason> {
    let refusal = || "no time; write seconds or a number with s, m, h or d, such as 90s or 24h".to_owned();
    let (number, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((place, _)) => text.split_at(place),
        None => (text, "s"),
    };
    let factor = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(refusal()),
    };
    let number: u64 = number.parse().map_err(|_| refusal())?;
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(refusal)
}

/// A duration from `low` to `high` seconds, both included.
pub fn duration_within(low: u64, high: u64) -> impl Fn(&str) -> Result<Duration, Reason> {
    move |text| {
        let time = duration(text)?;
        if (low..=high).contains(&time.as_secs()) {
            return Ok(time);
        }
        Err(format!("out of bounds; write a time from {low}s to {high}s"))
    }
}

/// A whole number from `low` to `high`, both included.
pub fn number_within(low: usize, high: usize) -> impl Fn(&str) -> Result<usize, Reason> {
    move |text| match text.parse::<usize>() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        Ok(_) => Err(format!("out of bounds; write a number from {low} to {high}")),
        Err(_) => Err(format!("no whole number; write one from {low} to {high}")),
    }
}

/// Bytes per second that a call can live with (a voice needs 10,000) and that a line can carry.
pub fn bandwidth(text: &str) -> Result<u64, Reason> {
    number_within(10_000, 100_000_000_000)(text).map(|number| number as u64)
}

/// `true` or `false`, and what people write for them.
pub fn switch(text: &str) -> Result<bool, Reason> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("neither on nor off; write true or false".into()),
    }
}

/// `someone@example.org`, roughly: the authority looks closer.
pub fn email(text: &str) -> Result<String, Reason> {
    let is_one = text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
    let is_plain = text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, ',' | ':' | '<' | '>'));
    if is_one && is_plain { Ok(text.to_owned()) } else { Err("write an address such as ada@example.org".into()) }
}

/// An `https:` URL.
pub fn https_url(text: &str) -> Result<String, Reason> {
    let is_url = text.parse::<hyper::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https"));
    if is_url { Ok(text.to_owned()) } else { Err("write a URL that begins with https://".into()) }
}

/// Letters, digits, dots and dashes.
pub fn word(text: &str) -> Result<String, Reason> {
    let is_word = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if is_word { Ok(text.to_owned()) } else { Err("write one word of letters, digits, dots and dashes".into()) }
}

/// A path; not empty.
pub fn path(text: &str) -> Result<PathBuf, Reason> {
    if text.is_empty() { Err("the path is empty; leave the key out for its default".into()) } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_what_people_write_instead() {
        assert!(address("0.0.0.0:3478").is_ok() && address("[::]:0").is_ok());
        for (text, remedy) in [
            ("3478", "0.0.0.0:3478 and [::]:3478"),
            (":3478", "0.0.0.0:3478 and [::]:3478"),
            ("*:3478", "0.0.0.0:3478 and [::]:3478"),
            ("1.2.3.4", "write 1.2.3.4:3478"),
            ("::1", "write [::1]:3478"),
            ("1:2:3:4:5:6:7:8:3478", "in brackets"),
            ("localhost:3478", "literal address"),
            ("1.2.3.4:99999", "IP:PORT"),
            ("[::ffff:1.2.3.4]:1", "write 1.2.3.4:1"),
            ("", "IP:PORT"),
        ] {
            let reason = address(text).expect_err(text);
            assert!(reason.contains(remedy), "{text}: {reason}");
        }
    }

    #[test]
    fn blocks() {
        let block = |text: &str| cidr(text).map(|block| format!("{}/{}", block.network, block.prefix));
        assert_eq!(block("10.0.0.0/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(block("0.0.0.0/0").as_deref(), Ok("0.0.0.0/0"));
        assert_eq!(block("::/0").as_deref(), Ok("::/0"));
        assert_eq!(block("10.1.2.3").as_deref(), Ok("10.1.2.3/32"));
        assert_eq!(block("fd00::1").as_deref(), Ok("fd00::1/128"));
        assert!(block("10.1.2.3/8").expect_err("bits").contains("write 10.0.0.0/8"));
        assert!(block("fd00::1/8").expect_err("bits").contains("write fd00::/8"));
        for text in ["10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "10.0.0/8", "x", "", "fd00::/129", "::ffff:1.2.3.4/128"]
        {
            assert!(block(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_durations_numbers() {
        assert_eq!(port_range("1000-2000"), Ok((1000, 2000)));
        assert_eq!(port_range("7-7"), Ok((7, 7)));
        assert!(port_range("2000-1000").expect_err("reversed").contains("write 1000-2000"));
        assert!(port_range("0-5").is_err() && port_range("1-70000").is_err() && port_range("5").is_err());
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("24h", 86400), ("2d", 172_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1", "1w", "1.5h", "99999999999999999999", "18446744073709551615d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(number_within(1, 9)("0").is_err() && number_within(1, 9)("-1").is_err());
        assert_eq!(number_within(1, 9)("9"), Ok(9));
    }

    #[test]
    fn names() {
        assert_eq!(domain("Call.Example.ORG."), Ok("call.example.org".into()));
        assert!(domain("203.0.113.1").expect_err("address").contains("--public-ip"));
        for text in ["", "https://a.b", "a.b:80", "a..b", "-a.b", "a_b", &"a".repeat(64), "é.fr"] {
            assert!(domain(text).is_err(), "{text}");
        }
        assert_eq!(origin("HTTPS://App.example.org:8443"), Ok("https://app.example.org:8443".into()));
        assert!(origin("https://a.b/").expect_err("slash").contains("write https://a.b"));
        for text in ["a.b", "https://", "https://a/b/", "https://a b", "://a", "https://*.a"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_of_back_ends_and_webhooks() {
        let long = "x".repeat(32);
        assert_eq!(api_key(&format!("shop={long}")).expect("good"), ApiKey { id: "shop".into(), secret: long.clone() });
        for id in ["", "admin", "a.b", "a b", "a~b", &"a".repeat(33)] {
            assert!(api_key(&format!("{id}={long}")).is_err(), "{id}");
        }
        let short = api_key("shop=0123456789abcdef").expect_err("short");
        assert!(short.contains("openssl rand") && !short.contains("0123"), "{short}");
        assert!(api_key(&format!("shop={long} y")).is_err());
        for text in ["https://a.b/c?d=e", "http://127.0.0.1:8080/", "http://[::1]:80"] {
            assert_eq!(webhook_url(text), Ok(text.into()));
        }
        for text in ["", "a.b", "ftp://a.b/", "https://", "https://u:p@a.b/", "https://a.b/#c", "https://a b/"] {
            assert!(webhook_url(text).is_err(), "{text}");
        }
        assert_eq!(webhook_secret(&long), Ok(long.into_bytes()));
        assert_eq!(webhook_secret("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3").expect("good").len(), 24);
        assert!(
            webhook_secret("whsec_MDEy").is_err() && webhook_secret("whsec_!").is_err() && webhook_secret("x").is_err()
        );
    }

    #[test]
    fn addresses_of_machines() {
        assert!(literal_ip("0.0.0.0").is_err() && literal_ip("224.0.0.1").is_err() && literal_ip("x").is_err());
        assert!(public_ip("203.0.113.1/10.0.0.1").is_ok() && public_ip("203.0.113.1").is_ok());
        assert!(public_ip("203.0.113.1/fd00::1").expect_err("mixed").contains("one family"));
        assert!(user("1234=x").is_err() && user("12:a=x").is_err() && user("a").is_err() && user("=x").is_err());
        assert_eq!(user("ada=x=y").expect("good").password, "x=y");
    }

    #[test]
    fn names_passwords_and_realms_are_opaque_strings() {
        // RFC 8265 section 4.2.4: accents composed, odd spaces plain, case and the rest as they are.
        let prepared = user("Zoe\u{308}=correct\u{a0}horse \u{3c0}\u{df}\u{e5}").expect("good");
        assert_eq!((&*prepared.name, &*prepared.password), ("Zo\u{eb}", "correct horse \u{3c0}\u{df}\u{e5}"));
        assert_eq!(realm("Zoe\u{308}"), Ok("Zo\u{eb}".into()));
        assert_eq!(realm("an ASCII realm, as it is").as_deref(), Ok("an ASCII realm, as it is"));
        for bad in ["a=b\u{9}c", "a\u{0}=b", "a=\u{ad}", "\u{200b}=x"] {
            assert!(user(bad).expect_err(bad).contains("choose others"), "{bad:?}");
        }
        assert!(realm(&"r".repeat(48)).is_ok());
        for (bad, word) in [("", "empty"), ("a\"b", "quotes"), ("a\\b", "backslash"), ("a\u{7}", "controls")] {
            assert!(realm(bad).expect_err(bad).contains(word), "{bad:?}");
        }
        for long in ["r".repeat(49), "\u{eb}".repeat(25)] {
            assert!(realm(&long).expect_err("too long").contains("write a shorter one"));
        }
    }
}
