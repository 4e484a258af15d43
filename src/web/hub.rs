//! The hub's task: owns the sans-IO `signaling::Hub`, feeds it, and hands its outputs to the connections' queues.

/// Sends to the hub's task; cheap to clone.
#[derive(Clone)]
pub struct HubHandle {}
