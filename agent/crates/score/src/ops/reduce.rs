//! Operators that make one value of many along axes.

use crate::EvaluateError;
use crate::model::Budget;
use crate::tensor::{MAX_RANK, Shape, Tensor};

/// How values are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    L1,
    L2,
    Max,
    Mean,
    Min,
    Sum,
    SumSquare,
}

impl Fold {
    fn start(self) -> f32 {
        match self {
            Self::Max => f32::NEG_INFINITY,
            Self::Min => f32::INFINITY,
            _ => 0.0,
        }
    }

    fn add(self, so_far: f32, value: f32) -> f32 {
        match self {
            Self::L1 => so_far + value.abs(),
            Self::L2 | Self::SumSquare => so_far + value * value,
            Self::Mean | Self::Sum => so_far + value,
            Self::Max => {
                if so_far > value || so_far.is_nan() {
                    so_far
                } else {
                    value
                }
            }
            Self::Min => {
                if so_far < value || so_far.is_nan() {
                    so_far
                } else {
                    value
                }
            }
        }
    }

    fn end(self, so_far: f32, n: usize) -> f32 {
        match self {
            Self::L2 => so_far.sqrt(),
            Self::Mean => so_far / n as f32,
            _ => so_far,
        }
    }
}

/// The shape without (or with 1 for) the axes, and for each padded dimension whether it goes.
fn without(
    shape: &Shape,
    axes: &[i64],
    keep: bool,
) -> Result<(Shape, [bool; MAX_RANK], usize), EvaluateError> {
    let mut gone = [false; MAX_RANK];
    for axis in axes {
        gone[shape.axis(*axis)?] = true;
    }
    if axes.is_empty() {
        gone = [true; MAX_RANK];
    }
    let mut sizes = Vec::with_capacity(MAX_RANK);
    let mut n = 1;
    for (at, size) in shape.sizes().iter().enumerate() {
        match (gone[at], keep) {
            (false, _) => sizes.push(*size),
            (true, true) => sizes.push(1),
            (true, false) => {}
        }
        n *= if gone[at] { *size } else { 1 };
    }
    let mut padded = [true; MAX_RANK];
    padded[MAX_RANK - shape.rank()..].copy_from_slice(&gone[..shape.rank()]);
    Ok((Shape::new(&sizes)?, padded, n))
}

/// For each padded dimension how far apart results lie: 0 where all go into one.
fn result_steps(sizes: [usize; MAX_RANK], gone: [bool; MAX_RANK]) -> [usize; MAX_RANK] {
    let mut steps = [0; MAX_RANK];
    let mut step = 1;
    for at in (0..MAX_RANK).rev() {
        if !gone[at] {
            steps[at] = step;
            step *= sizes[at];
        }
    }
    steps
}

/// Visits every value in order with the place of its result and its place along the last gone axis.
fn visit(sizes: [usize; MAX_RANK], steps: [usize; MAX_RANK], mut f: impl FnMut(usize, [usize; MAX_RANK])) {
    for i in 0..sizes[0] {
        for j in 0..sizes[1] {
            for k in 0..sizes[2] {
                for l in 0..sizes[3] {
                    f(i * steps[0] + j * steps[1] + k * steps[2] + l * steps[3], [i, j, k, l]);
                }
            }
        }
    }
}

pub(crate) fn reduce(
    fold: Fold,
    axes: &[i64],
    keep: bool,
    x: &Tensor,
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    budget.charge(x.data.len())?;
    let (shape, gone, n) = without(&x.shape, axes, keep)?;
    out.shape = shape;
    out.data.clear();
    let sizes = x.shape.padded();
    if gone == [true, true, false, true] && sizes[3] > 0 {
        // Each row of a matrix: the case that models have.
        let rows = x.data.chunks(sizes[3]);
        out.data.extend(
            rows.map(|row| {
                fold.end(row.iter().fold(fold.start(), |so_far, value| fold.add(so_far, *value)), n)
            }),
        );
        return Ok(());
    }
    out.data.resize(shape.len(), fold.start());
    let mut values = x.data.iter();
    visit(sizes, result_steps(sizes, gone), |at, _| {
        if let (Some(so_far), Some(value)) = (out.data.get_mut(at), values.next()) {
            *so_far = fold.add(*so_far, *value);
        }
    });
    out.data.iter_mut().for_each(|value| *value = fold.end(*value, n));
    Ok(())
}

/// The place of the largest or smallest value along an axis; of equal ones the first.
pub(crate) fn arg(
    largest: bool,
    axis: i64,
    keep: bool,
    x: &Tensor,
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    budget.charge(x.data.len())?;
    let along = x.shape.axis(axis)? + MAX_RANK - x.shape.rank();
    let (shape, gone, n) = without(&x.shape, &[axis], keep)?;
    if n == 0 {
        return Err(EvaluateError::Shape("the place of a value among none".to_owned()));
    }
    out.reset(shape);
    let mut best = vec![0.0_f32; shape.len()];
    let mut values = x.data.iter();
    let sizes = x.shape.padded();
    visit(sizes, result_steps(sizes, gone), |at, place| {
        let (Some(found), Some(best), Some(value)) = (out.data.get_mut(at), best.get_mut(at), values.next())
        else {
            return;
        };
        let better = if largest { *value > *best } else { *value < *best };
        if place[along] == 0 || better {
            // Exact: an axis has at most 2^20 places.
            (*best, *found) = (*value, place[along] as f32);
        }
    });
    Ok(())
}
