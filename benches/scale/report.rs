//! What a run says while it runs, and the text of `SCALE.md`.

use std::fmt::Write;

/// Verdicts above, tables below.
#[derive(Default)]
pub struct Report {
    verdicts: String,
    body: String,
}

impl Report {
    /// On standard error, while it runs.
    pub fn say(&self, text: &str) {
        eprintln!("    {text}");
    }

    pub fn head(&mut self, title: &str) {
        let _ = writeln!(self.body, "\n## {title}\n");
    }

    pub fn text(&mut self, text: &str) {
        // A table's lines belong together, paragraphs do not.
        let space = if text.starts_with('|') { "" } else { "\n" };
        let _ = writeln!(self.body, "{text}{space}");
        self.say(text);
    }

    pub fn verdict(&mut self, goal: &str, found: &str, is_met: bool) {
        let line = format!("| {goal} | {found} | {} |", if is_met { "met" } else { "**missed**" });
        self.say(&line);
        self.verdicts += &(line + "\n");
    }

    /// All of it, under what the machine is.
    pub fn finish(&self, machine: &str) -> String {
        format!("{machine}.\n\n| goal | measured | |\n|---|---|---|\n{}{}", self.verdicts, self.body)
    }
}
