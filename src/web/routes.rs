//! HTTP: what every request passes (proxies, host, redirect, upgrade), and the paths (DESIGN section 7).

mod admin;
mod api;
mod backend;
mod cors;
mod events;
mod openapi;
mod pages;
mod peers;
mod policy;
mod qr;
mod reply;

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use axum::http::header::UPGRADE;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::routing::{get, post};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::assets::Assets;
use super::figures::Class;
use super::socketio::{self, Pages};
use super::tls::Tls;
use super::{Connection, Web, websocket};
use policy::Verdict;

/// A connection as the front saw it.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub connection: Connection,
    /// Plain HTTP is served without a redirect: an `--http` listener, or one bound to loopback.
    pub serves_plain: bool,
}

/// Everything that answers HTTP.
pub struct Site {
    pub web: Arc<Web>,
    pub tls: Arc<Tls>,
    assets: Assets,
    socketio: Arc<socketio::Mount<Pages>>,
    /// Fixed at start: a public chain and no plain HTTP anywhere.
    hsts: bool,
    router: Router,
}

impl Site {
    /// The site of `web`. Fails when the static directory of the configuration cannot be opened.
    pub fn new(web: Arc<Web>, tls: Arc<Tls>) -> std::io::Result<Self> {
        let assets = Assets::new(web.config().static_dir.as_deref())?;
        let hsts = policy::wants_hsts(&web);
        let shared = Arc::new(api::Shared { web: Arc::clone(&web), tls: Arc::clone(&tls) });
        let pages = Arc::new(pages::Pages { web: Arc::clone(&web), assets: assets.clone() });
        let api = Router::new()
            .route("/api/ice", get(api::ice).options(api::ice_links))
            .route("/api/turn", get(api::turn).options(api::preflight))
            .route("/api/tokens", post(backend::tokens))
            .route("/api/credentials", post(backend::credentials))
            .route("/api/revoke", post(backend::revoke))
            .route("/api/peers/{id}", get(peers::usage).options(api::preflight))
            .route("/api/qr", post(qr::draw))
            .route("/api/admin/session", get(admin::show).post(admin::log_in).delete(admin::log_out))
            .route("/api/admin/events", get(events::events))
            .route("/api/admin/kick", post(admin::kick))
            .route("/api/admin/revoke", post(admin::revoke))
            .route("/api/admin/room", post(admin::room))
            .route("/api/openapi.json", get(openapi::document))
            .route("/metrics", get(backend::metrics))
            .route("/ca.crt", get(api::authority))
            .route("/.well-known/acme-challenge/{token}", get(api::challenge))
            .route("/healthz", get(api::health))
            .with_state(shared);
        let router = Router::new()
            .route("/", get(pages::home))
            .route("/call/{room}", get(pages::call))
            .route("/live/{stream}", get(pages::live))
            .route("/live/{stream}/studio", get(pages::studio))
            .route("/socket.io/{file}", get(pages::socketio_client))
            .fallback(pages::file)
            .with_state(pages)
            .merge(api)
            .method_not_allowed_fallback(reply::method_not_allowed);
        let socketio = socketio::pages(Arc::clone(&web));
        Ok(Self { web, tls, assets, socketio, hsts, router })
    }

    /// Where pages come from.
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// Answers one request; a handler that panics costs a 500, not the connection.
    pub fn answer(
        self: &Arc<Self>,
        arrival: Arrival,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
        let site = Arc::clone(self);
        async move {
            let class = Class::of(request.uri().path(), is_upgrade(request.headers()));
            let answered = unpanicked(site.dispatch(arrival, request.map(Body::new))).await;
            let mut response = answered.unwrap_or_else(|| {
                policy::refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed; its log tells more")
            });
            policy::add_security_headers(&mut response, site.hsts);
            site.web.figures.count_request(class, response.status());
            Ok(response)
        }
    }

    async fn dispatch(&self, mut arrival: Arrival, mut request: Request<Body>) -> Response<Body> {
        policy::apply_proxy_headers(&self.web.config(), &mut arrival.connection, request.headers());
        let connection = arrival.connection.clone();
        tracing::debug!(client = %connection.client, method = %request.method(), path = request.uri().path(), "request");
        match policy::check(&self.web, &arrival, &request) {
            Verdict::Serve => {}
            Verdict::Answer(response) => return *response,
        }
        if matches!(request.uri().path(), "/socket.io" | "/socket.io/") {
            return Arc::clone(&self.socketio).answer(connection, request).await;
        }
        if is_upgrade(request.headers()) {
            return websocket::upgrade(Arc::clone(&self.web), connection, request).await;
        }
        request.extensions_mut().insert(connection);
        let Ok(response) = TowerToHyperService::new(self.router.clone()).call(request).await;
        response
    }
}

/// Runs `future` to its end; `None` when it panicked.
async fn unpanicked<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_no_answer_but_no_end_either() {
        assert_eq!(unpanicked(async { 1 }).await, Some(1));
        assert_eq!(unpanicked(async { panic!("as a broken handler would") }).await, None::<()>);
    }
}
