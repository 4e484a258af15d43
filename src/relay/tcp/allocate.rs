//! What an Allocate for TCP must not ask for (RFC 6062 section 5.1).

use crate::relay::Relay;
use crate::relay::request::AllocateRequest;
use crate::relay::response::ErrorCode;
use crate::relay::types::FiveTuple;

impl Relay {
    /// Whether a TCP relayed address may be asked for so.
    pub(in crate::relay) fn check_tcp(&self, tuple: &FiveTuple, request: &AllocateRequest) -> Result<(), ErrorCode> {
        // 1. It is served at all: as any unknown protocol otherwise.
        if self.shared.settings.tcp_connections == 0 {
            return Err(ErrorCode::UnsupportedTransportProtocol);
        }
        // 2. The client is connected over TCP or TLS.
        if !tuple.transport.is_stream() {
            return Err(ErrorCode::BadRequest);
        }
        // 3. DONT-FRAGMENT, EVEN-PORT and RESERVATION-TOKEN are for datagrams.
        if request.dont_fragment || request.even_port.is_some() || request.reservation.is_some() {
            return Err(ErrorCode::BadRequest);
        }
        Ok(())
    }
}
