//! Tensors of the evaluator: 32-bit floats in rows, at most four dimensions.

use crate::EvaluateError;

/// Most dimensions.
pub(crate) const MAX_RANK: usize = 4;
/// Most elements of one tensor.
pub(crate) const MAX_ELEMENTS: usize = 1 << 20;

/// The sizes of a tensor's dimensions, outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    sizes: [usize; MAX_RANK],
    rank: usize,
}

/// Values with their shape: `data.len() == shape.len()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tensor {
    pub shape: Shape,
    pub data: Vec<f32>,
}

impl Shape {
    /// Checks rank and number of elements.
    pub(crate) fn new(sizes: &[usize]) -> Result<Self, EvaluateError> {
        if sizes.len() > MAX_RANK {
            return Err(EvaluateError::Shape(format!(
                "{} dimensions; at most {MAX_RANK} are taken",
                sizes.len()
            )));
        }
        let elements = sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        // None of a size of 0 either: nothing needs it, and loops over its other sizes would be unbounded.
        if elements.is_none_or(|elements| elements > MAX_ELEMENTS || elements == 0) {
            return Err(EvaluateError::Shape(format!(
                "a tensor of {sizes:?}; 1 to {MAX_ELEMENTS} elements are taken"
            )));
        }
        let mut shape = Self { sizes: [1; MAX_RANK], rank: sizes.len() };
        shape.sizes[..sizes.len()].copy_from_slice(sizes);
        Ok(shape)
    }

    pub(crate) fn sizes(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn len(&self) -> usize {
        self.sizes().iter().product()
    }

    /// The last size, 1 of a scalar.
    pub(crate) fn last(&self) -> usize {
        self.sizes().last().copied().unwrap_or(1)
    }

    /// Sizes as of `MAX_RANK` dimensions, with ones in front.
    pub(crate) fn padded(&self) -> [usize; MAX_RANK] {
        let mut out = [1; MAX_RANK];
        out[MAX_RANK - self.rank..].copy_from_slice(self.sizes());
        out
    }

    /// The shape that both are stretched to, by the rules of NumPy.
    pub(crate) fn broadcast(&self, other: &Self) -> Result<Self, EvaluateError> {
        let (a, b) = (self.padded(), other.padded());
        let mut sizes = [1; MAX_RANK];
        for at in 0..MAX_RANK {
            sizes[at] = match (a[at], b[at]) {
                (x, y) if x == y => x,
                (1, y) => y,
                (x, 1) => x,
                _ => {
                    return Err(EvaluateError::Shape(format!(
                        "shapes {:?} and {:?} don't fit each other",
                        self.sizes(),
                        other.sizes()
                    )));
                }
            };
        }
        Self::new(&sizes[MAX_RANK - self.rank.max(other.rank)..])
    }

    /// An axis that may be counted from the end.
    pub(crate) fn axis(&self, axis: i64) -> Result<usize, EvaluateError> {
        let rank = self.rank as i64;
        let positive = if axis < 0 { axis.saturating_add(rank) } else { axis };
        if (0..rank).contains(&positive) {
            Ok(positive as usize)
        } else {
            Err(EvaluateError::Shape(format!("axis {axis} of {rank} dimensions")))
        }
    }
}

impl Tensor {
    /// Takes a shape; what it held before is gone. Keeps the allocation.
    pub(crate) fn reset(&mut self, shape: Shape) {
        self.shape = shape;
        self.data.clear();
        self.data.resize(shape.len(), 0.0);
    }

    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.shape = other.shape;
        self.data.clear();
        self.data.extend_from_slice(&other.data);
    }

    /// Rows and columns of a matrix.
    pub(crate) fn matrix(&self, what: &str) -> Result<(usize, usize), EvaluateError> {
        match self.shape.sizes() {
            [rows, columns] => Ok((*rows, *columns)),
            sizes => Err(EvaluateError::Shape(format!("{what} needs a matrix and has {sizes:?}"))),
        }
    }
}
