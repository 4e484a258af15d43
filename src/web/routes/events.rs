//! `GET /api/admin/events`: what `/admin` shows, once a second, as server-sent events (HTML, section 9.2).

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{self, HeaderValue};
use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};

use super::admin::session;
use super::api::Shared;
use super::reply::{Refused, refuse, too_many};
use crate::clock;
use crate::web::admin::people::{MAX_SEARCH, View};
use crate::web::admin::{MAX_WATCHERS, figures};
use crate::web::desk::query;

/// How often a page is told.
const INTERVAL: Duration = Duration::from_secs(1);
/// What changes seldom is told once in so many times.
const SELDOM: u64 = 10;
/// Pages further back than this are not asked for.
const MAX_PAGE: usize = 10_000;

/// Tells of what `?search=` and `?page=` ask for, until the session ends or the server stops.
pub(super) async fn events(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let answer = || {
        let id = session(&shared.web, &request)?;
        let view = view(&request)?;
        let places = Arc::clone(&shared.web.admin.watchers);
        let Ok(place) = places.try_acquire_owned() else {
            return Err(too_many(&format!("{MAX_WATCHERS} pages watch already: close one")));
        };
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (shared, told, revision, is_over) = (Arc::clone(&shared), 0, 0, false);
        let watcher = Watcher { shared, id, view, interval, told, revision, is_over, _place: place };
        let parts = stream::unfold(watcher, |mut watcher| async move {
            let part = watcher.next().await?;
            Some((Ok::<_, std::convert::Infallible>(part), watcher))
        });
        let mut response = Response::new(Body::from_stream(parts));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // A proxy that collects answers would hold each back until there is enough of them.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    };
    answer().unwrap_or_else(|refused: Refused| *refused)
}

fn view(request: &Request<Body>) -> Result<View, Refused> {
    let search = query(request, "search").unwrap_or_default().trim().to_lowercase();
    let page = query(request, "page").map_or(Ok(0), |page| page.parse());
    match page {
        Ok(page) if page <= MAX_PAGE && search.chars().count() <= MAX_SEARCH => Ok(View { search, page }),
        _ => {
            let message = format!("search has at most {MAX_SEARCH} characters, and page is a number up to {MAX_PAGE}");
            Err(refuse(StatusCode::BAD_REQUEST, "bad-request", &message))
        }
    }
}

/// One page that watches.
struct Watcher {
    shared: Arc<Shared>,
    /// Of its session.
    id: String,
    view: View,
    interval: Interval,
    /// How often it was told.
    told: u64,
    /// Of the failures it was told.
    revision: u64,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// What is to be told next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        self.interval.tick().await;
        let web = &self.shared.web;
        if self.is_over || web.hub.is_closing() {
            return None;
        }
        let mut part = String::new();
        // Watching is using: a page that is shown somewhere stays logged in for as long as a session lasts at most.
        if !web.admin.sessions.is_open(&self.id, &web.live.get().gate.admin(), clock::now().mono) {
            self.is_over = true;
            event(&mut part, "over", &json!({}));
            return Some(part.into());
        }
        if self.told.is_multiple_of(SELDOM) {
            let shared = Arc::clone(&self.shared);
            let server = tokio::task::spawn_blocking(move || figures::server(&shared.web, &shared.tls)).await;
            if let Ok(server) = server {
                event(&mut part, "server", &server);
            }
        }
        self.told += 1;
        event(&mut part, "figures", &figures::figures(web).await);
        event(&mut part, "people", &*web.admin.people(web, &self.view).await);
        if let Some((revision, failures)) = web.admin.failures.since(self.revision) {
            self.revision = revision;
            event(&mut part, "failures", &failures);
        }
        Some(part.into())
    }
}

/// JSON holds no line break outside of its escapes.
fn event(part: &mut String, name: &str, value: &impl Serialize) {
    if let Ok(value) = serde_json::to_string(value) {
        let _ = write!(part, "event: {name}\ndata: {value}\n\n");
    }
}
