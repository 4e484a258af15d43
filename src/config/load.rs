//! Reads file, environment and flags into one checked [`Config`].

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::assemble::Reader;
use super::layers::{self, Problem, Settings};
use super::{Config, validate};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "/etc/relais/relais.toml";

/// A checked configuration and what there is to say about it.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Not wrong, but not what one would advise; to be logged.
    pub warnings: Vec<String>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// Every problem that was found; one line each.
#[derive(Debug)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What the surroundings say; a value so that tests need not change the process.
pub struct Surroundings {
    pub variables: Vec<(OsString, OsString)>,
    pub working_dir: PathBuf,
    /// Read when no file is named, if it exists.
    pub default_file: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            working_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            default_file: PathBuf::from(DEFAULT_FILE),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let found = self.variables.iter().find(|(variable, _)| variable == name);
        found.filter(|(_, value)| !value.is_empty()).map(|(_, value)| PathBuf::from(value))
    }
}

/// Merges the layers and checks the result. `file` is what `--config` names.
pub fn load(file: Option<&Path>, flags: Settings, surroundings: &Surroundings) -> Result<Loaded, ConfigError> {
    let (file, from_file) = read_file(file, surroundings)?;
    let (variables, mut warnings) =
        layers::from_environment(surroundings.variables.iter().cloned()).map_err(ConfigError)?;
    let settings = layers::overlay(layers::overlay(from_file, variables), flags);
    let state_dir = state_dir(&settings, surroundings)?;
    let mut reader = Reader::new(&settings);
    let config = reader.config(state_dir);
    if reader.problems.is_empty() {
        validate::check(&mut reader, &config);
    }
    if !reader.problems.is_empty() {
        return Err(ConfigError(reader.problems));
    }
    warnings.append(&mut reader.warnings);
    warnings.extend(file.as_deref().and_then(|file| readable_by_all(file, &config)));
    Ok(Loaded { config, warnings, file })
}

fn read_file(named: Option<&Path>, surroundings: &Surroundings) -> Result<(Option<PathBuf>, Settings), ConfigError> {
    let named = named.map(Path::to_owned).or_else(|| surroundings.path(layers::CONFIG_VARIABLE));
    let (path, must_exist) = match named {
        Some(path) => (path, true),
        None => (surroundings.default_file.clone(), false),
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
            return Ok((None, Settings::new()));
        }
        Err(error) => {
            let remedy = "name a readable file with --config";
            let problem = format!("cannot read the configuration file {}: {error}; {remedy}", path.display());
            return Err(ConfigError(vec![Problem(problem)]));
        }
    };
    let settings = layers::from_file(&path, &text).map_err(ConfigError)?;
    Ok((Some(path), settings))
}

/// DESIGN section 6: the flag (or our variable), `$STATE_DIRECTORY`, the file, `./certs` beside a `Cargo.toml`, the
/// user's state directory.
fn state_dir(settings: &Settings, surroundings: &Surroundings) -> Result<PathBuf, ConfigError> {
    let set = settings.get("state_dir").filter(|setting| setting.values.iter().all(|value| !value.is_empty()));
    let value = |rank: std::ops::RangeInclusive<u8>| {
        let setting = set.filter(|setting| rank.contains(&setting.source.rank()))?;
        setting.values.last().map(PathBuf::from)
    };
    let from_systemd = || {
        // systemd lists several with colons; the first is the service's own.
        let directories = surroundings.path("STATE_DIRECTORY")?;
        directories.to_str()?.split(':').next().map(PathBuf::from)
    };
    let checkout = || {
        let certs = surroundings.working_dir.join("certs");
        (certs.is_dir() && surroundings.working_dir.join("Cargo.toml").is_file()).then_some(certs)
    };
    let of_user = || {
        let home = || surroundings.path("HOME").map(|home| home.join(".local/state"));
        let base = surroundings.path("XDG_STATE_HOME").filter(|path| path.is_absolute()).or_else(home);
        base.map(|base| base.join("relais"))
    };
    let found = value(1..=2).or_else(from_systemd).or_else(|| value(0..=0)).or_else(checkout).or_else(of_user);
    found.ok_or_else(|| {
        let problem = "there is no place for the state directory, since $HOME is not set; name one with --state-dir";
        ConfigError(vec![Problem(problem.into())])
    })
}

/// A warning when others can read the secrets of the file.
fn readable_by_all(file: &Path, config: &Config) -> Option<String> {
    let has_secrets = !(config.secrets.is_empty() && config.users.is_empty() && config.api_keys.is_empty());
    if !has_secrets && config.webhook.is_none() {
        return None;
    }
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    let shown = file.display();
    (mode & 0o004 != 0).then(|| format!("{shown} holds secrets and everybody can read it: chmod 640 {shown}"))
}

#[cfg(test)]
mod tests {
    use super::super::layers::{Setting, Source};
    use super::*;

    #[test]
    fn without_anything_the_defaults_hold() {
        let place = Place::new();
        let loaded = place.load("", &[], &[]).expect("good");
        assert_eq!(loaded.config, Config { state_dir: place.home().join(".local/state/relais"), ..Config::default() });
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }

    #[test]
    fn flags_win_over_variables_over_the_file() {
        let place = Place::new();
        let file = "[turn]\nrealm = \"file\"\nudp = [\"127.0.0.1:1111\", \"127.0.0.1:2222\"]\nshards = 3";
        let variables = [("RELAIS_REALM", "variable"), ("RELAIS_UDP", "127.0.0.1:3333")];
        let loaded = place.load(file, &variables, &[("realm", &["flag"])]).expect("good");
        assert_eq!(loaded.config.realm, "flag");
        assert_eq!(loaded.config.udp.addresses, ["127.0.0.1:3333".parse().expect("literal")]);
        assert!(loaded.config.udp.explicit && !loaded.config.tcp.explicit);
        assert_eq!(loaded.config.shards, 3);
    }

    #[test]
    fn the_state_directory_in_its_order() {
        let place = Place::new();
        let checkout = place.root.path().join("certs");
        std::fs::create_dir(&checkout).expect("made");
        std::fs::write(place.root.path().join("Cargo.toml"), "").expect("written");
        let dir = |file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &[&str])]| {
            place.load(file, variables, flags).expect("good").config.state_dir
        };
        let systemd = ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b");
        assert_eq!(dir("", &[], &[]), checkout);
        assert_eq!(dir("state_dir = \"/file\"", &[], &[]), Path::new("/file"));
        assert_eq!(dir("state_dir = \"/file\"", &[systemd], &[]), Path::new("/var/lib/a"));
        assert_eq!(dir("", &[systemd, ("RELAIS_STATE_DIR", "/ours")], &[]), Path::new("/ours"));
        assert_eq!(dir("", &[systemd], &[("state_dir", &["/flag"])]), Path::new("/flag"));
        std::fs::remove_file(place.root.path().join("Cargo.toml")).expect("removed");
        assert_eq!(dir("", &[("XDG_STATE_HOME", "/xdg")], &[]), Path::new("/xdg/relais"));
    }

    #[test]
    fn every_fault_names_key_value_place_and_remedy() {
        let place = Place::new();
        let state = place.home().join("state");
        let inside = format!("[web]\nstatic_dir = {:?}", place.home());
        for (file, words) in [
            ("[turn]\nrelay_ports = \"2000-1000\"", &["turn.relay_ports", "2000-1000", "line 2", "1000-2000"][..]),
            ("[turn]\nrelay_ports = \"3000-4000\"", &["turn.udp", "0.0.0.0:3478", "--relay-ports"]),
            ("[turn]\nallow_peer = [\"10.0.0.1/8\"]", &["turn.allow_peer", "10.0.0.1/8", "10.0.0.0/8"]),
            ("[turn]\nudp = [\"127.0.0.1:5\", \"127.0.0.1:5\"]", &["turn.udp", "twice"]),
            ("[turn]\nalt_ip = \"10.0.0.2\"", &["turn.alt_ip", "10.0.0.2", "literal", "--udp IP:PORT"]),
            ("[turn]\nudp = [\"10.0.0.1:1\"]\nalt_ip = \"fd00::1\"", &["turn.alt_ip", "fd00::1", "IPv6", "--udp"]),
            ("[turn]\nudp = [\"10.0.0.1:9\"]\nalt_ip = \"10.0.0.1\"", &["turn.alt_ip", "10.0.0.1:9", "another one"]),
            (
                "[turn]\nudp = [\"10.0.0.1:9\", \"10.0.0.1:10\"]\nalt_ip = \"10.0.0.2\"",
                &["turn.alt_ip", "10.0.0.1:10", "take that out"],
            ),
            ("[turn]\nudp = []\n[web]\ntcp = []", &["nothing to listen on"]),
            ("[web]\ntcp = [\"127.0.0.1:80\"]\nhttp = [\"127.0.0.1:80\"]", &["web.http", "127.0.0.1:80", "twice"]),
            ("[tls]\ncert = \"/c.pem\"", &["tls.cert", "/c.pem", "--key"]),
            ("[tls]\nkey = \"/k.pem\"", &["tls.key", "/k.pem", "--cert"]),
            ("[tls]\ncert = \"/none/c\"\nkey = \"/none/k\"", &["tls.cert", "/none/c", "No such file", "may read"]),
            ("[tls]\nturns = \"sometimes\"", &["tls.turns", "sometimes", "auto, always or never"]),
            ("[web]\nstatic_dir = \"/none/here\"", &["web.static_dir", "/none/here", "No such file"]),
            (&inside, &["web.static_dir", "state directory", "move one"]),
            ("[turn]\nsecrets = [\"a\"]\nsecret_file = \"/f\"", &["twice", "keep one"]),
            ("[turn]\nsecrets = [\"\"]", &["turn.secrets", "(hidden)", "empty"]),
            ("[turn]\nsecrets = []", &["turn.secrets", "list is empty", "leave it out"]),
            ("[turn.users]\n\"\u{eb}\" = \"a\"\n\"e\u{308}\" = \"b\"", &["turn.users", "twice"]),
            ("[turn.users]\nada = \"a\\tb\"", &["turn.users", "the password", "choose others"]),
            ("[turn]\nrealm = \"a realm of fifty bytes, which is more than there is for\"", &["turn.realm", "shorter"]),
            ("[limits]\nrooms = 0", &["limits.rooms", "\"0\"", "from 1"]),
            ("[limits]\nrooms = \"many\"", &["limits.rooms", "many", "no whole number"]),
            ("[signaling]\nresume = \"2 weeks\"", &["signaling.resume", "2 weeks", "90s or 24h"]),
            ("log_level = \"relais=loud\"", &["log_level", "loud", "debug or trace"]),
        ] {
            let flags: &[(&'static str, &[&str])] = &[("state_dir", &[state.to_str().expect("text")])];
            let error = place.load(file, &[], flags).expect_err(file).to_string();
            for word in words {
                assert!(error.contains(word), "{word:?} is missing in: {error}");
            }
        }
    }

    #[test]
    fn all_faults_are_listed_at_once() {
        let place = Place::new();
        let error = place.load("[turn]\nudp = [\"x\", \"y\"]\nrealm = \"\"", &[], &[]).expect_err("bad");
        assert_eq!(error.to_string().lines().count(), 3, "{error}");
    }

    #[test]
    fn flags_and_variables_are_named_as_such() {
        let place = Place::new();
        let error = place.load("", &[("RELAIS_UDP", "x")], &[("tcp", &["y"])]).expect_err("bad").to_string();
        assert!(error.contains("RELAIS_UDP=x: ") && error.contains("--tcp y: "), "{error}");
    }

    #[test]
    fn secrets_of_the_higher_layer_count_and_are_not_shown() {
        let place = Place::new();
        let file = "[turn]\nsecrets = [\"of-the-file-long-enough\"]";
        let loaded = place.load(file, &[], &[("secret", &["of-the-flag-long-enough"])]).expect("good");
        assert_eq!(loaded.config.secrets, ["of-the-flag-long-enough"]);
        assert!(loaded.warnings.iter().any(|warning| warning.contains("--secret-file")), "{:?}", loaded.warnings);
        assert!(!loaded.warnings.iter().any(|warning| warning.contains("of-the")), "{:?}", loaded.warnings);
    }

    #[test]
    fn advice_is_given() {
        let place = Place::new();
        let file = "[turn]\nudp = [\"127.0.0.1:100\", \"127.0.0.1:50000\"]\nsecrets = [\"short\"]\nallow_peer = [\"0.0.0.0/0\"]\n[signaling]\naccess = \"open\"";
        let warnings = place.load(file, &[("RELAIS_RLEAM", "x")], &[]).expect("good").warnings.join("\n");
        for word in [
            "Chromium refuses",
            "127.0.0.1:50000: this port lies among the relay ports",
            "16 characters",
            "allow_peer 0.0.0.0/0",
            "access = open",
            "RELAIS_RLEAM",
            "chmod 640",
        ] {
            assert!(warnings.contains(word), "{word:?} is missing in: {warnings}");
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let place = Place::new();
        let error = load(Some(Path::new("/none/relais.toml")), Settings::new(), &place.surroundings(&[]));
        let error = error.expect_err("missing").to_string();
        assert!(error.contains("/none/relais.toml") && error.contains("--config"), "{error}");
    }

    /// A directory that stands for the working directory, the home and `/etc`.
    struct Place {
        root: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a directory");
            std::fs::create_dir(root.path().join("home")).expect("made");
            Self { root }
        }

        fn home(&self) -> PathBuf {
            self.root.path().join("home")
        }

        fn surroundings(&self, variables: &[(&str, &str)]) -> Surroundings {
            let mut variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
            variables.push(("HOME".into(), self.home().into_os_string()));
            let working_dir = self.root.path().to_owned();
            Surroundings { variables, default_file: working_dir.join("relais.toml"), working_dir }
        }

        fn load(
            &self,
            file: &str,
            variables: &[(&str, &str)],
            flags: &[(&'static str, &[&str])],
        ) -> Result<Loaded, ConfigError> {
            let surroundings = self.surroundings(variables);
            std::fs::write(&surroundings.default_file, file).expect("written");
            std::fs::set_permissions(&surroundings.default_file, PermissionsExt::from_mode(0o644)).expect("set");
            let flags = flags.iter().map(|(name, values)| {
                let values = values.iter().map(|value| (*value).to_owned()).collect();
                (*name, Setting { values, source: Source::Flag })
            });
            load(None, flags.collect(), &surroundings)
        }
    }
}
