//! Readiness and stop notices for `Type=notify` units; silent elsewhere.

/// Tells systemd that every socket is bound and served.
pub fn ready() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd that the service is on its way out.
pub fn stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}
