//! Operators that work value by value. Functions come from `libm`, so that a score doesn't depend on
//! the platform's.

use crate::EvaluateError;
use crate::model::Budget;
use crate::tensor::{MAX_RANK, Tensor};

/// Of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Abs,
    Exp,
    Identity,
    Log,
    Neg,
    Relu,
    Sigmoid,
    Sqrt,
    Tanh,
}

/// Of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Div,
    Max,
    Min,
    Mul,
    Sub,
}

/// A function of `libm` counts as this many additions.
const FUNCTION: usize = 8;

pub(crate) fn unary(
    unary: Unary,
    x: &Tensor,
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    budget.charge(x.data.len() * FUNCTION)?;
    out.copy_from(x);
    let f: fn(f32) -> f32 = match unary {
        Unary::Identity => return Ok(()),
        Unary::Abs => f32::abs,
        Unary::Exp => libm::expf,
        Unary::Log => libm::logf,
        Unary::Neg => |x| -x,
        Unary::Relu => |x| if x < 0.0 { 0.0 } else { x },
        Unary::Sigmoid => |x| 1.0 / (1.0 + libm::expf(-x)),
        Unary::Sqrt => f32::sqrt,
        Unary::Tanh => libm::tanhf,
    };
    out.data.iter_mut().for_each(|value| *value = f(*value));
    Ok(())
}

fn largest(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

fn smallest(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

pub(crate) fn binary(
    binary: Binary,
    a: &Tensor,
    b: &Tensor,
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    match binary {
        Binary::Add => stretch(a, b, out, budget, |a, b| a + b),
        Binary::Div => stretch(a, b, out, budget, |a, b| a / b),
        Binary::Max => stretch(a, b, out, budget, largest),
        Binary::Min => stretch(a, b, out, budget, smallest),
        Binary::Mul => stretch(a, b, out, budget, |a, b| a * b),
        Binary::Sub => stretch(a, b, out, budget, |a, b| a - b),
    }
}

/// Applies `f` with both sides stretched to one shape. The cases that models have are plain loops.
fn stretch(
    a: &Tensor,
    b: &Tensor,
    out: &mut Tensor,
    budget: &mut Budget,
    f: impl Fn(f32, f32) -> f32,
) -> Result<(), EvaluateError> {
    let shape = a.shape.broadcast(&b.shape)?;
    budget.charge(shape.len())?;
    out.shape = shape;
    out.data.clear();
    if a.shape == b.shape {
        out.data.extend(a.data.iter().zip(&b.data).map(|(a, b)| f(*a, *b)));
    } else if let ([b], true) = (b.data.as_slice(), a.shape == shape) {
        out.data.extend(a.data.iter().map(|a| f(*a, *b)));
    } else if a.shape == shape && b.data.len() == shape.last() && b.shape.last() == shape.last() {
        // A row for each row; `last` isn't 0 here, or both would be empty and of one shape.
        for row in a.data.chunks(shape.last().max(1)) {
            out.data.extend(row.iter().zip(&b.data).map(|(a, b)| f(*a, *b)));
        }
    } else {
        general(a, b, out, f);
    }
    Ok(())
}

fn general(a: &Tensor, b: &Tensor, out: &mut Tensor, f: impl Fn(f32, f32) -> f32) {
    let sizes = out.shape.padded();
    let (steps_a, steps_b) = (steps(a), steps(b));
    for i in 0..sizes[0] {
        for j in 0..sizes[1] {
            for k in 0..sizes[2] {
                for l in 0..sizes[3] {
                    let at =
                        |steps: &[usize; MAX_RANK]| i * steps[0] + j * steps[1] + k * steps[2] + l * steps[3];
                    out.data.push(f(a.data[at(&steps_a)], b.data[at(&steps_b)]));
                }
            }
        }
    }
}

/// How far apart neighbours of each dimension lie; 0 where a size of 1 is stretched.
fn steps(tensor: &Tensor) -> [usize; MAX_RANK] {
    let sizes = tensor.shape.padded();
    let mut steps = [0; MAX_RANK];
    let mut step = 1;
    for at in (0..MAX_RANK).rev() {
        steps[at] = if sizes[at] == 1 { 0 } else { step };
        step *= sizes[at];
    }
    steps
}

pub(crate) fn clip(
    min: f32,
    max: f32,
    x: &Tensor,
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    budget.charge(x.data.len())?;
    out.copy_from(x);
    out.data.iter_mut().for_each(|value| *value = smallest(largest(*value, min), max));
    Ok(())
}

/// (x - offset) * scale; each has one value, or one a column.
pub(crate) fn scaler(
    offset: &[f32],
    scale: &[f32],
    x: &Tensor,
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    let (_, columns) = x.matrix("Scaler")?;
    budget.charge(x.data.len())?;
    for (what, values) in [("offset", offset), ("scale", scale)] {
        if values.len() != 1 && values.len() != columns {
            return Err(EvaluateError::Shape(format!(
                "Scaler has {} values of {what} for {columns} columns",
                values.len()
            )));
        }
    }
    out.copy_from(x);
    for row in out.data.chunks_mut(columns.max(1)) {
        for (at, value) in row.iter_mut().enumerate() {
            let pick = |values: &[f32]| if values.len() == 1 { values[0] } else { values[at] };
            *value = (*value - pick(offset)) * pick(scale);
        }
    }
    Ok(())
}
