//! The documents say what is there: options, links and phases are compared with the program and the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn readme_names_every_option_of_serve_and_no_other() {
    let help = Command::new(env!("CARGO_BIN_EXE_relais")).args(["serve", "--help"]).output().expect("relais runs");
    assert!(help.status.success(), "{}", String::from_utf8_lossy(&help.stderr));
    let mut offered = flags(&String::from_utf8_lossy(&help.stdout));
    offered.retain(|flag| flag != "--help" && flag != "--version");
    assert!(offered.len() > 10, "no options in the help: {offered:?}");

    let readme = read("README.md");
    let table: String = readme.lines().filter(|line| line.starts_with("| `--")).collect();
    assert_eq!(flags(&table), offered, "left: the options table of README.md, right: relais serve --help");
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        let directory = root().join(&document).parent().expect("a directory").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !target.contains("://") && !file.is_empty() && !directory.join(file).exists() {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn contributing_names_every_phase_of_the_test_run() {
    let run = read("tests/run");
    let phases = run.lines().find_map(|line| line.strip_prefix("phases=(")).expect("the list of phases");
    let phases = phases.trim_end_matches(')');
    assert!(phases.split(' ').count() > 5, "the list of phases: {phases}");
    assert!(read("CONTRIBUTING.md").contains(phases), "CONTRIBUTING.md does not list the phases: {phases}");
    assert!(run.contains(&format!("repeatable): {phases}")), "the help of tests/run does not list: {phases}");
}

#[test]
fn every_threat_names_tests_that_are_there() {
    let security = read("SECURITY.md");
    let (_, table) = security.split_once("| threat |").expect("the threat model");
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with("| ")).collect();
    assert!(rows.len() >= 18, "{} threats", rows.len());
    let mut missing = Vec::new();
    for row in rows {
        let named: Vec<&str> = row
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|quoted| quoted.contains(".rs") || quoted.contains(".mjs"))
            .collect();
        if named.is_empty() {
            missing.push(row);
        }
        missing.extend(named.into_iter().filter(|quoted| !is_a_test(quoted)));
    }
    assert!(missing.is_empty(), "without a test, or not there: {missing:#?}");
}

/// `FILE` or `FILE: NAME`: a function, a row of a table, or the title of a test in JavaScript.
fn is_a_test(quoted: &str) -> bool {
    let (file, name) = quoted.split_once(": ").unwrap_or((quoted, ""));
    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
    let forms = [format!("fn {name}("), format!("\"{name}\""), format!("'{name}'")];
    !text.is_empty() && (name.is_empty() || forms.iter().any(|form| text.contains(form)))
}

/// Every `--long-flag` in `text`.
fn flags(text: &str) -> BTreeSet<String> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let candidates = text.split(|c: char| !is_flag(c)).filter(|word| word.starts_with("--") && word.len() > 2);
    candidates.map(|word| word.trim_end_matches('-').to_owned()).collect()
}

/// The Markdown files of the top level and of the directories that people open.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["", "certs/", "systemd/"] {
        for entry in fs::read_dir(root().join(directory)).expect("a directory") {
            let name = entry.expect("a directory entry").file_name().into_string().expect("UTF-8");
            if name.ends_with(".md") {
                found.push(format!("{directory}{name}"));
            }
        }
    }
    assert!(found.len() > 5, "few documents: {found:?}");
    found
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
