#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::socketio_sessions(data));
