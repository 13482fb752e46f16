//! The closed list of operators. Each file holds one kind; this one dispatches.

mod build;
mod elementwise;
mod matrix;
mod reduce;
mod shape;
mod trees;

pub(crate) use build::{Node, build};
pub(crate) use elementwise::{Binary, Unary};
pub(crate) use reduce::Fold;
pub(crate) use trees::Forest;

use crate::EvaluateError;
use crate::model::{Budget, Source};
use crate::tensor::Tensor;

/// What the evaluator has, for messages and for the exporter's whitelist.
pub(crate) const KNOWN: &str = "Abs Add ArgMax ArgMin Cast Clip Concat Div Exp Gemm Identity Log MatMul Max \
    Min Mul Neg ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape \
    Sigmoid Sqrt Sub Tanh ai.onnx.ml.Scaler ai.onnx.ml.TreeEnsembleRegressor";

/// One operator with its attributes.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Unary(Unary),
    Binary(Binary),
    /// Max or Min of any number of inputs.
    Many(Binary),
    Clip {
        min: f32,
        max: f32,
    },
    MatMul,
    Gemm {
        alpha: f32,
        beta: f32,
        transposed_a: bool,
        transposed_b: bool,
    },
    /// No axes: all of them.
    Reduce {
        fold: Fold,
        axes: Vec<i64>,
        keep: bool,
    },
    Arg {
        largest: bool,
        axis: i64,
        keep: bool,
    },
    Concat {
        axis: i64,
    },
    Reshape {
        sizes: Vec<i64>,
    },
    Scaler {
        offset: Vec<f32>,
        scale: Vec<f32>,
    },
    Trees(Forest),
}

impl Op {
    /// Calculates the output from the inputs.
    pub(crate) fn run<'a>(
        &self,
        inputs: &[Source],
        get: &impl Fn(&Source) -> &'a Tensor,
        out: &mut Tensor,
        budget: &mut Budget,
    ) -> Result<(), EvaluateError> {
        let input = |at: usize| {
            inputs.get(at).map(get).ok_or_else(|| EvaluateError::Shape(format!("input {at} is missing")))
        };
        match self {
            Self::Unary(unary) => elementwise::unary(*unary, input(0)?, out, budget),
            Self::Binary(binary) => elementwise::binary(*binary, input(0)?, input(1)?, out, budget),
            Self::Many(binary) => {
                out.copy_from(input(0)?);
                for at in 1..inputs.len() {
                    let left = std::mem::take(out);
                    elementwise::binary(*binary, &left, input(at)?, out, budget)?;
                }
                Ok(())
            }
            Self::Clip { min, max } => elementwise::clip(*min, *max, input(0)?, out, budget),
            Self::MatMul => matrix::matmul(input(0)?, input(1)?, out, budget),
            Self::Gemm { alpha, beta, transposed_a, transposed_b } => {
                let addend = if inputs.len() > 2 { Some((*beta, input(2)?)) } else { None };
                let (a, b) = (input(0)?, input(1)?);
                matrix::gemm(*alpha, (a, *transposed_a), (b, *transposed_b), addend, out, budget)
            }
            Self::Reduce { fold, axes, keep } => reduce::reduce(*fold, axes, *keep, input(0)?, out, budget),
            Self::Arg { largest, axis, keep } => reduce::arg(*largest, *axis, *keep, input(0)?, out, budget),
            Self::Concat { axis } => {
                let parts = inputs.iter().map(get).collect::<Vec<_>>();
                shape::concat(*axis, &parts, out, budget)
            }
            Self::Reshape { sizes } => shape::reshape(sizes, input(0)?, out, budget),
            Self::Scaler { offset, scale } => elementwise::scaler(offset, scale, input(0)?, out, budget),
            Self::Trees(forest) => forest.run(input(0)?, out, budget),
        }
    }

    /// Bytes of weights that aren't constants of the model.
    pub(crate) fn weight_bytes(&self) -> usize {
        match self {
            Self::Scaler { offset, scale } => (offset.len() + scale.len()) * 4,
            Self::Trees(forest) => forest.bytes(),
            _ => 0,
        }
    }
}
