//! The pages: embedded in the binary, overlaid by the files of `--static-dir`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

use super::access::hex;
use super::compressed::Compressed;

/// The files of `static/`.
#[derive(RustEmbed)]
#[folder = "static/"]
#[exclude = ".*"]
#[exclude = "*/.*"]
#[allow_missing = true]
struct Embedded;

/// A file to serve.
#[derive(Clone, Debug)]
pub struct Asset {
    pub content: Bytes,
    /// The same as gzip, where that is smaller. The operator's own files are served as they lie there.
    pub gzip: Option<Bytes>,
    pub content_type: String,
    /// A strong entity tag with its quotes.
    pub etag: String,
    /// It is the operator's own, from `--static-dir`.
    pub is_overlay: bool,
}

impl Asset {
    /// A file of the operator's that does not lie in the static directory.
    pub fn of_operator(content: Vec<u8>, content_type: &str) -> Self {
        let etag = etag(&Sha256::digest(&content));
        Self { content: content.into(), gzip: None, content_type: content_type.to_owned(), etag, is_overlay: true }
    }
}

/// Where pages come from.
#[derive(Clone, Debug, Default)]
pub struct Assets {
    /// Canonical, so that links out of it show.
    overlay: Option<PathBuf>,
    compressed: Arc<Compressed>,
}

impl Assets {
    /// `overlay` is looked into first.
    pub fn new(overlay: Option<&Path>) -> std::io::Result<Self> {
        Ok(Self { overlay: overlay.map(Path::canonicalize).transpose()?, compressed: Arc::default() })
    }

    /// The file at `path` (decoded, without the leading slash). Blocking: the overlay is read from disk.
    pub fn get(&self, path: &str) -> Option<Asset> {
        if !is_plain(path) {
            return None;
        }
        let content_type = content_type(path);
        if let Some(content) = self.overlay.as_deref().and_then(|dir| read_inside(dir, path)) {
            return Some(Asset::of_operator(content, &content_type));
        }
        let file = Embedded::get(path)?;
        let etag = etag(&file.metadata.sha256_hash());
        let gzip = self.compressed.get(path, &etag, &content_type, &file.data);
        let content = match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        };
        Some(Asset { content, gzip, content_type, etag, is_overlay: false })
    }
}

/// One file of `dir` by its plain name; links out of the directory are not followed.
pub fn read_inside(dir: &Path, path: &str) -> Option<Vec<u8>> {
    let dir = dir.canonicalize().ok()?;
    let file = dir.join(path).canonicalize().ok()?;
    let inside = file.strip_prefix(&dir).ok()?;
    let is_hidden = inside.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
    if is_hidden || !file.is_file() {
        return None;
    }
    std::fs::read(file).ok()
}

/// Names joined by slashes: no empty part, no dotfile, no way up, nothing that a file system reads in its own way.
fn is_plain(path: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0', ':']);
    path.split('/').all(is_part)
}

fn content_type(path: &str) -> String {
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    let is_text =
        guess.type_() == "text" || matches!(guess.subtype().as_str(), "javascript" | "json" | "manifest+json");
    if is_text { format!("{guess}; charset=utf-8") } else { guess.to_string() }
}

fn etag(hash: &[u8]) -> String {
    format!("\"{}\"", hex(&hash[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_directory_is_served() {
        let root = tempfile::tempdir().expect("directory");
        let dir = root.path().join("pages");
        std::fs::create_dir_all(dir.join("css")).expect("created");
        std::fs::create_dir_all(dir.join(".git")).expect("created");
        std::fs::write(root.path().join("secret"), "s").expect("written");
        std::fs::write(dir.join("css/a.css"), "a").expect("written");
        std::fs::write(dir.join(".env"), "e").expect("written");
        std::fs::write(dir.join(".git/config"), "c").expect("written");
        std::os::unix::fs::symlink(root.path().join("secret"), dir.join("out")).expect("linked");
        std::os::unix::fs::symlink(dir.join(".env"), dir.join("hidden")).expect("linked");
        std::os::unix::fs::symlink(dir.join("css/a.css"), dir.join("within.css")).expect("linked");
        let assets = Assets::new(Some(&dir)).expect("assets");
        for path in [
            "../secret",
            "css/../../secret",
            "/etc/passwd",
            "out",
            ".env",
            ".git/config",
            "hidden",
            "css",
            "",
            "css//a.css",
            "a\\b",
        ] {
            assert!(assets.get(path).is_none(), "{path}");
        }
        assert_eq!(assets.get("css/a.css").expect("served").content_type, "text/css; charset=utf-8");
        assert_eq!(*assets.get("within.css").expect("served").content, *b"a");
    }

    #[test]
    fn types_that_browsers_insist_on() {
        assert_eq!(content_type("a.js"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("a.html"), "text/html; charset=utf-8");
        assert_eq!(content_type("a.svg"), "image/svg+xml");
        assert_eq!(content_type("a"), "application/octet-stream");
    }
}
