//! Writes `proto/vectors/`: payloads with the values that every reader must find in them, and payloads
//! that every reader must refuse. `cargo run -p wire --example vectors -- DIR`.
//!
//! `frames.json` holds whole frames, with what becomes of their times.
//!
//! Payloads are partly written by the encoder and partly by hand, byte for byte as proto/README.md
//! draws them: a reader must take forms that this encoder never chooses. The expected values of both
//! kinds come from here and not from a decoder.

#![allow(clippy::print_stdout, reason = "a program that says what it wrote")]

#[path = "vectors/bad.rs"]
mod bad;
#[path = "vectors/byhand.rs"]
mod byhand;
#[path = "vectors/expect.rs"]
mod expect;
#[path = "vectors/frames.rs"]
mod frames;
#[path = "vectors/good.rs"]
mod good;

use std::path::PathBuf;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: vectors DIR")?);
    std::fs::create_dir_all(&dir)?;
    for entry in std::fs::read_dir(&dir)? {
        let path = entry?.path();
        // Numbered ones are written anew; others (the envelopes') were made elsewhere.
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let ours = name.trim_start_matches("bad-").starts_with(|first: char| first.is_ascii_digit());
        if ours && path.extension().is_some_and(|extension| extension == "batch" || extension == "json") {
            std::fs::remove_file(path)?;
        }
    }
    let good = good::vectors()?;
    for (at, vector) in good.iter().enumerate() {
        let stem = format!("{:02}-{}", at + 1, vector.name);
        std::fs::write(dir.join(format!("{stem}.batch")), &vector.payload)?;
        std::fs::write(dir.join(format!("{stem}.json")), expect::json(vector))?;
    }
    let bad = bad::vectors()?;
    for (at, vector) in bad.iter().enumerate() {
        let stem = format!("bad-{:02}-{}", at + 1, vector.name);
        std::fs::write(dir.join(format!("{stem}.batch")), &vector.payload)?;
        let about = expect::quoted(vector.about);
        let text = format!("{{\n \"about\": {about},\n \"refusal\": \"{}\"\n}}\n", vector.refusal);
        std::fs::write(dir.join(format!("{stem}.json")), text)?;
    }
    std::fs::write(dir.join("frames.json"), frames::json(&frames::frames()?))?;
    println!("{} payloads and {} refusals written to {}", good.len(), bad.len(), dir.display());
    Ok(())
}
