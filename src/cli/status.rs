//! `relais status`: the running service on one screen.

use std::fmt::Write;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::flags::{Flags, SecretFlags};
use super::{print, words};
use crate::app::status::socket_file;
use crate::clock;
use crate::time::Mono;

/// Between the two looks that rates are made of, and between two screens of --watch.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the service may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const MAX_ANSWER: u64 = 4 << 20;

/// What `relais status` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Look again every second until interrupted
    #[arg(long)]
    watch: bool,
    /// Print one JSON object (with --watch one a line)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: Flags<SecretFlags>,
}

/// Asks the service that serves from the configured state directory.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = args.state.load()?.config.state_dir;
    let mut before = Look::take(&dir)?;
    loop {
        std::thread::sleep(INTERVAL);
        let look = Look::take(&dir)?;
        let screen = if args.json { format!("{}\n", look.json(&before)) } else { look.screen(&before) };
        // Clears the screen and goes to its first corner.
        let clear = if args.watch && !args.json { "\x1b[2J\x1b[H" } else { "" };
        print(&format!("{clear}{screen}"));
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        before = look;
    }
}

/// One answer of the service.
struct Look {
    at: Mono,
    report: Value,
    samples: Vec<Sample>,
}

/// One line of the metrics.
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Look {
    fn take(dir: &Path) -> anyhow::Result<Self> {
        let path = socket_file(dir);
        let mut stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => bail!(
                "no relais serves from {}: start it (systemctl start relais, or relais serve), or name another state \
                 directory with --state-dir",
                dir.display()
            ),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                bail!("{} belongs to another user: run this as root (sudo) or as the service's user", dir.display())
            }
            Err(error) => return Err(error).with_context(|| format!("cannot ask {}", path.display())),
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        let read = Read::by_ref(&mut stream).take(MAX_ANSWER).read_to_string(&mut text);
        read.with_context(|| format!("the service does not answer on {}", path.display()))?;
        let report: Value = serde_json::from_str(&text)
            .context("the service's answer is cut short or of another version: restart it")?;
        let samples = report["metrics"].as_str().unwrap_or_default().lines().filter_map(sample).collect();
        Ok(Self { at: clock::now().mono, report, samples })
    }

    /// Sum of a metric's samples that have this label.
    fn sum(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let has = |sample: &&Sample| {
            label.is_none_or(|(key, value)| sample.labels.iter().any(|(found, is)| found == key && is == value))
        };
        self.samples.iter().filter(|sample| sample.name == name).filter(has).map(|sample| sample.value).sum()
    }

    fn rate(&self, before: &Self, name: &str) -> f64 {
        let seconds = (self.at - before.at).as_secs_f64().max(0.001);
        (self.sum(name, None) - before.sum(name, None)).max(0.0) / seconds
    }

    /// Live relayed addresses of clients over each transport.
    fn by_transport(&self) -> Vec<(&'static str, f64)> {
        let live = |transport| {
            let label = Some(("transport", transport));
            self.sum("relais_relayed_addresses_created_total", label)
                - self.sum("relais_relayed_addresses_ended_total", label)
        };
        ["udp", "tcp", "tls"].into_iter().map(|transport| (transport, live(transport))).collect()
    }

    fn json(&self, before: &Self) -> Value {
        let mut object = self.report.clone();
        let metrics: Vec<Value> = self
            .samples
            .iter()
            .map(|sample| {
                let labels: serde_json::Map<_, _> =
                    sample.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
                json!({ "name": sample.name, "labels": labels, "value": sample.value })
            })
            .collect();
        object["metrics"] = Value::Array(metrics);
        object["allocations"] = json!(self.sum("relais_allocations", None));
        object["relayedAddresses"] =
            self.by_transport().into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect();
        object["rates"] =
            RATES.iter().map(|(name, _)| ((*name).to_owned(), json!(self.rate(before, &metric(name))))).collect();
        object
    }

    fn screen(&self, before: &Self) -> String {
        let report = &self.report;
        let number = |name: &str| report[name].as_u64().unwrap_or(0);
        let mut text = format!(
            "Relais {}, running for {} (process {})\n\n",
            report["version"].as_str().unwrap_or("?"),
            roughly(number("uptimeSeconds")),
            number("pid")
        );
        let mut line = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name:<13} {}", if value.is_empty() { "none" } else { value });
        };
        let public: Vec<Value> = [&report["domain"]]
            .into_iter()
            .chain(report["publicIps"].as_array().into_iter().flatten())
            .cloned()
            .collect();
        line("Name", &join(&public));
        line("Access", report["access"].as_str().unwrap_or_default());
        for name in ["udp", "tcp", "http"] {
            line(&name.to_uppercase(), &join(report["sockets"][name].as_array().map_or(&[][..], Vec::as_slice)));
        }
        line("Certificate", &certificate(&report["certificate"], clock::now().unix));
        let transports = self.by_transport().iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>();
        line("Allocations", &format!("{} ({})", self.sum("relais_allocations", None), transports.join(", ")));
        for (way, name) in [("to_peer", "To peers"), ("to_client", "To clients")] {
            let bytes = self.rate(before, &metric(&format!("{way}_bytes")));
            let packets = self.rate(before, &metric(&format!("{way}_packets")));
            line(name, &format!("{:.2} Mbit/s, {packets:.0} packets/s", bytes * 8.0 / 1e6));
        }
        let mut signaling = format!("{} connections", number("connections"));
        for name in ["rooms", "peers"] {
            if let Some(sample) = self.samples.iter().find(|sample| sample.name == format!("relais_{name}")) {
                let _ = write!(signaling, ", {} {name}", sample.value);
            }
        }
        line("Signaling", &signaling);
        line("Refused", &self.counts("relais_requests_refused_total", &["method", "code"]));
        line("Dropped", &self.counts("relais_packets_dropped_total", &["reason"]));
        line("Failures", &self.failures());
        text
    }

    /// The samples of a metric that are not zero, by the values of these labels, the greatest first.
    fn counts(&self, name: &str, labels: &[&str]) -> String {
        let mut sums: Vec<(String, f64)> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.name == name && sample.value > 0.0) {
            let values = labels.iter().filter_map(|label| sample.labels.iter().find(|(key, _)| key == label));
            let shown = values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ");
            match sums.iter_mut().find(|(known, _)| *known == shown) {
                Some((_, sum)) => *sum += sample.value,
                None => sums.push((shown, sample.value)),
            }
        }
        sums.sort_by(|one, other| other.1.total_cmp(&one.1));
        sums.iter().map(|(name, count)| format!("{name}: {count}")).collect::<Vec<_>>().join(", ")
    }

    fn failures(&self) -> String {
        let failed =
            FAILURES.iter().map(|name| (name, self.sum(&metric(name), None))).filter(|(_, count)| *count > 0.0);
        failed.map(|(name, count)| format!("{}: {count}", name.replace('_', " "))).collect::<Vec<_>>().join(", ")
    }
}

/// Counters whose growth per second is shown, and their unit.
const RATES: &[(&str, &str)] = &[
    ("to_peer_bytes", "bytes"),
    ("to_peer_packets", "packets"),
    ("to_client_bytes", "bytes"),
    ("to_client_packets", "packets"),
];

/// Counters that stay at zero while all is well.
const FAILURES: &[&str] = &["receive_errors", "send_errors", "send_full", "hairpin_full", "stream_backlog"];

/// The full name of one of our counters.
fn metric(name: &str) -> String {
    format!("relais_{name}_total")
}

/// A line such as `name{label="value",…} 12`; `None` for comments.
fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    if line.starts_with('#') {
        return None;
    }
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| {
        let (key, value) = label.split_once("=\"")?;
        Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    Some(Sample { name: name.to_owned(), labels: labels.collect(), value: value.parse().ok()? })
}

fn join(values: &[Value]) -> String {
    values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("  ")
}

fn certificate(value: &Value, now: u64) -> String {
    let source = match value["source"].as_str() {
        Some("acme") => "by ACME",
        Some("files") => "from files",
        _ => "by the local authority, which browsers do not know",
    };
    let mut text = source.to_owned();
    if let (Some(age), Some(end)) = (value["ageSeconds"].as_u64(), value["notAfter"].as_u64()) {
        let left = if end > now { format!("{} left", roughly(end - now)) } else { "EXPIRED".to_owned() };
        let _ = write!(text, ", {} old, until {} ({left})", roughly(age), words::utc(end));
    }
    if let (Some(error), Some(since)) = (value["acmeLastError"].as_str(), value["acmeFailingSince"].as_u64()) {
        let _ = write!(text, "; ACME fails since {}: {error}", words::utc(since));
    }
    text
}

/// A time in its two greatest units.
fn roughly(seconds: u64) -> String {
    let units = [(86400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    if parts.is_empty() { "0 s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        let one = sample("relais_x_total{transport=\"udp\",code=\"401\"} 12").expect("a sample");
        assert_eq!((one.name.as_str(), one.value), ("relais_x_total", 12.0));
        assert_eq!(one.labels, [("transport".into(), "udp".into()), ("code".into(), "401".into())]);
        assert!(sample("relais_y 0.5").is_some_and(|one| one.labels.is_empty()));
        assert!(sample("# HELP relais_y a 5").is_none());
    }

    #[test]
    fn times_in_words() {
        for (seconds, text) in [(0, "0 s"), (61, "1 min 1 s"), (90061, "1 d 1 h"), (3605, "1 h 5 s")] {
            assert_eq!(roughly(seconds), text);
        }
    }
}
