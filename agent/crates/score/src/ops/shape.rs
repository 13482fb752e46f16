//! Operators that move values and don't change them.

use crate::EvaluateError;
use crate::model::Budget;
use crate::tensor::{Shape, Tensor};

pub(crate) fn reshape(
    sizes: &[i64],
    x: &Tensor,
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    budget.charge(x.data.len())?;
    let fail = || EvaluateError::Shape(format!("{:?} can't be reshaped to {sizes:?}", x.shape.sizes()));
    let mut known = Vec::with_capacity(sizes.len());
    let mut open = None;
    for (at, size) in sizes.iter().enumerate() {
        known.push(match size {
            // 0 takes over the size at the same place.
            0 => *x.shape.sizes().get(at).ok_or_else(fail)?,
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            size => usize::try_from(*size).map_err(|_| fail())?,
        });
    }
    let product = Shape::new(&known)?.len();
    if let Some(at) = open {
        if product == 0 || !x.data.len().is_multiple_of(product) {
            return Err(fail());
        }
        known[at] = x.data.len() / product;
    }
    let shape = Shape::new(&known)?;
    if shape.len() != x.data.len() {
        return Err(fail());
    }
    out.copy_from(x);
    out.shape = shape;
    Ok(())
}

pub(crate) fn concat(
    axis: i64,
    parts: &[&Tensor],
    out: &mut Tensor,
    budget: &mut Budget,
) -> Result<(), EvaluateError> {
    let first = parts.first().ok_or_else(|| EvaluateError::Shape("Concat of nothing".to_owned()))?;
    let axis = first.shape.axis(axis)?;
    let mut sizes = first.shape.sizes().to_vec();
    sizes[axis] = 0;
    for part in parts {
        let fits = part.shape.rank() == first.shape.rank()
            && (0..sizes.len()).all(|at| at == axis || part.shape.sizes()[at] == sizes[at]);
        if !fits {
            return Err(EvaluateError::Shape(format!(
                "Concat of {:?} and {:?}",
                first.shape.sizes(),
                part.shape.sizes()
            )));
        }
        // Each is at most 2^20 and there are at most 64 of them.
        sizes[axis] += part.shape.sizes()[axis];
    }
    let shape = Shape::new(&sizes)?;
    budget.charge(shape.len())?;
    let outer: usize = sizes[..axis].iter().product();
    out.shape = shape;
    out.data.clear();
    for row in 0..outer {
        for part in parts {
            let run = part.data.len() / outer;
            out.data.extend_from_slice(&part.data[row * run..(row + 1) * run]);
        }
    }
    Ok(())
}
