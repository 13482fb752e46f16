//! From the bytes of an ONNX file to a checked program. All that can be wrong is found here.

use std::collections::HashMap;

use prost::Message as _;

use crate::model::{Budget, CHUNK, MAX_WORK_PER_ROW, Source, Step};
use crate::onnx::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use crate::ops::{self, Node};
use crate::tensor::{Shape, Tensor};
use crate::{EvaluateError, LoadError, Model, Workspace, scan};

const FLOAT: i32 = 1;
const INT64: i32 = 7;
/// Widest input.
const MAX_INPUTS: i64 = 1024;

pub(crate) fn load(onnx: &[u8]) -> Result<Model, LoadError> {
    scan::check(onnx)?;
    let file = ModelProto::decode(onnx)
        .map_err(|error| LoadError::Format(format!("the file is not an ONNX model: {error}")))?;
    for opset in &file.opset_import {
        let known = match opset.domain.as_str() {
            "" | "ai.onnx" => 9..=26,
            "ai.onnx.ml" => 1..=5,
            // Declared and not used does no harm; a use is refused by its operator.
            _ => continue,
        };
        if !known.contains(&opset.version) {
            return Err(LoadError::Format(format!(
                "operator set {} of {:?}; this evaluator reads {} to {}",
                opset.version,
                opset.domain,
                known.start(),
                known.end()
            )));
        }
    }
    let graph = file.graph.ok_or_else(|| LoadError::Format("the file holds no graph".to_owned()))?;
    let model = Program::read(&graph)?;
    prove(&model)?;
    Ok(model)
}

/// Names of the graph and where their values are.
#[derive(Default)]
struct Program {
    constants: Vec<Tensor>,
    whole: HashMap<String, Vec<i64>>,
    names: HashMap<String, Source>,
    steps: Vec<Step>,
}

impl Program {
    fn read(graph: &GraphProto) -> Result<Model, LoadError> {
        let mut program = Self::default();
        for tensor in &graph.initializer {
            program.initializer(tensor)?;
        }
        let inputs = program.input(graph)?;
        for (at, proto) in graph.node.iter().enumerate() {
            let float = |name: &str| match program.names.get(name) {
                Some(Source::Constant(at)) => match program.constants[*at].data.as_slice() {
                    [value] => Some(*value),
                    _ => None,
                },
                _ => None,
            };
            let node = Node { proto, whole: &program.whole, float: &float };
            let (op, values) = ops::build(&node)?;
            let sources = proto.input.iter().take(values).map(|name| {
                program.names.get(name).copied().ok_or_else(|| {
                    node.fail(format!("input {name:?} is defined nowhere before it, or isn't a float"))
                })
            });
            let inputs = sources.collect::<Result<Vec<_>, _>>()?;
            let [output] = proto.output.as_slice() else {
                return Err(node.fail(format!("{} outputs; it gives one", proto.output.len())));
            };
            if output.is_empty() || program.names.contains_key(output) {
                return Err(node.fail(format!("output {output:?} has no name or one in use")));
            }
            program.steps.push(Step { op, inputs });
            program.names.insert(output.clone(), Source::Slot(at + 1));
        }
        let output = program.output(graph)?;
        Ok(Model { inputs, constants: program.constants, steps: program.steps, output })
    }

    fn initializer(&mut self, tensor: &TensorProto) -> Result<(), LoadError> {
        let name = &tensor.name;
        let refused = |problem: String| LoadError::Graph(format!("initializer {name:?} {problem}"));
        if tensor.data_location != 0 || !tensor.external_data.is_empty() {
            return Err(LoadError::ExternalData(name.clone()));
        }
        if name.is_empty() || self.names.contains_key(name) || self.whole.contains_key(name) {
            return Err(refused("has no name or one in use".to_owned()));
        }
        let sizes = tensor.dims.iter().map(|size| usize::try_from(*size)).collect::<Result<Vec<_>, _>>();
        let sizes = sizes.map_err(|_| refused(format!("has sizes {:?}", tensor.dims)))?;
        let shape = Shape::new(&sizes).map_err(|error| refused(format!("is not usable: {error}")))?;
        let raw = &tensor.raw_data;
        let n = match tensor.data_type {
            FLOAT => {
                let data: Vec<f32> = match raw.is_empty() {
                    true => tensor.float_data.clone(),
                    false => raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
                };
                let n = data.len();
                self.names.insert(name.clone(), Source::Constant(self.constants.len()));
                self.constants.push(Tensor { shape, data });
                if raw.len().is_multiple_of(4) { n } else { usize::MAX }
            }
            INT64 => {
                let data: Vec<i64> = match raw.is_empty() {
                    true => tensor.int64_data.clone(),
                    false => raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
                };
                let n = data.len();
                self.whole.insert(name.clone(), data);
                if raw.len().is_multiple_of(8) { n } else { usize::MAX }
            }
            other => return Err(refused(format!("has type {other}; float (1) and int64 (7) are taken"))),
        };
        if n != shape.len() {
            return Err(refused(format!("doesn't hold the {} values of its shape", shape.len())));
        }
        Ok(())
    }

    /// The one input that isn't an initializer: rows of floats, of a known width.
    fn input(&mut self, graph: &GraphProto) -> Result<usize, LoadError> {
        let known = |name: &str| self.names.contains_key(name) || self.whole.contains_key(name);
        let open: Vec<&ValueInfoProto> = graph.input.iter().filter(|input| !known(&input.name)).collect();
        let [input] = open.as_slice() else {
            return Err(LoadError::Graph(format!("inputs are {}; there must be one", open.len())));
        };
        let refused = |problem: &str| LoadError::Graph(format!("input {:?} {problem}", input.name));
        let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let tensor = tensor.filter(|tensor| tensor.elem_type == FLOAT);
        let tensor = tensor.ok_or_else(|| refused("is no tensor of floats"))?;
        let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
        let [_, width] = dims else { return Err(refused("doesn't have the shape [rows, features]")) };
        if !(1..=MAX_INPUTS).contains(&width.dim_value) {
            return Err(refused("must say how many features it has, 1 to 1024"));
        }
        self.names.insert(input.name.clone(), Source::Slot(0));
        Ok(width.dim_value as usize)
    }

    fn output(&self, graph: &GraphProto) -> Result<Source, LoadError> {
        let [output] = graph.output.as_slice() else {
            return Err(LoadError::Graph(format!("outputs are {}; there must be one", graph.output.len())));
        };
        self.names
            .get(&output.name)
            .copied()
            .ok_or_else(|| LoadError::Graph(format!("output {:?} is defined nowhere", output.name)))
    }
}

/// Runs the model on invented rows: one, the most that are ever run together, and two that must
/// give together what each gives alone.
fn prove(model: &Model) -> Result<(), LoadError> {
    let as_load_error = |error: EvaluateError| match error {
        EvaluateError::Work => LoadError::Limit(error.to_string()),
        other => LoadError::Graph(format!("shapes don't fit: {other}")),
    };
    let mut workspace = Workspace::default();
    let mut run = |values: &[f32]| {
        let rows = values.len() / model.inputs;
        let mut out = Vec::new();
        let mut budget = Budget(MAX_WORK_PER_ROW * rows as u64);
        model.run(values, rows, &mut out, &mut workspace, &mut budget).map_err(as_load_error)?;
        Ok::<_, LoadError>(out)
    };
    let first: Vec<f32> = (0..model.inputs).map(|at| 0.25 + (at % 7) as f32 / 8.0).collect();
    let second: Vec<f32> = first.iter().map(|value| -1.5 * value).collect();
    let alone = [run(&first)?, run(&second)?].concat();
    let together = run(&[first, second].concat())?;
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    if bits(&alone) != bits(&together) {
        return Err(LoadError::Graph("rows influence each other; each must be scored by itself".to_owned()));
    }
    run(&vec![0.0; model.inputs * CHUNK])?;
    Ok(())
}
