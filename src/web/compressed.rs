//! The embedded files as gzip, each compressed once: the pages weigh a third of what they are.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Smaller files fit one packet as they are, in bytes.
const WORTH_IT: usize = 600;

/// What was compressed so far, by the path of an embedded file; so it holds as many as there are of these.
#[derive(Debug, Default)]
pub struct Compressed {
    files: Mutex<HashMap<String, (String, Bytes)>>,
}

impl Compressed {
    /// The file at `path` as gzip; `None` when it is of a kind that is compressed already, or too small to gain by it.
    /// A file that has become another (a build for development reads them from the disk) is compressed anew: `etag` tells.
    pub fn get(&self, path: &str, etag: &str, content_type: &str, content: &[u8]) -> Option<Bytes> {
        if content.len() < WORTH_IT || !is_text(content_type) {
            return None;
        }
        let lock = || self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = lock().get(path).filter(|(known, _)| known == etag) {
            return Some(bytes.clone());
        }
        // Outside of the lock: two who ask for the same file at first do the same work, and nobody waits.
        let bytes = gzip(content)?;
        lock().insert(path.to_owned(), (etag.to_owned(), bytes.clone()));
        Some(bytes)
    }
}

fn gzip(content: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 3), Compression::best());
    encoder.write_all(content).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn is_text(content_type: &str) -> bool {
    content_type.starts_with("text/") || ["json", "xml", "javascript"].iter().any(|kind| content_type.contains(kind))
}

/// The entity tag of the gzip of a file: its own, since the bytes are others (RFC 9110 section 8.8.3.3).
pub fn etag_of_gzip(etag: &str) -> String {
    format!("{}-gz\"", etag.trim_end_matches('"'))
}

/// True when the client takes gzip, and does not like the file as it is better (RFC 9110 section 12.5.3).
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    for item in lines.flat_map(|line| line.split(',')) {
        let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
        let place = match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => &mut gzip,
            "*" => &mut any,
            "identity" => &mut identity,
            _ => continue,
        };
        *place = Some(weight(parameters));
    }
    let gzip: f32 = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

/// The `q` of an item (RFC 9110 section 12.4.2); one that cannot be read is a no.
fn weight(parameters: &str) -> f32 {
    let given = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let mut weights = given.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weights.next().map_or(1.0, |(_, value)| value.trim().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use axum::http::HeaderValue;
    use flate2::read::GzDecoder;

    use super::*;

    fn accepted(lines: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(line));
        }
        accepts_gzip(&headers)
    }

    #[test]
    fn what_clients_accept() {
        for lines in [&["gzip"][..], &["gzip, deflate, br, zstd"], &["br", "x-gzip"], &["*"], &["GZIP;q=0.5"]] {
            assert!(accepted(lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[""],
            &["br"],
            &["identity"],
            &["gzip;q=0"],
            &["*;q=0"],
            &["gzip; q=0.0, *"],
            &["identity, gzip;q=0.5"],
            &["gzip;q=often"],
        ] {
            assert!(!accepted(lines), "{lines:?}");
        }
    }

    #[test]
    fn files_are_compressed_once_and_anew_when_they_change() {
        let compressed = Compressed::default();
        let (old, new) = ("old ".repeat(1000), "new ".repeat(1000));
        let get = |etag: &str, content: &str| compressed.get("a.css", etag, "text/css", content.as_bytes());
        let unpacked = |bytes: &Bytes| {
            let mut text = String::new();
            GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
            text
        };
        let first = get("\"1\"", &old).expect("compressed");
        assert!(first.len() < 100 && unpacked(&first) == old);
        assert_eq!(get("\"1\"", &old).expect("kept").as_ptr(), first.as_ptr(), "the same bytes");
        assert_eq!(unpacked(&get("\"2\"", &new).expect("anew")), new);
        assert_eq!(compressed.files.lock().expect("lock").len(), 1);
    }

    #[test]
    fn pictures_and_small_files_stay_as_they_are() {
        let compressed = Compressed::default();
        let large = "a".repeat(5000);
        assert!(compressed.get("a.png", "\"1\"", "image/png", large.as_bytes()).is_none());
        assert!(compressed.get("a.css", "\"1\"", "text/css", b"a{}").is_none());
        assert!(compressed.get("a.svg", "\"1\"", "image/svg+xml", large.as_bytes()).is_some());
        assert_eq!(etag_of_gzip("\"abc\""), "\"abc-gz\"");
    }
}
