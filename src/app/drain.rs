//! The stop: no new work, then the calls that are going on, then the requests, then the end.

use std::time::Duration;

use super::App;
use crate::systemd;

/// How often a stopping server looks whether its allocations and signaling connections are gone.
const POLL: Duration = Duration::from_millis(10);
/// How long a stopping server waits for the webhook's receiver, and for requests when `drain_timeout` went to calls.
const LAST_WORDS: Duration = Duration::from_secs(3);

impl App {
    /// Stops: no more connections, allocations and joins; pages are told; allocations end (at most `drain_timeout`);
    /// then signaling connections, requests under way, shards.
    pub async fn stop(self) {
        let patience = self.web.config().drain_timeout;
        systemd::stopping(patience + 3 * LAST_WORDS);
        let allocations = self.web.net.allocations();
        tracing::info!(allocations, seconds = patience.as_secs(), "stopping");
        let _ = self.stop.send(true);
        self.web.net.drain();
        let is_needed = allocations > 0 && !patience.is_zero();
        if is_needed {
            self.calls(patience).await;
        }
        let hub = self.web.hub.clone();
        let ended = async {
            // Pages get their notice before the requests under way are waited for.
            hub.shutdown().await;
            self.alive.ended().await;
            while hub.connections() > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        let patience = if is_needed || patience.is_zero() { LAST_WORDS } else { patience };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!(seconds = patience.as_secs(), "requests were still under way");
        }
        let _ = self.keeping.stop.send(true);
        let _ = self.keeping.task.await;
        let net = self.web.net.clone();
        // It waits for threads.
        let _ = tokio::task::spawn_blocking(move || net.stop()).await;
        self.webhooks.finish(LAST_WORDS).await;
        tracing::info!("stopped");
    }

    /// Waits for the allocations that are there to end.
    async fn calls(&self, patience: Duration) {
        self.web.hub.drain(patience.as_secs()).await;
        let ended = async {
            while self.web.net.allocations() > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            let allocations = self.web.net.allocations();
            tracing::warn!(allocations, seconds = patience.as_secs(), "calls were still going on: see drain_timeout");
        }
    }
}
