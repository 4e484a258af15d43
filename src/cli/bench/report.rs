//! The table of `relais bench`, and what is said while it runs.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::bench::{ControlFigures, Figures, Found, Way, WayFigures};
use crate::cli::print;

/// Tells what goes on: the table on standard output, the second that runs on standard error.
pub struct Progress {
    is_json: bool,
    is_terminal: bool,
}

impl Progress {
    pub fn new(is_json: bool) -> Self {
        Self { is_json, is_terminal: std::io::stderr().is_terminal() }
    }

    /// A line of its own, on standard error.
    pub fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn table(&self, text: &str) {
        if self.is_json { self.say(text.trim_end()) } else { print(text) }
    }

    /// The head of the table.
    pub fn head(&self, has_process: bool) {
        let cpu = if has_process { "   CPU/packet   core" } else { "" };
        self.table(&format!(
            "    offered  delivered      loss   up p50   p99  p99.9 us   down p50   p99  p99.9 us{cpu}\n"
        ));
    }

    /// A second has passed.
    pub fn tick(&self, time: Duration, delivered: u64) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r{:>3} s, {delivered} packets delivered \r", time.as_secs());
        }
    }

    /// A step is done.
    pub fn row(&self, figures: &Figures) {
        let latencies = |way: &WayFigures| {
            [0.5, 0.99, 0.999]
                .map(|share| way.latency.quantile(share).map_or("-".to_owned(), |time| format!("{}", time.as_micros())))
        };
        let [up, up99, up999] = latencies(figures.way(Way::ToPeer));
        let [down, down99, down999] = latencies(figures.way(Way::ToClient));
        let cpu = match (figures.cpu_per_packet(), figures.cpu_share()) {
            (Some(each), Some(share)) => format!("   {each:>7.0} ns  {:>3.0} %", share * 100.0),
            _ => String::new(),
        };
        let limited = if figures.limited_by_generator { "   (the generator could not keep up)" } else { "" };
        let (rate, delivered, loss) = (figures.rate, figures.delivered_rate(), figures.loss() * 100.0);
        self.table(&format!(
            "{rate:>9.0}/s {delivered:>9.0}/s {loss:>7.3} % {up:>8} {up99:>5} {up999:>9} {down:>10} {down99:>5} \
             {down999:>9}{cpu}{limited}\n"
        ));
    }

    /// What a search found.
    pub fn found(&self, found: &Found, loss: f64) {
        let text = match &found.best {
            Some(best) => {
                let bound =
                    if found.is_lower_bound { " at least: the generator or its bound was the limit" } else { "" };
                let megabits = best.delivered_rate() * best.size as f64 * 8.0 / 1e6;
                format!("\nhighest with {loss} % loss: {:.0} packets/s, {megabits:.0} Mbit/s{bound}\n", best.rate)
            }
            None => format!("\nno rate was found with {loss} % loss at most\n"),
        };
        self.table(&text);
    }

    /// What the table has no place for.
    pub fn details(&self, figures: &Figures, memory_each: Option<f64>) {
        let mut text = String::from("\n");
        for (name, way) in [("to peers", Way::ToPeer), ("to clients", Way::ToClient)] {
            let way = figures.way(way);
            if way.offered == 0 {
                continue;
            }
            let megabits =
                way.delivered as f64 * figures.size as f64 * 8.0 / 1e6 / figures.time.as_secs_f64().max(0.001);
            let (least, most) = way.spread;
            text += &format!(
                "{name:<11} {} of {} packets, {megabits:.0} Mbit/s, loss of an allocation {:.3} to {:.3} %\n",
                way.delivered,
                way.offered,
                least * 100.0,
                most * 100.0
            );
        }
        if let Some(hot) = &figures.hot {
            text += &format!("hot         {} of {} packets\n", hot.delivered, hot.offered);
        }
        if let Some(memory) = figures.memory {
            text += &format!("memory      {:.1} MiB resident", memory as f64 / f64::from(1 << 20));
            text +=
                &memory_each.map_or("\n".into(), |each| format!(", {:.2} KiB for each allocation\n", each / 1024.0));
        }
        self.table(&text);
    }
}

/// The control plane's figures.
pub fn control(figures: &ControlFigures) -> String {
    let time = |share| figures.latency.quantile(share).map_or(0, |time| time.as_micros());
    let mut text = format!(
        "{:.0} operations/s (Allocate with its 401, Refresh 0): {} done, {} failed\nlatency {} us p50, {} us p99\n",
        figures.rate(),
        figures.operations,
        figures.failed,
        time(0.5),
        time(0.99)
    );
    if let Some(code) = figures.last_refusal {
        text += &format!("the last refusal was {code}\n");
    }
    if let Some(each) = figures.cpu_per_operation() {
        text += &format!("CPU of the server: {:.1} us for each operation\n", each / 1000.0);
    }
    text
}
