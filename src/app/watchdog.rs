//! systemd's watchdog hears from us only while every UDP thread and the hub answer.

use std::sync::Arc;
use std::time::Duration;

use crate::systemd;
use crate::web::Web;

/// Answers to the watchdog, three times within the time that it grants, until the process ends.
pub(super) async fn run(web: Arc<Web>, grants: Duration) {
    let period = grants / 3;
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        match tokio::time::timeout(period, answers(&web)).await {
            Ok(true) => systemd::alive(),
            Ok(false) | Err(_) => {
                tracing::error!("the relay's threads or the hub do not answer: systemd restarts us if that lasts");
            }
        }
    }
}

async fn answers(web: &Web) -> bool {
    web.net.answers().await && web.hub.answers().await
}
