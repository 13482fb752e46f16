//! From a node of the file to an operator: attributes read, checked, and none left unread.

use std::collections::HashMap;

use super::trees::{Aggregate, Compare, Forest, MAX_DEPTH, MAX_TREE_NODES, TreeNode};
use super::{Binary, Fold, KNOWN, Op, Unary};
use crate::LoadError;
use crate::onnx::{AttributeProto, NodeProto};

/// A node, with the whole-number constants of the graph at hand.
pub(crate) struct Node<'a> {
    pub proto: &'a NodeProto,
    pub whole: &'a HashMap<String, Vec<i64>>,
    pub float: &'a dyn Fn(&str) -> Option<f32>,
}

impl Node<'_> {
    pub(crate) fn fail(&self, problem: impl Into<String>) -> LoadError {
        LoadError::Node {
            node: self.proto.name.clone(),
            operator: self.proto.op_type.clone(),
            problem: problem.into(),
        }
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|attribute| attribute.name == name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    fn number(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |attribute| attribute.f)
    }

    fn ints(&self, name: &str) -> &[i64] {
        self.attribute(name).map_or(&[], |attribute| &attribute.ints)
    }

    fn floats(&self, name: &str) -> &[f32] {
        self.attribute(name).map_or(&[], |attribute| &attribute.floats)
    }

    fn word<'b>(&'b self, name: &str, default: &'b str) -> &'b str {
        self.attribute(name).map_or(default, |attribute| std::str::from_utf8(&attribute.s).unwrap_or("?"))
    }

    /// No attribute may change the meaning unseen.
    fn only(&self, names: &[&str]) -> Result<(), LoadError> {
        match self.proto.attribute.iter().find(|attribute| !names.contains(&attribute.name.as_str())) {
            Some(other) => Err(self.fail(format!("attribute {:?} isn't supported", other.name))),
            None => Ok(()),
        }
    }

    fn inputs(&self, least: usize, most: usize) -> Result<(), LoadError> {
        let n = self.proto.input.len();
        if (least..=most).contains(&n) {
            Ok(())
        } else {
            Err(self.fail(format!("{n} inputs; it takes {least} to {most}")))
        }
    }

    /// The whole numbers of an input, which must be a constant of the file.
    fn constant(&self, at: usize) -> Result<Option<Vec<i64>>, LoadError> {
        match self.proto.input.get(at).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(name) => match self.whole.get(name) {
                Some(values) => Ok(Some(values.clone())),
                None => Err(self.fail(format!("input {name:?} must be an int64 initializer"))),
            },
        }
    }

    fn limit(&self, at: usize, attribute: &str, default: f32) -> Result<f32, LoadError> {
        match self.proto.input.get(at).map(String::as_str) {
            None | Some("") => Ok(self.number(attribute, default)),
            Some(name) => (self.float)(name)
                .ok_or_else(|| self.fail(format!("input {name:?} must be a float initializer of one value"))),
        }
    }
}

/// The operator, and how many of the node's inputs are values (the others are parameters).
pub(crate) fn build(node: &Node<'_>) -> Result<(Op, usize), LoadError> {
    let proto = node.proto;
    match (proto.domain.as_str(), proto.op_type.as_str()) {
        ("" | "ai.onnx", name) => plain(node, name),
        ("ai.onnx.ml", "Scaler") => scaler(node),
        ("ai.onnx.ml", "TreeEnsembleRegressor") => Ok((Op::Trees(forest(node)?), 1)),
        (domain, name) => Err(unknown(node, &format!("{domain}.{name}"))),
    }
}

fn unknown(node: &Node<'_>, operator: &str) -> LoadError {
    LoadError::UnknownOperator { node: node.proto.name.clone(), operator: operator.to_owned(), known: KNOWN }
}

fn plain(node: &Node<'_>, name: &str) -> Result<(Op, usize), LoadError> {
    let all = node.proto.input.len();
    if let Some(unary) = unary(name) {
        node.only(&[])?;
        node.inputs(1, 1)?;
        return Ok((Op::Unary(unary), 1));
    }
    if let Some(fold) = fold(name) {
        return Ok((reduce(node, fold)?, 1));
    }
    let op = match name {
        "Add" | "Sub" | "Mul" | "Div" => {
            node.only(&[])?;
            node.inputs(2, 2)?;
            let op = match name {
                "Add" => Binary::Add,
                "Sub" => Binary::Sub,
                "Mul" => Binary::Mul,
                _ => Binary::Div,
            };
            (Op::Binary(op), 2)
        }
        "Max" | "Min" => {
            node.only(&[])?;
            node.inputs(1, 64)?;
            (Op::Many(if name == "Max" { Binary::Max } else { Binary::Min }), all)
        }
        "MatMul" => {
            node.only(&[])?;
            node.inputs(2, 2)?;
            (Op::MatMul, 2)
        }
        "Gemm" => {
            node.only(&["alpha", "beta", "transA", "transB"])?;
            node.inputs(2, 3)?;
            let op = Op::Gemm {
                alpha: node.number("alpha", 1.0),
                beta: node.number("beta", 1.0),
                transposed_a: node.int("transA", 0) != 0,
                transposed_b: node.int("transB", 0) != 0,
            };
            (op, all)
        }
        "ArgMin" | "ArgMax" => {
            node.only(&["axis", "keepdims", "select_last_index"])?;
            node.inputs(1, 1)?;
            if node.int("select_last_index", 0) != 0 {
                return Err(node.fail("select_last_index isn't supported"));
            }
            let (largest, keep) = (name == "ArgMax", node.int("keepdims", 1) != 0);
            (Op::Arg { largest, axis: node.int("axis", 0), keep }, 1)
        }
        "Cast" => {
            node.only(&["to", "saturate"])?;
            node.inputs(1, 1)?;
            if node.int("to", 0) != 1 {
                return Err(node.fail(format!("to = {}; only 1 (float) is supported", node.int("to", 0))));
            }
            (Op::Unary(Unary::Identity), 1)
        }
        "Clip" => {
            node.only(&["min", "max"])?;
            node.inputs(1, 3)?;
            let (min, max) = (node.limit(1, "min", f32::MIN)?, node.limit(2, "max", f32::MAX)?);
            (Op::Clip { min, max }, 1)
        }
        "Concat" => {
            node.only(&["axis"])?;
            node.inputs(1, 64)?;
            (Op::Concat { axis: node.int("axis", 0) }, all)
        }
        "Reshape" => {
            node.only(&["allowzero"])?;
            node.inputs(2, 2)?;
            if node.int("allowzero", 0) != 0 {
                return Err(node.fail("allowzero isn't supported"));
            }
            (Op::Reshape { sizes: node.constant(1)?.unwrap_or_default() }, 1)
        }
        other => return Err(unknown(node, other)),
    };
    Ok(op)
}

fn unary(name: &str) -> Option<Unary> {
    Some(match name {
        "Abs" => Unary::Abs,
        "Exp" => Unary::Exp,
        "Identity" => Unary::Identity,
        "Log" => Unary::Log,
        "Neg" => Unary::Neg,
        "Relu" => Unary::Relu,
        "Sigmoid" => Unary::Sigmoid,
        "Sqrt" => Unary::Sqrt,
        "Tanh" => Unary::Tanh,
        _ => return None,
    })
}

fn fold(name: &str) -> Option<Fold> {
    Some(match name {
        "ReduceL1" => Fold::L1,
        "ReduceL2" => Fold::L2,
        "ReduceMax" => Fold::Max,
        "ReduceMean" => Fold::Mean,
        "ReduceMin" => Fold::Min,
        "ReduceSum" => Fold::Sum,
        "ReduceSumSquare" => Fold::SumSquare,
        _ => return None,
    })
}

fn reduce(node: &Node<'_>, fold: Fold) -> Result<Op, LoadError> {
    node.only(&["axes", "keepdims", "noop_with_empty_axes"])?;
    node.inputs(1, 2)?;
    let axes = match node.constant(1)? {
        Some(axes) => axes,
        None => node.ints("axes").to_vec(),
    };
    if axes.len() > crate::tensor::MAX_RANK {
        return Err(node.fail(format!("{} axes", axes.len())));
    }
    if axes.is_empty() && node.int("noop_with_empty_axes", 0) != 0 {
        return Err(node.fail("noop_with_empty_axes isn't supported"));
    }
    Ok(Op::Reduce { fold, axes, keep: node.int("keepdims", 1) != 0 })
}

fn scaler(node: &Node<'_>) -> Result<(Op, usize), LoadError> {
    node.only(&["offset", "scale"])?;
    node.inputs(1, 1)?;
    let (offset, scale) = (node.floats("offset").to_vec(), node.floats("scale").to_vec());
    if offset.is_empty() || scale.is_empty() {
        return Err(node.fail("offset and scale must be given"));
    }
    Ok((Op::Scaler { offset, scale }, 1))
}

const FOREST: [&str; 17] = [
    "aggregate_function",
    "base_values",
    "n_targets",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "post_transform",
    "target_ids",
    "target_nodeids",
    "target_treeids",
    "target_weights",
];

fn forest(node: &Node<'_>) -> Result<Forest, LoadError> {
    node.only(&FOREST)?;
    node.inputs(1, 1)?;
    if node.int("n_targets", 1) != 1 || node.ints("target_ids").iter().any(|id| *id != 0) {
        return Err(node.fail("only one target is supported"));
    }
    if !matches!(node.word("post_transform", "NONE"), "NONE") {
        return Err(node.fail("post_transform isn't supported"));
    }
    let aggregate = match node.word("aggregate_function", "SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(node.fail(format!("aggregate_function {other:?}"))),
    };
    let base = match node.floats("base_values") {
        [] => 0.0,
        [base] => *base,
        _ => return Err(node.fail("more than one of base_values")),
    };
    Table::read(node)?.flatten(node, aggregate, base)
}

/// The node table as the file has it.
struct Table<'a> {
    trees: &'a [i64],
    features: &'a [i64],
    values: &'a [f32],
    yes: &'a [i64],
    no: &'a [i64],
    missing: &'a [i64],
    modes: &'a [Vec<u8>],
    /// (tree, node id) to place in the table.
    places: HashMap<(i64, i64), usize>,
    /// (tree, node id) to the leaf's weight.
    weights: HashMap<(i64, i64), f32>,
    ids: &'a [i64],
}

impl<'a> Table<'a> {
    fn read(node: &'a Node<'_>) -> Result<Self, LoadError> {
        let (trees, ids) = (node.ints("nodes_treeids"), node.ints("nodes_nodeids"));
        let n = trees.len();
        if n > MAX_TREE_NODES {
            return Err(node.fail(format!("{n} tree nodes; at most {MAX_TREE_NODES} are taken")));
        }
        let modes = node.attribute("nodes_modes").map_or(&[][..], |attribute| &attribute.strings);
        let table = Self {
            trees,
            features: node.ints("nodes_featureids"),
            values: node.floats("nodes_values"),
            yes: node.ints("nodes_truenodeids"),
            no: node.ints("nodes_falsenodeids"),
            missing: node.ints("nodes_missing_value_tracks_true"),
            modes,
            places: trees.iter().copied().zip(ids.iter().copied()).zip(0..).collect(),
            weights: weights(node)?,
            ids,
        };
        let lengths = [
            ids.len(),
            table.features.len(),
            table.values.len(),
            table.yes.len(),
            table.no.len(),
            modes.len(),
        ];
        if n == 0 || lengths.iter().any(|length| *length != n) {
            return Err(node.fail("the columns of the node table differ in length, or are empty"));
        }
        if !table.missing.is_empty() && table.missing.len() != n {
            return Err(node.fail("nodes_missing_value_tracks_true differs in length"));
        }
        if table.places.len() != n {
            return Err(node.fail("two tree nodes have the same number"));
        }
        Ok(table)
    }

    /// Copies each tree, from its first node in the table, with children behind their parent.
    fn flatten(&self, node: &Node<'_>, aggregate: Aggregate, base: f32) -> Result<Forest, LoadError> {
        let mut forest =
            Forest { nodes: Vec::new(), roots: Vec::new(), depth: 0, features: 0, aggregate, base };
        let mut used = vec![false; self.trees.len()];
        for at in 0..self.trees.len() {
            if at == 0 || self.trees[at] != self.trees[at - 1] {
                forest.roots.push(forest.nodes.len() as u32);
                self.tree(node, at, &mut forest, &mut used)?;
            }
        }
        if used.contains(&false) {
            return Err(node.fail("a tree node can't be reached from its root"));
        }
        Ok(forest)
    }

    fn tree(
        &self,
        node: &Node<'_>,
        root: usize,
        forest: &mut Forest,
        used: &mut [bool],
    ) -> Result<(), LoadError> {
        // (place in the table, depth, the flat parent and whether it is its yes side)
        let mut todo = vec![(root, 0_usize, None::<(usize, bool)>)];
        while let Some((at, depth, parent)) = todo.pop() {
            if std::mem::replace(&mut used[at], true) {
                return Err(node.fail("a tree node has two parents"));
            }
            if depth > MAX_DEPTH {
                return Err(node.fail(format!("a tree is deeper than {MAX_DEPTH}")));
            }
            forest.depth = forest.depth.max(depth);
            let flat = forest.nodes.len();
            if let Some((parent, is_yes)) = parent {
                let parent = &mut forest.nodes[parent];
                *(if is_yes { &mut parent.yes } else { &mut parent.no }) = flat as u32;
            }
            let tree = self.trees[at];
            let compare = match self.modes[at].as_slice() {
                b"LEAF" => {
                    let weight = self.weights.get(&(tree, self.ids[at]));
                    let value = *weight.ok_or_else(|| node.fail("a leaf has no weight"))?;
                    let compare = Compare::Leq;
                    let (yes, no, feature, missing_yes) = (0, 0, 0, false);
                    forest.nodes.push(TreeNode { value, yes, no, feature, compare, missing_yes });
                    continue;
                }
                b"BRANCH_LEQ" => Compare::Leq,
                b"BRANCH_LT" => Compare::Lt,
                b"BRANCH_GTE" => Compare::Gte,
                b"BRANCH_GT" => Compare::Gt,
                b"BRANCH_EQ" => Compare::Eq,
                b"BRANCH_NEQ" => Compare::Neq,
                _ => return Err(node.fail("a tree node of an unknown mode")),
            };
            let feature = u16::try_from(self.features[at])
                .map_err(|_| node.fail(format!("feature {} of a tree node", self.features[at])))?;
            forest.features = forest.features.max(usize::from(feature) + 1);
            let missing_yes = self.missing.get(at).is_some_and(|missing| *missing != 0);
            forest.nodes.push(TreeNode {
                value: self.values[at],
                yes: 0,
                no: 0,
                feature,
                compare,
                missing_yes,
            });
            for (id, is_yes) in [(self.no[at], false), (self.yes[at], true)] {
                let child = self.places.get(&(tree, id));
                let child = *child.ok_or_else(|| node.fail("a tree node's child doesn't exist"))?;
                todo.push((child, depth + 1, Some((flat, is_yes))));
            }
        }
        Ok(())
    }
}

fn weights(node: &Node<'_>) -> Result<HashMap<(i64, i64), f32>, LoadError> {
    let (trees, ids) = (node.ints("target_treeids"), node.ints("target_nodeids"));
    let values = node.floats("target_weights");
    if trees.len() != values.len() || ids.len() != values.len() {
        return Err(node.fail("the columns of the target table differ in length"));
    }
    let table: HashMap<_, _> =
        trees.iter().copied().zip(ids.iter().copied()).zip(values.iter().copied()).collect();
    if table.len() != values.len() {
        return Err(node.fail("a leaf has two weights"));
    }
    Ok(table)
}
