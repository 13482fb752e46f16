//! No bytes make the evaluator panic, run away or take much memory: files mutated at random, cut and joined.

use score::{Model, Workspace};

const FILES: [(&str, &[u8]); 4] = [
    ("host", include_bytes!("../../../../models/default/host.onnx")),
    ("autoencoder", include_bytes!("models/autoencoder.onnx")),
    ("forest", include_bytes!("models/forest.onnx")),
    ("operators", include_bytes!("models/operators.onnx")),
];

/// A generator that needs no crate and gives the same mutations everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Loads, and evaluates what loads: whatever comes of it must be a result or an error.
fn try_out(bytes: &[u8]) -> bool {
    let Ok(model) = Model::load(bytes) else { return false };
    let rows: Vec<f32> = (0..3 * model.inputs()).map(|at| at as f32 * 0.37 - 2.0).collect();
    let mut out = Vec::new();
    let evaluated = model.evaluate(&rows, &mut out, &mut Workspace::default());
    assert!(evaluated.is_ok() && out.len() == 3, "a model that loads can be evaluated: {evaluated:?}");
    let odd = model.evaluate(&[f32::NAN, f32::INFINITY, f32::MIN], &mut out, &mut Workspace::default());
    assert!(odd.is_ok() || model.inputs() != 3);
    true
}

#[test]
fn twenty_thousand_mutations_of_each_model_give_a_result_or_an_error() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (name, file) in FILES {
        let mut loaded = 0;
        for _ in 0..20_000 {
            let mut bytes = file.to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match random.below(6) {
                    0 => bytes[at] = random.next() as u8,
                    1 => bytes[at] ^= 1 << random.below(8),
                    2 => bytes.truncate(at.max(1)),
                    3 => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
                    4 => bytes.insert(at, random.next() as u8),
                    _ => {
                        let from = random.below(bytes.len());
                        let piece = bytes[from..(from + random.below(64)).min(bytes.len())].to_vec();
                        bytes.splice(at..at, piece);
                    }
                }
                if bytes.is_empty() {
                    break;
                }
            }
            loaded += u32::from(try_out(&bytes));
        }
        assert!(loaded > 0, "{name}: some mutations only change a weight and must still load");
    }
}

#[test]
fn every_cut_of_a_model_is_refused() {
    for (name, file) in FILES {
        assert!(try_out(file), "{name}");
        for end in 0..file.len().min(2_000) {
            // A cut behind the graph leaves a whole graph without its operator sets, which is readable.
            let _ = try_out(&file[..end]);
        }
        assert!(Model::load(&file[..file.len() / 2]).is_err(), "{name}");
    }
}
