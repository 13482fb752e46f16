//! Products of matrices, row by row so that the inner loop runs along memory.

use crate::EvaluateError;
use crate::model::Budget;
use crate::tensor::{Shape, Tensor};

pub(crate) fn matmul(
    a: &Tensor,
    b: &Tensor,
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    product((a, false), (b, false), out, budget)
}

pub(crate) fn gemm(
    alpha: f32,
    a: (&Tensor, bool),
    b: (&Tensor, bool),
    addend: Option<(f32, &Tensor)>,
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    product(a, b, out, budget)?;
    if alpha != 1.0 {
        out.data.iter_mut().for_each(|value| *value *= alpha);
    }
    let Some((beta, c)) = addend else { return Ok(()) };
    if out.shape.broadcast(&c.shape)? != out.shape {
        return Err(EvaluateError::Shape(format!(
            "Gemm's C of {:?} doesn't fit {:?}",
            c.shape.sizes(),
            out.shape.sizes()
        )));
    }
    budget.charge(out.data.len())?;
    let (_, columns) = out.matrix("Gemm")?;
    let [_, _, c_rows, c_columns] = c.shape.padded();
    for (at, row) in out.data.chunks_mut(columns.max(1)).enumerate() {
        for (column, value) in row.iter_mut().enumerate() {
            let c_row = if c_rows == 1 { 0 } else { at };
            let c_column = if c_columns == 1 { 0 } else { column };
            *value += beta * c.data[c_row * c_columns + c_column];
        }
    }
    Ok(())
}

fn product(
    (a, transposed_a): (&Tensor, bool),
    (b, transposed_b): (&Tensor, bool),
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    let (a_rows, a_columns) = a.matrix("a product")?;
    let (b_rows, b_columns) = b.matrix("a product")?;
    let (rows, inner) = if transposed_a { (a_columns, a_rows) } else { (a_rows, a_columns) };
    let (b_inner, columns) = if transposed_b { (b_columns, b_rows) } else { (b_rows, b_columns) };
    if inner != b_inner {
        return Err(EvaluateError::Shape(format!(
            "a product of {rows}x{inner} and {b_inner}x{columns} matrices"
        )));
    }
    out.reset(Shape::new(&[rows, columns])?);
    // Below 2^60: each side has at most 2^20 elements.
    budget.charge(rows.saturating_mul(inner).saturating_mul(columns))?;
    for (at, row) in out.data.chunks_mut(columns.max(1)).enumerate() {
        for k in 0..inner {
            let left = if transposed_a { a.data[k * a_columns + at] } else { a.data[at * a_columns + k] };
            if transposed_b {
                for (column, value) in row.iter_mut().enumerate() {
                    *value += left * b.data[column * b_columns + k];
                }
            } else {
                let right = &b.data[k * b_columns..(k + 1) * b_columns];
                row.iter_mut().zip(right).for_each(|(value, right)| *value += left * right);
            }
        }
    }
    Ok(())
}
