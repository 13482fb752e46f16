//! A model: a checked program of operators, shared by all devices, and its evaluation.

use crate::load;
use crate::ops::Op;
use crate::tensor::{Shape, Tensor};

/// The operators that the evaluator has; those of another domain with it in front.
pub fn operators() -> impl Iterator<Item = &'static str> {
    crate::ops::KNOWN.split_ascii_whitespace()
}

/// Rows that are evaluated together.
pub(crate) const CHUNK: usize = 256;
/// Most multiplications and the like for one row, by a rough count.
pub(crate) const MAX_WORK_PER_ROW: u64 = 1 << 19;

/// Why a file can't be used as a model. The text is written for whoever exported it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Not an ONNX file, or a broken one.
    #[error("{0}")]
    Format(String),
    /// Bigger than what is taken.
    #[error("the model is too big: {0}")]
    Limit(String),
    /// An operator outside the closed list.
    #[error(
        "node {node:?} uses operator {operator:?}, which this evaluator doesn't have; export with: {known}"
    )]
    UnknownOperator {
        /// Name of the node.
        node: String,
        /// Its operator, with the domain where it isn't the default.
        operator: String,
        /// What it has.
        known: &'static str,
    },
    /// A node that isn't as its operator wants it.
    #[error("node {node:?} ({operator}): {problem}")]
    Node {
        /// Name of the node.
        node: String,
        /// Its operator.
        operator: String,
        /// What is wrong.
        problem: String,
    },
    /// Input or output of the graph aren't usable.
    #[error("the graph's {0}")]
    Graph(String),
    /// Weights outside the file.
    #[error("tensor {0:?} keeps its data in another file; save the model as one file")]
    ExternalData(String),
}

/// Why rows couldn't be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The shapes of two tensors, or a tensor and its operator, don't fit.
    #[error("{0}")]
    Shape(String),
    /// The rows given are not whole vectors.
    #[error("{values} values are not rows of {inputs}")]
    Rows {
        /// How many values came.
        values: usize,
        /// The model's input width.
        inputs: usize,
    },
    /// More work than a model may make.
    #[error("the model takes more than {MAX_WORK_PER_ROW} operations a row")]
    Work,
}

/// Where an operator's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Constant(usize),
    Slot(usize),
}

/// One operator with its inputs; its output is the slot of its own place + 1 (slot 0 is the input).
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub op: Op,
    pub inputs: Vec<Source>,
}

/// A loaded model. Evaluation doesn't change it, so one serves all devices and threads.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) inputs: usize,
    pub(crate) constants: Vec<Tensor>,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: Source,
}

/// Room for intermediate values, reused from one evaluation to the next.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    slots: Vec<Tensor>,
}

/// What may still be calculated.
pub(crate) struct Budget(pub u64);

impl Budget {
    pub(crate) fn charge(&mut self, work: usize) -> Result<(), EvaluateError> {
        self.0 = self.0.checked_sub(work as u64).ok_or(EvaluateError::Work)?;
        Ok(())
    }
}

impl Model {
    /// Loads and checks an ONNX file.
    ///
    /// # Errors
    /// [`LoadError`] for anything that can't be evaluated later: no other error is left to find then but
    /// a wrong number of values.
    pub fn load(onnx: &[u8]) -> Result<Self, LoadError> {
        load::load(onnx)
    }

    /// How many values a row has.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes that its weights take.
    pub fn weight_bytes(&self) -> usize {
        let constants: usize = self.constants.iter().map(|tensor| tensor.data.len() * 4).sum();
        constants + self.steps.iter().map(|step| step.op.weight_bytes()).sum::<usize>()
    }

    /// Appends one output a row to `out`.
    ///
    /// # Errors
    /// [`EvaluateError::Rows`] when `values` aren't whole rows.
    pub fn evaluate(
        &self,
        values: &[f32],
        out: &mut Vec<f32>,
        workspace: &mut Workspace,
    ) -> Result<(), EvaluateError> {
        if !values.len().is_multiple_of(self.inputs) {
            return Err(EvaluateError::Rows { values: values.len(), inputs: self.inputs });
        }
        for chunk in values.chunks(self.inputs * CHUNK) {
            let rows = chunk.len() / self.inputs;
            let mut budget = Budget(MAX_WORK_PER_ROW * rows as u64);
            self.run(chunk, rows, out, workspace, &mut budget)?;
        }
        Ok(())
    }

    pub(crate) fn run(
        &self,
        values: &[f32],
        rows: usize,
        out: &mut Vec<f32>,
        workspace: &mut Workspace,
        budget: &mut Budget,
    ) -> Result<(), EvaluateError> {
        let slots = &mut workspace.slots;
        slots.resize(self.steps.len() + 1, Tensor::default());
        slots[0].shape = Shape::new(&[rows, self.inputs])?;
        slots[0].data.clear();
        slots[0].data.extend_from_slice(values);
        for (at, step) in self.steps.iter().enumerate() {
            // Sources of a step are slots before its own, so its own can be split off to be written.
            let (before, own) = slots.split_at_mut(at + 1);
            let Some(output) = own.first_mut() else { continue };
            let get = |source: &Source| match source {
                Source::Constant(at) => &self.constants[*at],
                Source::Slot(at) => &before[*at],
            };
            step.op.run(&step.inputs, &get, output, budget)?;
        }
        let result = match self.output {
            Source::Constant(at) => &self.constants[at],
            Source::Slot(at) => &slots[at],
        };
        if result.data.len() != rows || result.shape.sizes().first() != Some(&rows) {
            return Err(EvaluateError::Shape(format!(
                "the output is {:?} for {rows} rows; it must be one number a row",
                result.shape.sizes()
            )));
        }
        out.extend_from_slice(&result.data);
        Ok(())
    }
}
