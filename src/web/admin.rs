//! What `/admin` shows and does: sessions, the figures of the moment, who is here, and the latest failures. The paths are
//! in `routes/admin.rs`.

pub mod failures;
pub mod figures;
pub mod people;
pub mod sessions;

use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore, watch};

use super::Web;
use crate::clock;
use crate::time::Mono;
use failures::Failures;
use people::{Before, View};
use serde_json::Value;
use sessions::Sessions;

/// Pages that watch at a time.
pub const MAX_WATCHERS: usize = 16;
/// Relayed addresses and peers from which on people are looked at every [`SELDOM`] milliseconds only: each look makes
/// every shard and the hub go through all of theirs.
const MANY: usize = 10_000;
const SELDOM: u64 = 5_000;
/// Least time between two looks, in milliseconds, however many pages watch.
const OFTEN: u64 = 950;

/// The state behind the page.
pub struct Admin {
    pub sessions: Sessions,
    pub failures: Failures,
    /// Places for pages that watch.
    pub watchers: Arc<Semaphore>,
    people: Mutex<Looks>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            failures: Failures::default(),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            people: Mutex::default(),
        }
    }
}

/// The last looks at people: one for each view, since pages look at different parts.
#[derive(Default)]
struct Looks {
    kept: Vec<Look>,
}

struct Look {
    view: View,
    at: Mono,
    told: Arc<Value>,
    before: Before,
}

impl Admin {
    /// The people and rooms of `view`, at most a second old.
    pub async fn people(&self, web: &Web, view: &View) -> Arc<Value> {
        // One look at a time: the others wait for it, and find theirs done when they want the same.
        let mut looks = self.people.lock().await;
        let now = clock::now().mono;
        let pause = if web.net.allocations() + web.hub.connections() > MANY { SELDOM } else { OFTEN };
        let known = looks.kept.iter().position(|look| look.view == *view);
        let mut before = Before::default();
        if let Some(known) = known {
            let is_fresh = (now - looks.kept[known].at).as_millis() < u128::from(pause);
            if is_fresh {
                return Arc::clone(&looks.kept[known].told);
            }
            before = looks.kept.swap_remove(known).before;
        }
        let told = Arc::new(people::look(web, view, &mut before).await);
        if looks.kept.len() >= MAX_WATCHERS {
            looks.kept.remove(0);
        }
        looks.kept.push(Look { view: view.clone(), at: now, told: Arc::clone(&told), before });
        told
    }
}

/// Looks at the counters for what failed, until `stopped`.
pub async fn watch(web: Arc<Web>, mut stopped: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(failures::INTERVAL);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = interval.tick() => web.admin.failures.look(&web, clock::now().unix),
        }
    }
}
