//! Readiness, stop and watchdog notices for `Type=notify` units; silent elsewhere.

/// Tells systemd that every socket is bound and served.
pub fn ready() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd that the service is on its way out.
pub fn stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}

/// Tells systemd that the process is alive, twice per `WatchdogSec=`, for as long as the runtime has turns to give.
/// Returns at once where no watchdog is set.
pub async fn keep_alive() {
    let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero()) else { return };
    let mut interval = tokio::time::interval(patience / 2);
    loop {
        interval.tick().await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }
}
