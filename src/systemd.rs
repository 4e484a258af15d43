//! Readiness, stop and watchdog notices for `Type=notify` units; silent elsewhere.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells systemd that every socket is bound and served.
pub fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// Tells systemd that the configuration is being read again; [`ready`] ends that.
pub fn reloading() {
    let mut state = vec![NotifyState::Reloading];
    state.extend(NotifyState::monotonic_usec_now());
    let _ = sd_notify::notify(&state);
}

/// Tells systemd that the service is on its way out, which takes up to `time`.
pub fn stopping(time: Duration) {
    let microseconds = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(microseconds)]);
}

/// Within which time systemd wants to hear [`alive`] again; `None` when it does not watch.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|time| !time.is_zero())
}

/// Tells systemd's watchdog that the service works.
pub fn alive() {
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
}
