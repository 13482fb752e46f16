//! Decision forests: `ai.onnx.ml.TreeEnsembleRegressor` with one target.
//!
//! The file's node table is copied into one array a forest, children behind their parent, so that a walk
//! goes forward through memory and can't run in circles.

use crate::EvaluateError;
use crate::model::Budget;
use crate::tensor::{Shape, Tensor};

/// Most nodes of all trees together.
pub(crate) const MAX_TREE_NODES: usize = 1 << 18;
/// Deepest tree.
pub(crate) const MAX_DEPTH: usize = 64;

/// How a node compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
}

/// How the trees' results become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Average,
    Max,
    Min,
    Sum,
}

/// One node. A leaf has `yes == 0` and its weight in `value`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TreeNode {
    pub value: f32,
    pub yes: u32,
    pub no: u32,
    pub feature: u16,
    pub compare: Compare,
    /// A value that isn't a number goes to `yes`.
    pub missing_yes: bool,
}

/// All trees of one operator.
#[derive(Clone, Debug)]
pub(crate) struct Forest {
    pub nodes: Vec<TreeNode>,
    /// Where each tree begins.
    pub roots: Vec<u32>,
    /// Depth of the deepest tree.
    pub depth: usize,
    /// One more than the highest feature asked for.
    pub features: usize,
    pub aggregate: Aggregate,
    pub base: f32,
}

impl Forest {
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<TreeNode>()
    }

    pub(crate) fn run(&self, x: &Tensor, out: &mut Tensor, budget: &mut Budget) -> Result<(), EvaluateError> {
        let (rows, columns) = x.matrix("TreeEnsembleRegressor")?;
        if columns < self.features {
            return Err(EvaluateError::Shape(format!(
                "the trees ask for {} features of {columns}",
                self.features
            )));
        }
        budget.charge(rows.saturating_mul(self.roots.len()).saturating_mul(self.depth + 1))?;
        out.reset(Shape::new(&[rows, 1])?);
        for (row, result) in x.data.chunks(columns.max(1)).zip(&mut out.data) {
            *result = self.one(row);
        }
        Ok(())
    }

    fn one(&self, row: &[f32]) -> f32 {
        let leaves = self.roots.iter().map(|root| self.leaf(*root, row));
        let joined = match self.aggregate {
            Aggregate::Sum => leaves.sum::<f32>(),
            Aggregate::Average => leaves.sum::<f32>() / self.roots.len() as f32,
            Aggregate::Min => leaves.fold(f32::INFINITY, f32::min),
            Aggregate::Max => leaves.fold(f32::NEG_INFINITY, f32::max),
        };
        joined + self.base
    }

    fn leaf(&self, root: u32, row: &[f32]) -> f32 {
        let mut at = root as usize;
        // Children lie behind their parent, so this ends; indices were checked at loading.
        loop {
            let node = &self.nodes[at];
            if node.yes == 0 {
                return node.value;
            }
            let value = row[usize::from(node.feature)];
            let yes = match node.compare {
                Compare::Leq => value <= node.value,
                Compare::Lt => value < node.value,
                Compare::Gte => value >= node.value,
                Compare::Gt => value > node.value,
                Compare::Eq => value == node.value,
                Compare::Neq => value != node.value,
            };
            at = if yes || (node.missing_yes && value.is_nan()) { node.yes } else { node.no } as usize;
        }
    }
}
