//! The metrics page: the text format of Prometheus, version 0.0.4. Each part of the server writes its figures with
//! [`Page`]; no label ever carries what a client chose (names, rooms, addresses).

pub mod process;

use std::fmt::{Display, Write};

use crate::net::Snapshot;

/// `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metrics page being written.
#[derive(Debug, Default)]
pub struct Page(String);

/// Names and values of a sample's labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// A metric that only grows; its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str) -> Samples<'_> {
        self.metric(name, help, "counter")
    }

    /// A metric that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str) -> Samples<'_> {
        self.metric(name, help, "gauge")
    }

    fn metric(&mut self, name: &str, help: &str, kind: &str) -> Samples<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP relais_{name} {help}\n# TYPE relais_{name} {kind}");
        Samples { page: self, name: name.to_owned() }
    }

    /// The text so far.
    pub fn finish(self) -> String {
        self.0
    }
}

/// The samples of one metric.
pub struct Samples<'p> {
    page: &'p mut Page,
    name: String,
}

impl Samples<'_> {
    /// Adds a sample.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        let text = &mut self.page.0;
        let _ = write!(text, "relais_{}", self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let separator = if index == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(text, "{separator}{label}=\"{value}\"");
        }
        let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
        self
    }
}

/// The figures of the relay.
pub fn relay(page: &mut Page, snapshot: &Snapshot) {
    page.gauge("allocations", "Allocations that live now").sample(&[], snapshot.allocations);
    let mut created = page.counter("relayed_addresses_created_total", "Relayed addresses made");
    for ((transport, family), count) in &snapshot.created {
        created.sample(&[("transport", transport.name()), ("family", family.name())], count);
    }
    let mut ended = page.counter("relayed_addresses_ended_total", "Relayed addresses that ended");
    for ((transport, reason), count) in &snapshot.ended {
        ended.sample(&[("transport", transport.name()), ("reason", reason.name())], count);
    }
    let mut refused = page.counter("requests_refused_total", "Requests answered with an error");
    for ((transport, method, code), count) in &snapshot.refused {
        let code = code.to_string();
        refused.sample(&[("transport", transport.name()), ("method", method), ("code", &code)], count);
    }
    let mut dropped = page.counter("packets_dropped_total", "Packets and requests without an answer");
    for (reason, count) in &snapshot.dropped {
        dropped.sample(&[("reason", reason.name())], count);
    }
    let help = "Permissions and channels refused by the peer policy";
    page.counter("peers_denied_total", help).sample(&[], snapshot.denied);
    for (name, help, value) in snapshot.totals.each() {
        page.counter(&format!("{name}_total"), help).sample(&[], value);
    }
    let help = "Bytes sent to unproven sources for each byte received from them, in whole IPv4 packets";
    page.gauge("amplification_ratio", help).sample(&[], snapshot.amplification());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.counter("x_total", "a \\ and\na line").sample(&[("a", "1\"2"), ("b", "\\\n")], 7).sample(&[], 8);
        page.gauge("y", "ratio").sample(&[], 0.5);
        let expected = "# HELP relais_x_total a \\\\ and\\na line\n# TYPE relais_x_total counter\n\
            relais_x_total{a=\"1\\\"2\",b=\"\\\\\\n\"} 7\nrelais_x_total 8\n\
            # HELP relais_y ratio\n# TYPE relais_y gauge\nrelais_y 0.5\n";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn every_figure_has_help_a_type_and_a_name_of_its_own() {
        let mut page = Page::default();
        relay(&mut page, &Snapshot::default());
        let text = page.finish();
        let mut seen = std::collections::HashSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').expect("a kind");
            assert!(seen.insert(name) && text.contains(&format!("# HELP {name} ")), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        }
        assert!(seen.len() > 20 && text.contains("relais_amplification_ratio 0\n"), "{text}");
    }
}
