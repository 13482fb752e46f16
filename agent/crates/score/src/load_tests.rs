//! What a loader must refuse, each with a message that says what to do.

use prost::Message as _;

use crate::onnx::tensor_shape_proto::Dimension;
use crate::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use crate::{EvaluateError, LoadError, Model, Workspace};

fn value(name: &str, width: i64) -> ValueInfoProto {
    let dim = [0, width].map(|dim_value| Dimension { dim_value, ..Dimension::default() }).to_vec();
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

fn node(op_type: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: output.to_owned(),
        op_type: op_type.to_owned(),
        input: input.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn weights(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: data.to_vec(),
        ..TensorProto::default()
    }
}

/// x of [rows, 2] through nodes to "y".
fn graph(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    let (input, output) = (vec![value("x", 2)], vec![value("y", 1)]);
    GraphProto { node, initializer, input, output, ..GraphProto::default() }
}

fn file(graph: GraphProto) -> Vec<u8> {
    let opset = OperatorSetIdProto { domain: String::new(), version: 18 };
    ModelProto { graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() }.encode_to_vec()
}

fn refused(graph: GraphProto) -> String {
    Model::load(&file(graph)).unwrap_err().to_string()
}

fn summed() -> GraphProto {
    let ones = weights("ones", &[2, 1], &[1.0, 1.0]);
    graph(vec![node("MatMul", &["x", "ones"], "y")], vec![ones])
}

#[test]
fn a_small_model_loads_and_gives_one_number_a_row() {
    let model = Model::load(&file(summed())).unwrap();
    let mut out = Vec::new();
    model.evaluate(&[1.0, 2.0, 3.0, 4.0], &mut out, &mut Workspace::default()).unwrap();
    assert_eq!(out, [3.0, 7.0]);
    let short = model.evaluate(&[1.0], &mut out, &mut Workspace::default());
    assert_eq!(short, Err(EvaluateError::Rows { values: 1, inputs: 2 }));
}

#[test]
fn more_rows_than_one_piece_are_evaluated_piece_by_piece() {
    let model = Model::load(&file(summed())).unwrap();
    let values: Vec<f32> = (0..2_000).map(|at| at as f32).collect();
    let mut out = Vec::new();
    model.evaluate(&values, &mut out, &mut Workspace::default()).unwrap();
    assert_eq!(out.len(), 1_000);
    assert_eq!(out[999], 1_998.0 + 1_999.0);
}

#[test]
fn an_unknown_operator_is_named_with_its_node() {
    let refused = refused(graph(vec![node("LSTM", &["x"], "y")], vec![]));
    assert!(refused.contains("\"y\"") && refused.contains("LSTM") && refused.contains("MatMul"), "{refused}");
    let mut other = node("Scaler", &["x"], "y");
    other.domain = "com.example".to_owned();
    assert!(self::refused(graph(vec![other], vec![])).contains("com.example.Scaler"));
}

#[test]
fn weights_in_another_file_are_refused() {
    let mut graph = summed();
    graph.initializer[0].data_location = 1;
    assert_eq!(Model::load(&file(graph)).unwrap_err(), LoadError::ExternalData("ones".to_owned()));
    let mut graph = summed();
    let entry = StringStringEntryProto { key: "location".to_owned(), value: "../../etc/passwd".to_owned() };
    graph.initializer[0].external_data.push(entry);
    assert!(refused(graph).contains("one file"));
}

#[test]
fn shapes_that_do_not_fit_are_found_when_loading() {
    let mut graph = summed();
    graph.initializer[0] = weights("ones", &[3, 1], &[1.0; 3]);
    assert!(refused(graph).contains("1x2 and 3x1"));
    let mut graph = summed();
    graph.initializer[0].dims = vec![2, 2];
    assert!(refused(graph).contains("4 values"));
    let mut graph = summed();
    graph.initializer[0].dims = vec![-2, -1];
    assert!(refused(graph).contains("sizes"));
    let mut graph = summed();
    graph.initializer[0].dims = vec![1 << 40, 1 << 40];
    assert!(refused(graph).contains("not usable"));
}

#[test]
fn an_attribute_that_would_change_the_meaning_is_not_overlooked() {
    let mut odd = node("Gemm", &["x", "ones"], "y");
    odd.attribute.push(AttributeProto { name: "activation".to_owned(), ..AttributeProto::default() });
    let graph = graph(vec![odd], summed().initializer);
    assert!(refused(graph).contains("\"activation\" isn't supported"));
}

#[test]
fn a_name_used_before_it_is_defined_is_refused_so_no_graph_has_a_circle() {
    let nodes = vec![node("Add", &["x", "b"], "a"), node("Relu", &["a"], "b"), node("Relu", &["b"], "y")];
    assert!(refused(graph(nodes, vec![])).contains("defined nowhere before"));
    let nodes = vec![node("Relu", &["x"], "y"), node("Neg", &["x"], "y")];
    assert!(refused(graph(nodes, vec![])).contains("one in use"));
}

#[test]
fn a_model_whose_rows_influence_each_other_is_refused() {
    // The sum over all rows, added to each: it would score a device by its neighbours in the batch.
    let mut over_rows = node("ReduceSum", &["x"], "s");
    let attribute =
        |name: &str, i, ints| AttributeProto { name: name.to_owned(), i, ints, ..Default::default() };
    over_rows.attribute = vec![attribute("axes", 0, vec![0]), attribute("keepdims", 1, vec![])];
    let nodes = vec![over_rows, node("Add", &["x", "s"], "a"), node("MatMul", &["a", "ones"], "y")];
    assert!(refused(graph(nodes, summed().initializer)).contains("rows influence each other"));
}

#[test]
fn an_output_of_another_width_is_refused() {
    assert!(refused(graph(vec![node("Relu", &["x"], "y")], vec![])).contains("one number a row"));
}

#[test]
fn a_model_that_works_too_much_is_refused() {
    let wide = weights("wide", &[2, 1000], &[0.5; 2000]);
    let square = weights("square", &[1000, 1000], &[0.1; 1_000_000]);
    let narrow = weights("narrow", &[1000, 1], &[0.1; 1000]);
    let nodes = vec![
        node("MatMul", &["x", "wide"], "a"),
        node("MatMul", &["a", "square"], "b"),
        node("MatMul", &["b", "narrow"], "y"),
    ];
    let refused = refused(graph(nodes, vec![wide, square, narrow]));
    assert!(refused.contains("too big") && refused.contains("operations a row"), "{refused}");
}

#[test]
fn inputs_and_versions_are_checked() {
    let mut two = summed();
    two.input.push(value("z", 2));
    assert!(refused(two).contains("inputs are 2"));
    let mut open = summed();
    open.input[0] = value("x", 0);
    assert!(refused(open).contains("how many features"));
    let mut old = ModelProto::decode(file(summed()).as_slice()).unwrap();
    old.opset_import[0].version = 3;
    assert!(Model::load(&old.encode_to_vec()).unwrap_err().to_string().contains("operator set 3"));
    assert!(Model::load(b"").unwrap_err().to_string().contains("no graph"));
}

/// (id, mode, yes, no)
type Row<'a> = (i64, &'a str, i64, i64);

/// A forest of one tree with these nodes.
fn tree(nodes: &[Row<'_>]) -> GraphProto {
    let ints = |name: &str, f: &dyn Fn(&Row<'_>) -> i64| AttributeProto {
        name: name.to_owned(),
        ints: nodes.iter().map(f).collect(),
        ..AttributeProto::default()
    };
    let floats = |name: &str, n: usize| AttributeProto {
        name: name.to_owned(),
        floats: vec![0.5; n],
        ..AttributeProto::default()
    };
    let leaves: Vec<i64> = nodes.iter().filter(|node| node.1 == "LEAF").map(|node| node.0).collect();
    let own =
        |name: &str, ints: Vec<i64>| AttributeProto { name: name.to_owned(), ints, ..Default::default() };
    let mut forest = node("TreeEnsembleRegressor", &["x"], "y");
    forest.domain = "ai.onnx.ml".to_owned();
    forest.attribute = vec![
        ints("nodes_treeids", &|_| 0),
        ints("nodes_nodeids", &|node| node.0),
        ints("nodes_featureids", &|_| 1),
        ints("nodes_truenodeids", &|node| node.2),
        ints("nodes_falsenodeids", &|node| node.3),
        floats("nodes_values", nodes.len()),
        AttributeProto {
            name: "nodes_modes".to_owned(),
            strings: nodes.iter().map(|node| node.1.as_bytes().to_vec()).collect(),
            ..AttributeProto::default()
        },
        own("target_treeids", vec![0; leaves.len()]),
        own("target_nodeids", leaves.clone()),
        own("target_ids", vec![0; leaves.len()]),
        floats("target_weights", leaves.len()),
    ];
    graph(vec![forest], vec![])
}

#[test]
fn trees_that_run_in_circles_or_out_of_the_table_are_refused() {
    assert!(
        Model::load(&file(tree(&[(0, "BRANCH_LEQ", 1, 2), (1, "LEAF", 0, 0), (2, "LEAF", 0, 0)]))).is_ok()
    );
    assert!(refused(tree(&[(0, "BRANCH_LEQ", 0, 0)])).contains("two parents"));
    let circle = [(0, "BRANCH_LEQ", 1, 2), (1, "BRANCH_LEQ", 0, 2), (2, "LEAF", 0, 0)];
    assert!(refused(tree(&circle)).contains("two parents"));
    assert!(refused(tree(&[(0, "BRANCH_LEQ", 7, 8)])).contains("doesn't exist"));
    assert!(refused(tree(&[(0, "LEAF", 0, 0), (1, "LEAF", 0, 0)])).contains("can't be reached"));
    assert!(refused(tree(&[(0, "BRANCH_SOMEHOW", 1, 2)])).contains("unknown mode"));
    assert!(refused(tree(&[])).contains("empty"));
}
