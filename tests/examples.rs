//! Every example that is shipped is one that the program takes: `relais config check` on the files, on the blocks and
//! command lines of the documents, and on the defaults of the container.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Place, Server, finish};

/// Stands for what a reader puts in; the text beside it says what.
const PLACEHOLDER: char = '…';

#[test]
fn configuration_files() {
    let found = walk(root(), &|path| {
        path.extension().is_some_and(|end| end == "toml") && path.file_name().is_some_and(|name| name == "relais.toml")
    });
    assert_eq!(found, [root().join("systemd/relais.toml")]);
    let place = Place::new();
    for file in found {
        place.run(&["config", "check", "--config", text(&file)]).success();
    }
}

#[test]
fn toml_blocks_of_the_documents() {
    let place = Place::new();
    let mut checked = 0;
    for document in documents() {
        for block in blocks(&read(&document), "toml") {
            let name = format!("{}.toml", document.display().to_string().replace('/', "-"));
            // Where files are named, the French walk-through has said how to make them.
            if block.contains("/etc/relais/serveur") {
                certificate_of_the_walk_through(&place);
            }
            let settled = block.replace("/etc/relais/", &format!("{}/", text(place.path())));
            if settled.contains(PLACEHOLDER) {
                let file = place.write(&name, &settled);
                place.run(&["config", "check", "--config", text(&file)]).failure(2, &["openssl rand -hex 32"]);
            }
            let file = place.write(&name, &settled.replace(PLACEHOLDER, "0123456789abcdef0123456789abcdef"));
            let output = place.run(&["config", "check", "--config", text(&file)]);
            assert_eq!(output.code, Some(0), "{}: {block}\n{output:?}", document.display());
            checked += 1;
        }
    }
    assert!(checked >= 2, "{checked} blocks");
}

#[test]
fn command_lines_of_the_documents_that_serve() {
    let place = Place::new();
    let mut checked = Vec::new();
    for document in documents() {
        let document = read(&document);
        let quoted = document.split('`').skip(1).step_by(2).flat_map(|quoted| quoted.strip_prefix("relais --"));
        for rest in quoted {
            let line = format!("config check --{rest}");
            place.run(&line.split_whitespace().collect::<Vec<_>>()).success();
            checked.push(line);
        }
    }
    assert!(checked.len() >= 2, "{checked:?}");
    // What the scrape configuration beside it asks is what that command line opens.
    assert!(read(Path::new("systemd/monitoring/README.md")).contains("targets: [\"127.0.0.1:9090\"]"));
    assert!(checked.iter().any(|line| line.ends_with("--metrics 127.0.0.1:9090")), "{checked:?}");
}

/// The French walk-through makes an authority and a certificate with openssl and starts with them.
#[test]
fn certificate_made_by_the_walk_through() {
    let place = Place::new();
    let said = certificate_of_the_walk_through(&place);
    for words in ["serveur.pem: OK", "domain = \"appel.maison.lan\"", "key = \"serveur.key\""] {
        assert!(said.contains(words), "{words:?} is missing in:\n{said}");
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-in", "serveur.pem", "-noout", "-ext", "subjectAltName"]).current_dir(place.path());
    let names = openssl.output().expect("openssl runs").stdout;
    assert!(String::from_utf8_lossy(&names).contains("IP Address:192.168.1.23"), "{names:?}");
}

/// The image starts with the file and the variables that its `Containerfile` names, and announces the ports of that file.
#[test]
fn container_defaults() {
    let containerfile = read(Path::new("Containerfile"));
    let copied = "systemd/relais.toml /etc/relais/relais.toml";
    assert!(containerfile.contains(copied), "the image's configuration is another file");
    let place = Place::new();
    let file = root().join("systemd/relais.toml");
    let arguments = ["config", "check", "--config", text(&file)];
    let words: Vec<&str> = containerfile.split_whitespace().collect();
    let variables: Vec<(&str, &str)> = words
        .windows(2)
        .filter(|pair| pair[0] == "-e")
        .map(|pair| pair[1].split_once('=').expect("NAME=VALUE"))
        .collect();
    assert_eq!(variables.len(), 2, "{variables:?}");
    let output = finish(place.command(&arguments).env_remove("RELAIS_STATE_DIR").envs(variables), &arguments);
    let effective = output.success();
    assert!(effective.contains("domain = \"call.example.org\"") && effective.contains("acme = true"), "{effective}");

    let exposed = containerfile.lines().find_map(|line| line.strip_prefix("EXPOSE ")).expect("EXPOSE");
    for port in exposed.split(' ') {
        let (number, kind) = port.split_once('/').expect("PORT/KIND");
        let key = if number.contains('-') { "relay_ports" } else { kind };
        let prefix = format!("{key} = ");
        let line = effective.lines().find(|line| line.starts_with(&prefix)).expect("the key");
        assert!(line.contains(&format!(":{number}\"")) || line.contains(&format!("\"{number}\"")), "{port}: {line}");
    }
    let volume = containerfile.lines().find_map(|line| line.strip_prefix("VOLUME ")).expect("VOLUME");
    assert!(effective.contains(&format!("state_dir = \"{volume}\"")), "{volume}: {effective}");
}

/// What `relais check` prints in README.md has the lines that it prints today.
#[test]
fn sample_output_of_check() {
    let readme = read(Path::new("README.md"));
    let sample = blocks(&readme, "").into_iter().find(|block| block.contains("turn UDP")).expect("the sample");
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").to_string();
    let server = Server::start_in(Place::new(), &["--udp", &address, "--tcp", &address]);
    let output = server.place.run(&["check", &address]);
    let said = output.success();
    assert_eq!(kinds(&sample), kinds(said), "left: README.md, right:\n{said}");
    assert_eq!(sample.lines().last(), said.lines().last());
}

/// Level, test and transport of each line, without the figures.
fn kinds(said: &str) -> BTreeSet<String> {
    let heads = said.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(": "));
    let is_word = |word: &&str| !word.contains('.');
    heads.map(|(head, _)| head.split_whitespace().filter(is_word).collect::<Vec<_>>().join(" ")).collect()
}

/// Runs the openssl commands of README.fr.md by the letter in the place; its start of the server only checks.
fn certificate_of_the_walk_through(place: &Place) -> String {
    let walk = read(Path::new("README.fr.md"));
    let recipe = blocks(&walk, "sh").into_iter().find(|block| block.contains("openssl req")).expect("the recipe");
    let script = format!("set -eu\nrelais() {{ \"$0\" config check \"$@\"; }}\n{recipe}");
    finish(&mut place.wrapped(&["sh", "-c", &script], &[]), &["the recipe"]).success().to_owned()
}

/// The contents of the fenced blocks of this language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = None;
    for line in document.lines() {
        match (open, line.strip_prefix("```")) {
            (None, Some(fence)) => {
                open = Some(fence);
                if fence == language {
                    found.push(String::new());
                }
            }
            (Some(_), Some(_)) => open = None,
            (Some(fence), None) if fence == language => {
                let block = found.last_mut().expect("pushed");
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    found
}

fn documents() -> Vec<PathBuf> {
    let found = walk(root(), &|path| path.extension().is_some_and(|end| end == "md"));
    assert!(found.len() > 8, "{found:?}");
    found
}

/// The files of the tree that `wanted` takes, without what is built, fetched or hidden.
fn walk(directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                found.extend(walk(&path, wanted));
            }
        } else if wanted(&path) {
            found.push(path);
        }
    }
    found
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
