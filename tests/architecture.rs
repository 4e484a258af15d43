//! The lines that the code base keeps: what the sans-IO cores may not touch, how long a file may be, where `unsafe`
//! lives, what is never committed, and which names stand at the top level.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The cores: fed time, bytes and randomness, and nothing else.
const CORES: [&str; 2] = ["src/relay", "src/signaling"];

/// Words that no core may contain, and why.
const FORBIDDEN_WORDS: &[(&str, &str)] = &[
    ("tokio", "the runtime belongs to the shells"),
    ("async", "cores are called, they do not wait"),
    ("await", "cores are called, they do not wait"),
    ("UdpSocket", "sockets belong to net/"),
    ("TcpStream", "sockets belong to net/"),
    ("TcpListener", "sockets belong to net/"),
    ("UnixStream", "sockets belong to net/"),
    ("UnixDatagram", "sockets belong to net/"),
    ("socket2", "sockets belong to net/"),
    ("libc", "system calls belong to net/"),
    ("Mutex", "each piece of state has one owner"),
    ("RwLock", "each piece of state has one owner"),
    ("Condvar", "each piece of state has one owner"),
    ("OnceLock", "each piece of state has one owner"),
    ("LazyLock", "each piece of state has one owner"),
    ("Instant", "cores are told the time: crate::time"),
    ("SystemTime", "cores are told the time: crate::time"),
    ("rand", "cores are given their seed"),
    ("getrandom", "cores are given their seed"),
    ("RandomState", "cores are given their seed"),
    ("thread_rng", "cores are given their seed"),
    ("println", "cores have no output but poll_output"),
    ("eprintln", "cores have no output but poll_output"),
    ("dbg", "cores have no output but poll_output"),
];

/// Modules of `std` that no core may use.
const FORBIDDEN_STD: &[&str] = &["fs", "thread", "env", "process"];

/// Modules of this crate that no core may use: the shells depend on the cores, never the other way round.
const SHELLS: &[&str] = &["app", "cli", "clock", "logging", "net", "state", "systemd", "web"];

/// Beyond this a file has more than one subject.
const MAX_FILE_LINES: usize = 600;
/// The same for what is not a test; the aim is 400.
const MAX_PRODUCTION_LINES: usize = 450;

/// The only module with `unsafe` code: the system calls that no crate wraps. One module of several files, since one file
/// of them all would pass the bound on a file's length.
const UNSAFE_MODULE: [&str; 2] = ["src/net/sys.rs", "src/net/sys/"];

const TOP_LEVEL: &[&str] = &[
    ".ci/run",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "PROTOCOL.md",
    "README.md",
    "SECURITY.md",
    "certs/.gitignore",
    "certs/README.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "src/lib.rs",
    "src/main.rs",
    "static",
    "systemd/relais.service",
    "tests/run",
];

#[test]
fn cores_touch_no_io_clock_lock_or_randomness() {
    let mut found = Vec::new();
    for file in rust_files("src").iter().filter(|file| CORES.iter().any(|core| file.starts_with(core))) {
        let source = Source::read(file);
        if source.is_test {
            continue;
        }
        for (line, reason) in forbidden_uses(&source.production) {
            found.push(format!("{}:{line}: {reason}", file.display()));
        }
    }
    assert!(found.is_empty(), "the sans-IO line is crossed:\n{}", found.join("\n"));
}

#[test]
fn files_keep_to_one_subject() {
    let mut found = Vec::new();
    for file in rust_files("src") {
        let source = Source::read(&file);
        let total = source.text.lines().count();
        let production = if source.is_test { 0 } else { code_lines(&source.production) };
        if total > MAX_FILE_LINES || production > MAX_PRODUCTION_LINES {
            found.push(format!("{}: {total} lines, {production} of them not tests", file.display()));
        }
    }
    let limits = format!("{MAX_FILE_LINES} lines, {MAX_PRODUCTION_LINES} without tests");
    assert!(found.is_empty(), "more than {limits}:\n{}", found.join("\n"));
}

#[test]
fn unsafe_code_lives_in_one_module() {
    let offenders: Vec<_> = rust_files("src")
        .into_iter()
        .filter(|file| !UNSAFE_MODULE.iter().any(|place| file.starts_with(place)))
        .filter(|file| words(&without_comments_and_strings(&read(file))).any(|(_, word)| word == "unsafe"))
        .collect();
    assert!(offenders.is_empty(), "`unsafe` outside {UNSAFE_MODULE:?}: {offenders:?}");
}

#[test]
fn no_key_material_is_tracked() {
    let tracked = tracked_files();
    let in_certs: Vec<_> = tracked
        .iter()
        .filter(|file| file.starts_with("certs/"))
        .filter(|file| !["certs/README.md", "certs/.gitignore"].contains(&file.as_str()))
        .collect();
    assert!(in_certs.is_empty(), "certs/ is a state directory, its files are never committed: {in_certs:?}");
    let keys: Vec<_> = tracked
        .iter()
        .filter(|file| {
            fs::read(root().join(file)).is_ok_and(|bytes| holds_private_key(&String::from_utf8_lossy(&bytes)))
        })
        .collect();
    assert!(keys.is_empty(), "private keys are committed: {keys:?}");
}

#[test]
fn top_level_has_the_promised_names() {
    let missing: Vec<_> = TOP_LEVEL.iter().filter(|name| !root().join(name).exists()).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

#[test]
fn the_checks_themselves_find_what_they_look_for() {
    let lines = |code: &str| -> Vec<usize> {
        let source = Source::parse(code.to_owned(), false);
        forbidden_uses(&source.production).into_iter().map(|(line, _)| line).collect()
    };
    assert_eq!(lines("use std::{\n  fmt,\n  fs,\n};\n"), [3]);
    assert_eq!(lines("fn f() {\n  std::thread::yield_now();\n}\n"), [2]);
    assert_eq!(lines("use crate::net::Shard;\n"), [1]);
    assert_eq!(lines("use crate::{relay, clock};\n"), [1]);
    assert_eq!(lines("let now = time::Instant::now();\n"), [1]);
    assert_eq!(
        lines("// tokio and Mutex are named here\nlet s = \"async\"; let c = '\"'; let t = r#\"a \"await\" b\"#;\n"),
        []
    );
    assert_eq!(lines("use std::net::{IpAddr, SocketAddr};\nstruct Operand { fs: u8 }\n"), []);
    assert_eq!(lines("#[cfg(test)]\nmod tests {\n  use std::fs;\n  fn g() { if true { } }\n}\nuse std::fs;\n"), [6]);
    assert_eq!(lines("fn f<'a>(x: &'a str) -> char { 'x' }\nuse tokio::net;\n"), [2]);
    // The marker is put together here so that this file does not hold one.
    let header = format!("-----BEGIN {} KEY-----", "PRIVATE");
    assert!(holds_private_key(&format!("{header}\n{}\n", "Ab9+/".repeat(12))));
    assert!(!holds_private_key(&format!("text.contains(\"{header}\")")));
}

/// One file, and what is left of it without comments, literals and test modules; line numbers are kept.
struct Source {
    text: String,
    production: String,
    /// The whole file is a test module of its parent.
    is_test: bool,
}

impl Source {
    fn read(file: &Path) -> Self {
        Self::parse(read(file), is_test_file(file))
    }

    fn parse(text: String, is_test: bool) -> Self {
        let production = without_test_modules(&without_comments_and_strings(&text));
        Self { text, production, is_test }
    }
}

/// Uses of what a core may not touch, as line number and reason.
fn forbidden_uses(code: &str) -> Vec<(usize, String)> {
    let tokens: Vec<(usize, &str)> = tokens(code).collect();
    let mut found = Vec::new();
    // The path that a `use` group hangs from: inside `use std::{a, b}` it is "std".
    let mut group: Vec<&str> = Vec::new();
    for (at, &(line, token)) in tokens.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map_or("", |index| tokens[index].1);
        match token {
            "{" => group.push(if before(1) == "::" { before(2) } else { "" }),
            "}" => drop(group.pop()),
            _ => {}
        }
        let parent = if before(1) == "::" { before(2) } else { group.last().copied().unwrap_or("") };
        if let Some((word, why)) = FORBIDDEN_WORDS.iter().find(|(word, _)| *word == token) {
            found.push((line, format!("`{word}`: {why}")));
        } else if parent == "std" && FORBIDDEN_STD.contains(&token) {
            found.push((line, format!("`std::{token}` belongs to the shells")));
        } else if parent == "crate" && SHELLS.contains(&token) {
            found.push((line, format!("`crate::{token}` is a shell; shells use cores, not the other way round")));
        }
    }
    found
}

/// Words, `::` and braces, with their line numbers.
fn tokens(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        let mut rest = line;
        std::iter::from_fn(move || {
            rest = rest.trim_start();
            let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => rest.chars().next()?.len_utf8(),
                length => length,
            };
            let (token, after) = rest.split_at(length);
            rest = after;
            Some((index + 1, token))
        })
    })
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    tokens(code).filter(|(_, token)| token.starts_with(is_word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks comments, string and character literals; line breaks stay.
fn without_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let previous_is_word = out.ends_with(is_word);
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => 1 + closing_quote(&rest[1..]),
            'r' | 'b' if !previous_is_word => prefixed_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.push(' ');
            out.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
            rest = &rest[skipped..];
        }
    }
    out
}

/// Length of the (possibly nested) block comment that `text` starts with.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Offset just behind the quote that ends the string whose inside `text` starts with.
fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the raw or byte string that `text` starts with, 0 if it starts with none.
fn prefixed_string(text: &str) -> usize {
    let prefix = text.find(|c| !matches!(c, 'r' | 'b')).unwrap_or(0);
    let hashes = text[prefix..].chars().take_while(|&c| c == '#').count();
    let open = prefix + hashes;
    if !text[open..].starts_with('"') {
        return 0;
    }
    if !text[..prefix].contains('r') {
        return if hashes == 0 { open + 1 + closing_quote(&text[open + 1..]) } else { 0 };
    }
    let end = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&end).map_or(text.len(), |at| open + 1 + at + end.len())
}

/// Length of the character literal that `text` starts with, 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text[1..].char_indices();
    match chars.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |at| at + 4),
        Some((_, c)) => match chars.next() {
            Some((_, '\'')) => 2 + c.len_utf8(),
            _ => 0,
        },
        None => 0,
    }
}

/// Blanks the inline modules marked `#[cfg(test)]`; expects code without comments and strings.
fn without_test_modules(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (before, marked) = rest.split_at(at);
        out.push_str(before);
        let end = item_end(marked);
        out.extend(marked[..end].chars().filter(|&c| c == '\n'));
        rest = &marked[end..];
    }
    out.push_str(rest);
    out
}

/// Length of the item that `text` starts with: to its semicolon or its closing brace.
fn item_end(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// Lines up to the last one with code; comments between count, since people read them.
fn code_lines(production: &str) -> usize {
    let lines: Vec<&str> = production.lines().collect();
    lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1)
}

/// Whether `file` is, or lies below, a module that its parent declares as `#[cfg(test)] mod name;`.
fn is_test_file(file: &Path) -> bool {
    let mut module = file.to_owned();
    while let (Some(stem), Some(parent)) = (module.file_stem().and_then(|stem| stem.to_str()), module.parent()) {
        if module == Path::new("src") {
            return false;
        }
        let declaration = format!("#[cfg(test)] mod {stem};");
        let files = [parent.join("mod.rs"), parent.join("lib.rs"), parent.with_extension("rs")];
        for declaring in files.iter().filter(|declaring| root().join(declaring).is_file()) {
            let code = without_comments_and_strings(&read(declaring));
            if code.split_whitespace().collect::<Vec<_>>().join(" ").contains(&declaration) {
                return true;
            }
        }
        module = parent.to_owned();
    }
    false
}

/// Whether `text` holds a PEM private key with its body, not only the marker.
fn holds_private_key(text: &str) -> bool {
    text.split("-----BEGIN ").skip(1).any(|block| {
        let Some((label, body)) = block.split_once("-----") else { return false };
        let body: String = body.chars().take(120).filter(|c| !c.is_whitespace()).collect();
        let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        label.ends_with("PRIVATE KEY") && body.chars().take_while(|&c| base64(c)).count() >= 40
    })
}

/// What git tracks. A source archive without `.git` has nothing that could be committed.
fn tracked_files() -> BTreeSet<String> {
    if !root().join(".git").exists() {
        return BTreeSet::new();
    }
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut waiting = vec![PathBuf::from(directory)];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("a source directory") {
            let entry = entry.expect("a directory entry");
            let path = directory.join(entry.file_name());
            if entry.file_type().expect("a file type").is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "no Rust files in {}", root().display());
    files.sort();
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
