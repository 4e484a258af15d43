//! Webhooks: tells a back end who joins and leaves, which rooms close and which allocations end. The form is that of
//! Standard Webhooks: `webhook-id`, `webhook-timestamp`, and an HMAC-SHA256 over both and the body.

mod client;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::Notify;

use crate::clock;
use crate::config::Webhook;
use crate::credentials::token::{random_bytes, random_id};
use client::{Client, Outcome};

/// Messages that wait; some half a megabyte. Beyond it the oldest are dropped: the newest say how things are.
const QUEUE: usize = 1024;
/// How often one message is sent before it is given up: with the pauses below, some two minutes.
const ATTEMPTS: u32 = 8;
/// The pause after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the deliveries have come to since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub delivered: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Given up: refused by the receiver, or not taken in time.
    pub failed: u64,
}

/// Takes messages for the receiver; cheap to clone. Without a receiver it takes nothing.
#[derive(Clone, Default)]
pub struct Webhooks {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    /// One is on its way.
    is_sending: bool,
    tally: Tally,
    /// Why the last message was given up.
    last_failure: Option<String>,
}

struct Message {
    id: String,
    body: String,
}

impl Webhooks {
    /// Starts the delivery to `webhook`, if there is one. Fails when its address or the certificates to trust cannot
    /// be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(webhook: Option<&Webhook>) -> anyhow::Result<Self> {
        let Some(webhook) = webhook else { return Ok(Self::default()) };
        let client = Client::new(&webhook.url)?;
        let shared = Arc::new(Shared { queue: Mutex::default(), filled: Notify::new(), emptied: Notify::new() });
        tokio::spawn(deliver(Arc::clone(&shared), client, webhook.secret.clone()));
        Ok(Self { shared: Some(shared) })
    }

    /// True when somebody wants to be told.
    pub fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Queues a message of `kind` (such as `peer.joined`); never waits.
    pub fn tell(&self, kind: &str, data: Value) {
        let Some(shared) = &self.shared else { return };
        let id = format!("msg_{}", random_id());
        let body = json!({ "id": id, "type": kind, "timestamp": clock::now().unix, "data": data }).to_string();
        let mut queue = shared.lock();
        queue.messages.push_back(Message { id, body });
        if queue.messages.len() > QUEUE {
            queue.messages.pop_front();
            queue.tally.dropped += 1;
            let dropped = queue.tally.dropped;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "the webhook's receiver is too slow: the oldest messages are dropped");
            }
        }
        drop(queue);
        shared.filled.notify_one();
    }

    pub fn tally(&self) -> Tally {
        self.shared.as_ref().map_or_else(Tally::default, |shared| shared.lock().tally)
    }

    /// Why the last of those was given up that were not taken.
    pub fn last_failure(&self) -> Option<String> {
        self.shared.as_ref().and_then(|shared| shared.lock().last_failure.clone())
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.lock().messages.len())
    }

    /// Waits until everything queued was delivered or given up, `patience` at most.
    pub async fn finish(&self, patience: Duration) {
        let Some(shared) = &self.shared else { return };
        let emptied = async {
            loop {
                let waiting = shared.emptied.notified();
                let is_idle = {
                    let queue = shared.lock();
                    queue.messages.is_empty() && !queue.is_sending
                };
                if is_idle {
                    return;
                }
                waiting.await;
            }
        };
        if tokio::time::timeout(patience, emptied).await.is_err() {
            tracing::warn!(messages = shared.lock().messages.len(), "webhook messages were not delivered");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> Message {
        loop {
            let filled = self.filled.notified();
            {
                let mut queue = self.lock();
                if let Some(message) = queue.messages.pop_front() {
                    queue.is_sending = true;
                    return message;
                }
            }
            filled.await;
        }
    }

    fn done(&self, sent: Result<(), String>) {
        let mut queue = self.lock();
        queue.is_sending = false;
        match sent {
            Ok(()) => queue.tally.delivered += 1,
            Err(reason) => {
                queue.tally.failed += 1;
                queue.last_failure = Some(reason);
            }
        }
        drop(queue);
        self.emptied.notify_waiters();
    }
}

/// Sends one message after the other, for ever.
async fn deliver(shared: Arc<Shared>, client: Client, secret: Vec<u8>) {
    loop {
        let message = shared.next().await;
        let sent = send(&client, &secret, &message).await;
        shared.done(sent);
    }
}

/// Sends until the receiver takes it; why not, when it refuses it or the attempts are used up.
async fn send(client: &Client, secret: &[u8], message: &Message) -> Result<(), String> {
    let mut attempt = 1;
    loop {
        let timestamp = clock::now().unix;
        let signature = sign(secret, &message.id, timestamp, &message.body);
        let reason = match client.post(&message.id, timestamp, &signature, &message.body).await {
            Outcome::Taken => return Ok(()),
            Outcome::Refused(reason) => {
                tracing::warn!(
                    receiver = client.host(),
                    id = message.id,
                    reason,
                    "the webhook's receiver refuses a message"
                );
                return Err(reason);
            }
            Outcome::Failed(reason) => reason,
        };
        if attempt == ATTEMPTS {
            tracing::warn!(receiver = client.host(), id = message.id, reason, "a webhook message is given up");
            return Err(reason);
        }
        tracing::debug!(receiver = client.host(), id = message.id, attempt, reason, "webhook not delivered yet");
        tokio::time::sleep(pause(attempt, random_bytes::<1>()[0])).await;
        attempt += 1;
    }
}

/// The pause after failure number `attempt`: doubled each time, and shortened by up to a half at random, so that the
/// servers of one receiver do not come back all at once.
fn pause(attempt: u32, random: u8) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << (attempt - 1).min(16)).min(LONGEST_PAUSE);
    full - full.mul_f64(f64::from(random) / 512.0)
}

/// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
fn sign(secret: &[u8], id: &str, timestamp: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_of_the_specification() {
        // The example of the Standard Webhooks libraries.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_vary() {
        assert_eq!(pause(1, 0), Duration::from_secs(1));
        assert_eq!(pause(4, 0), Duration::from_secs(8));
        assert_eq!(pause(30, 0), LONGEST_PAUSE);
        assert!(pause(1, 255) > Duration::from_millis(500) && pause(1, 255) < pause(1, 1));
    }

    #[tokio::test]
    async fn a_receiver_that_is_gone_costs_bounded_memory() {
        let url = "http://127.0.0.1:9/".to_owned();
        let webhooks = Webhooks::start(Some(&Webhook { url, secret: vec![1; 32] })).expect("started");
        for number in 0..QUEUE + 100 {
            webhooks.tell("peer.joined", json!({ "number": number }));
        }
        let shared = webhooks.shared.as_ref().expect("on");
        let queue = shared.lock();
        assert!(queue.messages.len() <= QUEUE && queue.tally.dropped >= 99, "{:?}", queue.tally);
        let newest = queue.messages.back().expect("kept");
        assert!(newest.body.contains(&format!("\"number\":{}", QUEUE + 99)), "{}", newest.body);
    }
}
