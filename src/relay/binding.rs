//! Binding (RFC 8489 section 3): the client learns its server-reflexive address.

use super::event::ReplyBytes;
use super::response::{Asked, Refusal, close, refusal};
use super::stun::{Message, attr};
use super::types::FiveTuple;
use super::{Relay, request};
use crate::time::Now;

impl Relay {
    /// Answered without credentials, with the address alone: everything more would be amplification.
    pub(super) fn binding(&mut self, now: Now, tuple: &FiveTuple, message: &Message<'_>) {
        match self.shared.settings.alternate.filter(|alternate| alternate.serves(tuple)) {
            Some(alternate) => self.discover(now, tuple, message, alternate),
            None => self.reply_to_stranger(now, tuple, message, |core| core.binding_reply(tuple, message)),
        }
    }

    fn binding_reply(&mut self, tuple: &FiveTuple, message: &Message<'_>) -> Option<ReplyBytes> {
        let asked = Asked::of(message);
        match request::refuse_unknown(message, &[]) {
            Ok(()) => {
                let mut success = asked.success();
                success.xor_address(attr::XOR_MAPPED_ADDRESS, tuple.client);
                close(&asked, success, None)
            }
            Err(unknown) => {
                self.note_refused(tuple, message.method, Refusal::code(&unknown));
                refusal(&asked, &unknown, None)
            }
        }
    }
}
