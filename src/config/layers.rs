//! The three places where options are set (file, environment, flags), merged: each value remembers where it came from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS, Key, Kind};

/// Where a value was set. The order is that of precedence: flags win over variables over the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The file and the line, counted from 1.
    File(PathBuf, usize),
    /// The variable's name.
    Variable(String),
    Flag,
}

impl Source {
    /// 0 for the file, 1 for variables, 2 for flags.
    pub fn rank(&self) -> u8 {
        match self {
            Self::File(..) => 0,
            Self::Variable(_) => 1,
            Self::Flag => 2,
        }
    }
}

/// What was set for one key, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub values: Vec<String>,
    pub source: Source,
}

/// What was set, by the key's name.
pub type Settings = BTreeMap<&'static str, Setting>;

/// One thing that is wrong, with everything a person needs to put it right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(pub String);

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A problem of `key`'s `value` as set at `source`: names them all; `reason` ends with the remedy.
pub fn problem(key: &Key, source: &Source, value: &str, reason: &str) -> Problem {
    let value = if key.secret { "(hidden)" } else { value };
    Problem(match source {
        Source::File(path, line) => format!("{} = {value:?} ({}, line {line}): {reason}", key.path(), path.display()),
        Source::Variable(name) => format!("{name}={value}: {reason}"),
        Source::Flag => format!("{} {value}: {reason}", key.flag_name()),
    })
}

/// Reads the text of a configuration file. Every problem is listed, not only the first.
pub fn from_file(path: &Path, text: &str) -> Result<Settings, Vec<Problem>> {
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        vec![Problem(format!("{}, line {line}: {}", path.display(), error.message().replace('\n', "; ")))]
    })?;
    let mut reader = FileReader { path, text, settings: Settings::new(), problems: Vec::new() };
    reader.table("", document.get_ref());
    if reader.problems.is_empty() { Ok(reader.settings) } else { Err(reader.problems) }
}

/// Reads the `RELAIS_*` variables. Unknown ones are only warned about, as orchestrators set some of their own
/// (`RELAIS_PORT`, `RELAIS_SERVICE_HOST` for a service of our name).
pub fn from_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(Settings, Vec<String>), Vec<Problem>> {
    let (mut settings, mut warnings, mut problems) = (Settings::new(), Vec::new(), Vec::new());
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("RELAIS_")) else { continue };
        if value.is_empty() || name == CONFIG_VARIABLE {
            continue;
        }
        let known = KEYS.iter().find(|key| key.variable() == name || (name == LOG_VARIABLE && key.name == "log_level"));
        let Some(key) = known else {
            warnings.push(format!(
                "the variable {name} is none of ours{}",
                did_you_mean(name, KEYS.iter().map(Key::variable))
            ));
            continue;
        };
        let Some(value) = value.to_str() else {
            problems.push(Problem(format!("{name}: the value is not UTF-8 text")));
            continue;
        };
        if name == LOG_VARIABLE && settings.contains_key(key.name) {
            continue;
        }
        let values = match key.kind {
            Kind::List | Kind::Pairs => value.split(',').map(|item| item.trim().to_owned()).collect(),
            Kind::One | Kind::Switch => vec![value.trim().to_owned()],
        };
        settings.insert(key.name, Setting { values, source: Source::Variable(name.to_owned()) });
    }
    if problems.is_empty() { Ok((settings, warnings)) } else { Err(problems) }
}

/// Lays `above` over `below`: what is set above replaces, lists too.
pub fn overlay(below: Settings, above: Settings) -> Settings {
    let mut merged = below;
    merged.extend(above);
    merged
}

/// The configuration file's variable.
pub const CONFIG_VARIABLE: &str = "RELAIS_CONFIG";
/// The customary short name of `RELAIS_LOG_LEVEL`.
const LOG_VARIABLE: &str = "RELAIS_LOG";

struct FileReader<'a> {
    path: &'a Path,
    text: &'a str,
    settings: Settings,
    problems: Vec<Problem>,
}

impl FileReader<'_> {
    fn table(&mut self, group: &str, table: &DeTable<'_>) {
        for (name, value) in table.iter() {
            let line = line_of(self.text, name.span().start);
            let name = name.get_ref().as_ref();
            let is_group = group.is_empty() && KEYS.iter().any(|key| key.group == name);
            match value.get_ref() {
                DeValue::Table(inner) if is_group => self.table(name, inner),
                _ if is_group => {
                    self.complain(line, &format!("{name} is a table: write [{name}] on a line of its own"))
                }
                _ => match keys::find(name).filter(|key| key.file && key.group == group) {
                    Some(key) => self.setting(key, line, value),
                    None => self.unknown(group, name, line),
                },
            }
        }
    }

    fn setting(&mut self, key: &'static Key, line: usize, value: &Spanned<DeValue<'_>>) {
        let values = match (key.kind, value.get_ref()) {
            (Kind::List, DeValue::Array(items)) => items.iter().map(|item| scalar(item.get_ref())).collect(),
            (Kind::Pairs, DeValue::Table(pairs)) => pairs
                .iter()
                .map(|(name, value)| Some(format!("{}={}", name.get_ref(), scalar(value.get_ref())?)))
                .collect(),
            (Kind::One | Kind::Switch | Kind::List, value) => scalar(value).map(|text| vec![text]),
            (Kind::Pairs, _) => None,
        };
        let source = Source::File(self.path.to_owned(), line);
        match values {
            Some(values) => {
                self.settings.insert(key.name, Setting { values, source });
            }
            None => {
                let expected = match key.kind {
                    Kind::One => "one value",
                    Kind::Switch => "true or false",
                    Kind::List => "a list such as [\"a\", \"b\"]",
                    Kind::Pairs => "a table such as { alice = \"password\" }",
                };
                let found = value.get_ref().type_str();
                self.problems.push(problem(key, &source, found, &format!("a {found} does not fit; write {expected}")));
            }
        }
    }

    fn unknown(&mut self, group: &str, name: &str, line: usize) {
        let shown = if group.is_empty() { name.to_owned() } else { format!("{group}.{name}") };
        // The right name in the wrong table is the commonest slip.
        let elsewhere = KEYS.iter().find(|key| key.file && key.name == name);
        let hint = match elsewhere {
            Some(key) if key.group.is_empty() => {
                "; it belongs to the top of the file, before the first table".to_owned()
            }
            Some(key) => format!("; it belongs to [{}]", key.group),
            None => {
                let groups = KEYS.iter().map(|key| key.group.to_owned()).filter(|_| group.is_empty());
                let names = KEYS.iter().filter(|key| key.file).map(|key| key.name.to_owned());
                did_you_mean(name, names.chain(groups))
            }
        };
        self.complain(line, &format!("unknown key {shown}{hint}"));
    }

    fn complain(&mut self, line: usize, what: &str) {
        self.problems.push(Problem(format!("{}, line {line}: {what}", self.path.display())));
    }
}

/// The text of a string, number or boolean; `None` for anything else.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        DeValue::Boolean(on) => Some(on.to_string()),
        _ => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// `; did you mean …?` when one of `names` is near, else nothing.
fn did_you_mean(given: &str, names: impl Iterator<Item = String>) -> String {
    let near =
        names.map(|name| (distance(given, &name), name)).min().filter(|(steps, name)| *steps <= 1 + name.len() / 4);
    near.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

/// Levenshtein's distance, case aside.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<u8> = right.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.bytes().map(|byte| byte.to_ascii_lowercase()).enumerate() {
        let mut diagonal = line;
        row[0] = line + 1;
        for (place, b) in right.iter().enumerate() {
            let above = row[place + 1];
            row[place + 1] = (diagonal + usize::from(a != *b)).min(above + 1).min(row[place] + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}

/// The value of `name` in the environment as a path; an empty one counts as not set.
pub fn path_variable(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_the_line_of_each_key() {
        let text = "state_dir = \"/x\"\n\n[turn]\nudp = [\"1.2.3.4:1\"]\nshards = 1_0\nlegacy_channels = true\nrealm = \"a\"\nusers = { ada = \"x=y\" }\n";
        let settings = from_file(Path::new("f"), text).expect("good");
        assert_eq!(settings["udp"], setting(&["1.2.3.4:1"], 4));
        assert_eq!(settings["shards"], setting(&["10"], 5));
        assert_eq!(settings["legacy_channels"], setting(&["true"], 6));
        assert_eq!(settings["users"], setting(&["ada=x=y"], 8));
    }

    #[test]
    fn a_string_stands_for_a_list_of_one() {
        let settings = from_file(Path::new("f"), "[web]\ntcp = \"1.2.3.4:1\"").expect("good");
        assert_eq!(settings["tcp"], setting(&["1.2.3.4:1"], 2));
    }

    #[test]
    fn unknown_keys_get_a_hint() {
        for (text, expected) in [
            ("[turn]\nudpp = []", "f, line 2: unknown key turn.udpp; did you mean udp?"),
            ("[trun]\n", "f, line 1: unknown key trun; did you mean turn?"),
            ("realm = \"x\"", "f, line 1: unknown key realm; it belongs to [turn]"),
            ("[web]\nstate_dir = \"x\"", "unknown key web.state_dir; it belongs to the top of the file"),
            ("[web]\nzzzzzzzzzzzzz = 1", "f, line 2: unknown key web.zzzzzzzzzzzzz"),
            ("[turn]\nsecret = \"x\"", "did you mean secrets?"),
            ("turn = 3", "f, line 1: turn is a table: write [turn]"),
            ("[turn]\nudp = {}", "turn.udp = \"table\" (f, line 2): a table does not fit; write a list"),
            ("[turn]\nudp = 1\nudp = 2", "f, line 3: "),
        ] {
            let problems = from_file(Path::new("f"), text).expect_err(text);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].0.contains(expected), "{}", problems[0]);
        }
    }

    #[test]
    fn later_options_are_refused_not_swallowed() {
        for text in ["[tls]\nacme_key = 1", "[turn]\nalt_port = \"1\"", "[signaling]\nkick = 1"] {
            assert!(from_file(Path::new("f"), text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_split_lists_and_warn_of_strangers() {
        let variables = [
            ("RELAIS_UDP", "1.2.3.4:1, [::]:2"),
            ("RELAIS_LOG", "debug"),
            ("RELAIS_REALM", ""),
            ("RELAIS_RELM", "x"),
            ("RELAIS_PORT", "tcp://10.0.0.1:1"),
            ("HOME", "/"),
        ];
        let (settings, warnings) = from_environment(pairs(&variables)).expect("good");
        assert_eq!(settings["udp"].values, ["1.2.3.4:1", "[::]:2"]);
        assert_eq!(settings["log_level"].values, ["debug"]);
        assert!(!settings.contains_key("realm"));
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("did you mean RELAIS_REALM?"), "{warnings:?}");
    }

    #[test]
    fn the_upper_layer_replaces_lists() {
        let below = from_file(Path::new("f"), "[turn]\nudp = [\"a\", \"b\"]\nrealm = \"r\"").expect("good");
        let above = from_environment(pairs(&[("RELAIS_UDP", "c")])).expect("good").0;
        let merged = overlay(below, above);
        assert_eq!(merged["udp"].values, ["c"]);
        assert_eq!(merged["realm"].values, ["r"]);
    }

    #[test]
    fn distances() {
        for (left, right, expected) in
            [("", "", 0), ("abc", "abc", 0), ("udp", "udpp", 1), ("kitten", "sitting", 3), ("", "ab", 2), ("ab", "", 2)]
        {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    fn setting(values: &[&str], line: usize) -> Setting {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Setting { values, source: Source::File("f".into(), line) }
    }

    fn pairs(list: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
        let owned: Vec<_> = list.iter().map(|(name, value)| (name.into(), value.into())).collect();
        owned.into_iter()
    }
}
