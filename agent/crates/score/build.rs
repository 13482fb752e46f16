//! Turns `proto/onnx.proto` into Rust without a protoc on the machine.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Read when it runs: a compiled build script may be shared between checkouts.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let file = root.join("onnx.proto");
    println!("cargo:rerun-if-changed={}", file.display());
    prost_build::Config::new().compile_fds(protox::compile([&file], [&root])?)?;
    Ok(())
}
