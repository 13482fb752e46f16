//! Any bytes as an envelope, signed or not: opened or passed over, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use wire::envelope::{Key, Opened, Sealer};

fuzz_target!(|data: &[u8]| {
    let mut signed = Sealer::of_agent(Some(Key::of_token("a-token-of-some-length")), "edge", [0; 16]);
    assert!(signed.open(data).is_err(), "a signature came out of nothing");
    let mut unsigned = Sealer::of_agent(None, "edge", [0; 16]);
    if let Ok(Opened::Next(frame)) = unsigned.open(data) {
        let _ = wire::v1::FromCollector::decode(&frame[..]);
    }
    // What was sealed comes out as it was, whatever it is.
    let mut collector = Sealer::of_collector(None, "edge", [0; 16]);
    let mut agent = Sealer::of_agent(None, "edge", [0; 16]);
    assert_eq!(agent.open(&collector.seal(data.to_vec())), Ok(Opened::Next(data.to_vec())));
});
