//! QR codes of links: as a picture for pages, as text for terminals. Always dark on white with the quiet zone that the
//! standard asks for (ISO/IEC 18004 section 5.3.8), so that a phone scans them off a dark page or terminal as well.

use std::fmt::Write;

use fast_qr::qr::QRCode;
use fast_qr::{ECL, QRBuilder};

/// Longest text of a code, in bytes: more takes modules too small for the camera of a phone.
pub const MAX_TEXT: usize = 1024;
/// Modules of white around a code.
const QUIET: usize = 4;

/// The code of `text` as an SVG picture; `None` when it is empty or longer than [`MAX_TEXT`].
pub fn svg(text: &str) -> Option<String> {
    let code = code(text)?;
    let side = code.size + 2 * QUIET;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path fill=\"#000\" d=\""
    );
    for row in 0..code.size {
        let mut column = 0;
        while column < code.size {
            let run = (column..code.size).take_while(|column| is_dark(&code, row, *column)).count();
            if run > 0 {
                let _ = write!(svg, "M{} {}h{run}v1h-{run}z", column + QUIET, row + QUIET);
            }
            column += run.max(1);
        }
    }
    svg.push_str("\"/></svg>");
    Some(svg)
}

/// The code of `text` for a terminal, two rows of modules to a line; `None` as for [`svg`]. It brings its own colours,
/// since a code whose light and dark are exchanged is not scanned by every phone.
pub fn terminal(text: &str) -> Option<String> {
    const BLACK_ON_WHITE: &str = "\x1b[30;107m";
    const RESET: &str = "\x1b[0m";
    let code = code(text)?;
    let side = code.size + 2 * QUIET;
    let mut lines = String::new();
    for row in (0..side).step_by(2) {
        lines.push_str(BLACK_ON_WHITE);
        for column in 0..side {
            let dark = |row: usize| {
                let inside = row.checked_sub(QUIET).zip(column.checked_sub(QUIET));
                inside.is_some_and(|(row, column)| is_dark(&code, row, column))
            };
            lines.push(match (dark(row), dark(row + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        lines.push_str(RESET);
        lines.push('\n');
    }
    Some(lines)
}

/// With the least redundancy, for the largest modules: a screen has no stains.
fn code(text: &str) -> Option<QRCode> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return None;
    }
    QRBuilder::new(text).ecl(ECL::L).build().ok()
}

/// False outside of the code.
fn is_dark(code: &QRCode, row: usize, column: usize) -> bool {
    row < code.size && column < code.size && code[row][column].value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an independent reader makes of a picture, given as rows of modules.
    fn read(rows: &[Vec<bool>]) -> String {
        // As a camera would see it: four pixels to a module.
        const SCALE: usize = 4;
        let side = rows.len() * SCALE;
        let mut image = rqrr::PreparedImage::prepare_from_bitmap(side, side, |x, y| rows[y / SCALE][x / SCALE]);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "one code is found");
        grids[0].decode().expect("readable").1
    }

    /// The rows of what [`svg`] draws, by its own path.
    fn rows_of_svg(svg: &str) -> Vec<Vec<bool>> {
        let side: usize =
            svg.split("0 0 ").nth(1).and_then(|rest| rest.split(' ').next()).expect("size").parse().expect("a number");
        let mut rows = vec![vec![false; side]; side];
        let path = svg.rsplit("d=\"").next().expect("a path");
        for run in path.split('M').skip(1) {
            let (start, rest) = run.split_once('h').expect("a run");
            let (column, row) = start.split_once(' ').expect("a start");
            let (column, row): (usize, usize) = (column.parse().expect("column"), row.parse().expect("row"));
            let len: usize = rest.split('v').next().expect("length").parse().expect("a number");
            rows[row][column..column + len].fill(true);
        }
        rows
    }

    fn rows_of_terminal(text: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in text.lines() {
            let blocks =
                line.strip_prefix("\x1b[30;107m").and_then(|line| line.strip_suffix("\x1b[0m")).expect("colours");
            rows.push(blocks.chars().map(|block| matches!(block, '█' | '▀')).collect());
            rows.push(blocks.chars().map(|block| matches!(block, '█' | '▄')).collect::<Vec<_>>());
        }
        // A code has an odd number of rows.
        rows.pop();
        rows
    }

    #[test]
    fn an_independent_reader_reads_what_was_written() {
        let link = "https://call.example.org:8443/call/blue-fox-42#t=eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiIxIn0.x-_";
        let long = "é".repeat(MAX_TEXT / 2);
        for text in [link, "7", "12345678", "HTTPS://A.B/C", long.as_str()] {
            assert_eq!(read(&rows_of_svg(&svg(text).expect("drawn"))), text);
            assert_eq!(read(&rows_of_terminal(&terminal(text).expect("drawn"))), text);
        }
    }

    #[test]
    fn every_length_has_a_code_and_nothing_beyond() {
        for unit in ["1", "A", "a"] {
            for len in 1..=MAX_TEXT / 64 {
                assert!(svg(&unit.repeat(len * 64 - 1)).is_some(), "{unit} {len}");
            }
        }
        assert_eq!(svg(""), None);
        assert_eq!(svg(&"a".repeat(MAX_TEXT + 1)), None);
        assert_eq!(terminal(&"a".repeat(MAX_TEXT + 1)), None);
    }

    #[test]
    fn the_picture_brings_its_own_colours_and_nothing_active() {
        let svg = svg("https://a.example/<script>alert(1)</script>").expect("drawn");
        assert!(svg.contains("fill=\"#fff\"") && svg.contains("fill=\"#000\""), "{svg}");
        assert!(!svg.contains("currentColor") && !svg.contains("script"), "{svg}");
    }
}
