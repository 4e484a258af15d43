//! `/metrics`: for the administrator on every port, for anybody on the `--metrics` listener.

mod parts;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::Web;
use crate::metrics::{self, CONTENT_TYPE, Page, process};

/// Scrapers at a time; further ones wait.
const CONNECTIONS: usize = 32;
/// How long a scraper may keep its connection, which it may use again and again.
const CONNECTION: Duration = Duration::from_secs(300);
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(30);
/// How long the hub may take to count.
const HUB: Duration = Duration::from_secs(1);
/// Pause after a failed accept, so that the loop does not spin.
const BACKOFF: Duration = Duration::from_millis(100);

/// The page: the figures of every part of the server.
pub async fn page(web: &Web) -> String {
    // A hub that does not answer is a finding of its own; the other figures tell more about it.
    let stats = tokio::time::timeout(HUB, web.hub.stats()).await.unwrap_or_default();
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.gauge("build_info", "The running version").sample(&[("version", version)], 1);
    metrics::relay(&mut page, &web.net.snapshot());
    parts::shards(&mut page, &web.net);
    parts::signaling(&mut page, &web.hub, &stats);
    parts::http(&mut page, &web.figures);
    parts::certificates(&mut page, &web.identity, web.acme.as_deref());
    parts::webhooks(&mut page, &web.webhooks);
    process::write(&mut page);
    page.finish()
}

/// The page as an answer.
pub async fn answer(web: &Web) -> Response<Body> {
    let mut response = Response::new(Body::from(page(web).await));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Serves the page on its own listener until `stop`.
pub async fn serve(web: Arc<Web>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let web = Arc::clone(&web);
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION, connection(web, stream)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection for metrics");
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

async fn connection(web: Arc<Web>, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let web = Arc::clone(&web);
        async move { Ok::<_, Infallible>(respond(&web, &request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection for metrics ended");
    }
}

async fn respond(web: &Web, request: &Request<Incoming>) -> Response<Body> {
    let status = match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => return answer(web).await,
        ("/metrics", _) => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Body::from("only GET /metrics is served here\n"));
    *response.status_mut() = status;
    response
}
