//! What the HTTP surface counts since the start: connections by what they speak, handshakes, requests by class.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

/// What a request was about, by its path: never the path itself, which clients choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Page,
    Api,
    WebSocket,
    SocketIo,
    Metrics,
    Health,
}

impl Class {
    pub const ALL: [Self; 6] = [Self::Page, Self::Api, Self::WebSocket, Self::SocketIo, Self::Metrics, Self::Health];

    /// The class of a request for `path`.
    pub fn of(path: &str, is_upgrade: bool) -> Self {
        match path {
            "/socket.io" | "/socket.io/" => Self::SocketIo,
            _ if is_upgrade => Self::WebSocket,
            "/metrics" => Self::Metrics,
            "/healthz" => Self::Health,
            path if path.starts_with("/api/") => Self::Api,
            _ => Self::Page,
        }
    }

    /// As a label.
    pub fn name(self) -> &'static str {
        ["page", "api", "websocket", "socketio", "metrics", "health"][self as usize]
    }
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Done,
    /// It took too long.
    TimedOut,
    /// The client went away within.
    Ended,
    /// The client sent an alert: in most cases it does not trust the certificate.
    Refused,
    /// What it sent was no TLS that we speak.
    Failed,
}

impl Handshake {
    pub const ALL: [Self; 5] = [Self::Done, Self::TimedOut, Self::Ended, Self::Refused, Self::Failed];

    /// The outcome behind an error.
    pub fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::AlertReceived(_)) => Self::Refused,
            Some(_) => Self::Failed,
            None => Self::Ended,
        }
    }

    /// As a label.
    pub fn name(self) -> &'static str {
        ["done", "timed-out", "ended", "refused", "failed"][self as usize]
    }
}

/// Classes of status codes, from 1xx to 5xx.
pub const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Codes of what is refused for want of a right: tokens, origins, keys and the admin token.
const REFUSALS: [&str; 7] = [
    "token-missing",
    "token-invalid",
    "token-expired",
    "token-revoked",
    "origin-refused",
    "key-invalid",
    "login-refused",
];

/// The counters.
#[derive(Debug, Default)]
pub struct Figures {
    refusals: [AtomicU64; REFUSALS.len()],
    accepted: AtomicU64,
    refused: AtomicU64,
    handshakes: [AtomicU64; Handshake::ALL.len()],
    requests: [[AtomicU64; STATUSES.len()]; Class::ALL.len()],
}

impl Figures {
    /// A TCP connection that was taken, or refused because there are too many.
    pub fn count_connection(&self, is_taken: bool) {
        let counter = if is_taken { &self.accepted } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_handshake(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_request(&self, class: Class, status: StatusCode) {
        let status = usize::from(status.as_u16() / 100).clamp(1, STATUSES.len()) - 1;
        self.requests[class as usize][status].fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody was refused with this code; others than those of tokens, origins and keys are not counted.
    pub fn count_refusal(&self, code: &str) {
        if let Some(place) = REFUSALS.iter().position(|known| *known == code) {
            self.refusals[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were refused with each code.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REFUSALS.into_iter().zip(self.refusals.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// TCP connections taken, and refused.
    pub fn connections(&self) -> (u64, u64) {
        (self.accepted.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    pub fn handshakes(&self, outcome: Handshake) -> u64 {
        self.handshakes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Requests of `class`, by [`STATUSES`].
    pub fn requests(&self, class: Class) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = &self.requests[class as usize];
        STATUSES.into_iter().zip(counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_their_places() {
        assert!(Class::ALL.iter().enumerate().all(|(index, class)| *class as usize == index));
        assert!(Handshake::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
        assert_eq!(Class::of("/api/ice", false).name(), "api");
        assert_eq!(Class::of("/any", true).name(), "websocket");
        assert_eq!(Class::of("/socket.io/", true).name(), "socketio");
        let figures = Figures::default();
        figures.count_request(Class::Api, StatusCode::UNAUTHORIZED);
        assert_eq!(figures.requests(Class::Api).find(|(_, count)| *count == 1), Some(("4xx", 1)));
    }
}
