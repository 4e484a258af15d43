//! ConnectionBind (RFC 6062 section 5.4), in two phases: the request is checked, the shell finds the connection.

use super::{BindError, ConnectionId, TcpOutput, Waiting};
use crate::relay::request::fixed;
use crate::relay::response::{ErrorCode, Refusal};
use crate::relay::stun::attr;
use crate::relay::{Exchange, FiveTuple, Output, Relay};

/// A ConnectionBind between its two phases.
pub(in crate::relay) struct Binding {
    tuple: FiveTuple,
    request: Waiting,
}

impl Relay {
    /// The reply comes when the shell has answered.
    pub(in crate::relay) fn connection_bind(&mut self, exchange: &Exchange<'_>) -> Result<(), Refusal> {
        // 1. On a connection over TCP or TLS, which a data connection can become: one that has no allocation.
        let is_control = self.table.find(exchange.tuple).is_some();
        if !exchange.tuple.transport.is_stream() || is_control || self.binding.is_some() {
            return Err(ErrorCode::BadRequest.into());
        }
        // 2. CONNECTION-ID must be there; whether it names a connection is the shell's to know.
        let id = fixed::<4>(exchange.message, attr::CONNECTION_ID)?.ok_or(ErrorCode::BadRequest)?;
        self.binding = Some(Box::new(Binding { tuple: *exchange.tuple, request: Waiting::new(exchange) }));
        let connection = ConnectionId(u32::from_be_bytes(id));
        let subject = exchange.identity.subject.to_arc();
        self.push(Output::Tcp(TcpOutput::Bind { connection, subject }));
        Ok(())
    }

    /// The outcome of a [`TcpOutput::Bind`]. After a success the client's connection carries the peer's bytes and nothing
    /// else, once what the core still has to say is written.
    pub fn connection_bound(&mut self, outcome: Result<(), BindError>) {
        let Some(binding) = self.binding.take() else { return };
        let Binding { tuple, request } = *binding;
        match outcome {
            Ok(()) => {
                let reply = request.succeed(&self.shared.settings.software, |_| {});
                self.reply(&tuple, reply);
            }
            Err(BindError::Unknown) => self.refuse_waiting(&tuple, &request, ErrorCode::BadRequest),
            Err(BindError::WrongOwner) => self.refuse_waiting(&tuple, &request, ErrorCode::WrongCredentials),
        }
    }
}
