//! Values as people read and write them.

use std::time::Duration;

use crate::config::parse;

/// Parses a lifetime of 1 second to 10 years.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    parse::duration_within(1, 10 * 365 * 86400)(text)
}

/// A room or stream name as `PROTOCOL.md` has it, or `*` for any.
pub fn room(text: &str) -> Result<String, String> {
    if text == "*" { Ok(text.into()) } else { name(text) }
}

/// 1 to 64 characters that need no escaping in a URL.
pub fn name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.into());
    }
    Err("write 1 to 64 of A-Z a-z 0-9 . _ ~ -".into())
}

/// A display name: up to 64 characters, none of them a control character.
pub fn display_name(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text.into()) } else { Err("write 1 to 64 characters".into()) }
}

/// A moment as `2026-01-31 12:00:00 UTC`; `unix` in seconds.
pub fn utc(unix: u64) -> String {
    let (days, time) = (unix / 86400, unix % 86400);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", time / 3600, time / 60 % 60, time % 60)
}

/// The Gregorian date `days` after 1970-01-01. Years start in March here, so that the leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_400_YEARS: u64 = 146_097;
    // From 0000-03-01 on.
    let days = days + 719_468;
    let era = days / DAYS_PER_400_YEARS;
    let day_of_era = days % DAYS_PER_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A duration in its largest whole unit: `24 hours`, `90 seconds`.
pub fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0 => (0, "second"),
        _ if seconds.is_multiple_of(86400) => (seconds / 86400, "day"),
        _ if seconds.is_multiple_of(3600) => (seconds / 3600, "hour"),
        _ if seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        // As `date -u -d @N` prints them.
        for (unix, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_763_690_096, "2025-11-21 01:54:56 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(unix), text);
        }
        assert_eq!((span(86400).as_str(), span(7200).as_str(), span(61).as_str()), ("1 day", "2 hours", "61 seconds"));
    }

    #[test]
    fn names_and_rooms() {
        assert!(room("*").is_ok() && room("blue-fox_42.~").is_ok());
        assert!(room("").is_err() && room("a/b").is_err() && room("**").is_err() && room(&"a".repeat(65)).is_err());
        assert!(name("*").is_err() && display_name("Zoë the 1st").is_ok() && display_name("a\nb").is_err());
    }
}
