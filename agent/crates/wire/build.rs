//! Turns `proto/telemetryx/v1/link.proto` into Rust without a protoc on the machine.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Read when it runs: a compiled build script may be shared between checkouts.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../../proto");
    let file = root.join("telemetryx/v1/link.proto");
    println!("cargo:rerun-if-changed={}", file.display());
    let descriptors = protox::compile([&file], [&root])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_client(std::env::var_os("CARGO_FEATURE_GRPC").is_some())
        .build_transport(false)
        // A payload is handed from the spool to the socket without a copy.
        .bytes(".telemetryx.v1.Batch.payload")
        .bytes(".telemetryx.v1.Batch.definitions")
        .bytes(".telemetryx.v1.Part.data")
        .compile_fds(descriptors)?;
    Ok(())
}
