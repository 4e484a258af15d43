//! What the fuzz targets run, one function for each. `tests/fuzz_seeds.rs` of the main package compiles this file as
//! well and runs every committed seed through it, without a fuzzer.

mod codec;
mod live;
mod operations;
mod relay;
#[path = "../../tests/relay_common/mod.rs"]
mod relay_common;
mod signaling;
mod socketio;

pub use codec::{stream_framing, stun_build, stun_parse};
pub use live::live_message;
pub use operations::relay_operations;
pub use relay::{relay_authenticated, relay_unauthenticated};
pub use signaling::{native_message, socketio_packet};
pub use socketio::socketio_sessions;

/// Reads an input as a row of steps: whatever the fuzzer makes of it means something.
struct Steps<'a> {
    rest: &'a [u8],
}

impl<'a> Steps<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Zero behind the end.
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Bytes with their length before them, as many as there are.
    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.number()).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        bytes
    }
}
