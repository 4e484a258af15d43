//! The fuzz targets' entry points over every committed seed (`fuzz/seeds/<target>/*`), with the compiler at hand.

#[path = "../fuzz/src/lib.rs"]
mod entries;

use std::path::Path;

/// A target by the name of its seeds' folder, and what it feeds them to.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 10] = [
    ("live_message", entries::live_message),
    ("native_message", entries::native_message),
    ("relay_authenticated", entries::relay_authenticated),
    ("relay_operations", entries::relay_operations),
    ("relay_unauthenticated", entries::relay_unauthenticated),
    ("socketio_packet", entries::socketio_packet),
    ("socketio_sessions", entries::socketio_sessions),
    ("stream_framing", entries::stream_framing),
    ("stun_build", entries::stun_build),
    ("stun_parse", entries::stun_parse),
];

#[test]
fn every_seed_passes() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut found: Vec<_> =
        std::fs::read_dir(&seeds).expect("seeds").map(|entry| entry.expect("entry").file_name()).collect();
    found.sort();
    assert_eq!(found, TARGETS.map(|(name, _)| name), "a folder for each target");
    for (name, run) in TARGETS {
        let mut count = 0;
        for entry in std::fs::read_dir(seeds.join(name)).expect("a folder") {
            let path = entry.expect("entry").path();
            let data = std::fs::read(&path).expect("a file");
            println!("{}", path.display());
            run(&data);
            // Cut anywhere it is still input.
            (0..data.len()).step_by(1 + data.len() / 64).for_each(|end| run(&data[..end]));
            count += 1;
        }
        assert!(count > 0, "{name} has seeds");
    }
}
