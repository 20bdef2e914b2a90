//! Matrix products, by cuBLASLt: one call with bias, residual and ReLU where the library fuses them.
//!
//! Which algorithm serves a shape is decided once and kept ([`Tuning`](super::tuning::Tuning)): the same shape gets the
//! same algorithm, and the same bits.

use super::Precision;
use super::context::Context;
use super::conv2d;
use super::cublaslt::{Algorithm, Call, Handle, Operands, Shape, WORKSPACE};
use super::error::{CudaError, Doing};
use super::launch::{In, Out};
use super::memory::{Buffer, Element};
use super::tuning::Candidates;
use cudarc::cublaslt::sys::cublasComputeType_t as Compute;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A row-major matrix in device memory, seen as stored or transposed.
#[derive(Debug)]
pub(super) struct Matrix<'a, T> {
    data: In<'a, T>,
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a, T> Matrix<'a, T> {
    /// `rows × columns` elements as they are stored.
    pub(super) fn new(data: In<'a, T>, rows: usize, columns: usize) -> Self {
        assert!(data.len() >= rows * columns, "{rows} × {columns} elements do not fit {}", data.len());
        Self { data, rows, columns, transposed: false }
    }

    /// The transpose, without moving anything.
    pub(super) fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Rows and columns as seen.
    fn extent(&self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }
}

/// What is done to a product before it is written: `relu(left·right + bias + residual)`.
#[derive(Debug)]
pub(super) struct Epilogue<'a, T> {
    /// One value a column.
    pub(super) bias: Option<In<'a, T>>,
    /// As large as the product.
    pub(super) residual: Option<In<'a, T>>,
    /// Whether negative results become zero.
    pub(super) relu: bool,
}

impl<T> Epilogue<'_, T> {
    /// The product as it is.
    pub(super) fn none() -> Self {
        Self { bias: None, residual: None, relu: false }
    }
}

/// `out = epilogue(left·right)`.
#[derive(Debug)]
pub(super) struct Product<'a, T> {
    /// `[M, K]`
    pub(super) left: Matrix<'a, T>,
    /// `[K, N]`
    pub(super) right: Matrix<'a, T>,
    /// `[M, N]`
    pub(super) out: Out<'a, T>,
    /// What follows.
    pub(super) epilogue: Epilogue<'a, T>,
}

/// cuBLASLt with the algorithms that were chosen.
#[derive(Debug)]
pub(super) struct Products {
    handle: Handle,
    compute: Compute,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    plans: HashMap<Shape, Plan>,
    /// What cuBLASLt has offered since it was started, for those shapes among whose algorithms one was to be chosen.
    offered: HashMap<Shape, Vec<Algorithm>>,
    workspace: Option<Buffer>,
}

/// What a shape's product is made with.
#[derive(Debug)]
enum Plan {
    /// One call, epilogue included.
    Offered(Call, Algorithm),
    /// cuBLASLt has none: what is left is the plain product, and our own kernel behind it.
    Refused,
}

impl Products {
    pub(super) fn new(precision: Precision) -> Result<Self, CudaError> {
        let compute = match precision {
            // Under f16 the head keeps f32 tensors and multiplies in TF32, which has half's mantissa and f32's range:
            // gradients need no loss scaling.
            Precision::Tf32 | Precision::F16 => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
            Precision::F32 => Compute::CUBLAS_COMPUTE_32F,
        };
        let handle = Handle::new().doing("starting")?;
        Ok(Self { handle, compute, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every shape's algorithm is decided anew when it comes up again.
    pub(super) fn forget(&self) {
        self.state().plans.clear();
    }

    /// Enqueues a product on the compute stream.
    pub(super) fn multiply<T: Element>(
        &self,
        context: &Context,
        product: Product<'_, T>,
    ) -> Result<(), CudaError> {
        let Product { left, right, out, epilogue } = product;
        let ((m, k), (inner, n)) = (left.extent(), right.extent());
        assert_eq!(k, inner, "the inner sizes of a product");
        assert!(out.len() >= m * n, "room for {m} × {n} results");
        assert!(epilogue.bias.is_none_or(|bias| bias.len() >= n), "one bias a column");
        assert!(epilogue.residual.is_none_or(|residual| residual.len() >= m * n), "one residual a result");
        let residual = epilogue.residual.as_ref().map_or(out.pointer(), In::pointer);
        let pointers = [right.data.pointer(), left.data.pointer(), residual, out.pointer()];
        let shape = Shape {
            element: T::TYPE,
            m,
            n,
            k,
            left_transposed: left.transposed,
            right_transposed: right.transposed,
            bias: epilogue.bias.is_some(),
            residual: epilogue.residual.is_some(),
            relu: epilogue.relu,
            alignments: pointers.map(|pointer| 1 << pointer.trailing_zeros().min(8)),
        };
        let bias = epilogue.bias.as_ref().map_or(0, In::pointer);

        context.bind()?;
        let mut state = self.state();
        let workspace = match &state.workspace {
            Some(workspace) => workspace.pointer(),
            None => state.workspace.insert(context.memory.buffer(WORKSPACE)?).pointer(),
        };
        let operands = Operands { pointers, bias, workspace, stream: context.memory.stream().cast() };
        if self.run(context, &mut state, shape, operands)? {
            return Ok(());
        }
        let plain = Operands { bias: 0, ..operands };
        if shape == shape.plain() || !self.run(context, &mut state, shape.plain(), plain)? {
            return Err(CudaError::NoSuchProduct { product: shape.in_words() });
        }
        drop(state);
        conv2d::epilogue(context, out, n, epilogue)
    }

    /// Runs a product if cuBLASLt offers it.
    fn run(
        &self,
        context: &Context,
        state: &mut State,
        shape: Shape,
        operands: Operands,
    ) -> Result<bool, CudaError> {
        let plan = match state.plans.entry(shape) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(self.plan(context, &mut state.offered, &shape, operands)?),
        };
        let Plan::Offered(call, algorithm) = plan else { return Ok(false) };
        // Descriptors are changed under the lock, and read during the call alone.
        call.run(&self.handle, algorithm, &operands).doing("multiplying")?;
        Ok(true)
    }

    /// Decides how a product of this shape is computed, with these operands as an example.
    fn plan(
        &self,
        context: &Context,
        offered: &mut HashMap<Shape, Vec<Algorithm>>,
        shape: &Shape,
        operands: Operands,
    ) -> Result<Plan, CudaError> {
        let call = Call::new(self.compute, shape, operands.bias).doing("describing a product")?;
        let mut subject = Subject { handle: &self.handle, shape, call: &call, operands, offered };
        let chosen = context.tuning.choose(context, &mut subject)?;
        Ok(chosen.map_or(Plan::Refused, |algorithm| Plan::Offered(call, algorithm)))
    }
}

/// A product among whose algorithms one is to be chosen.
struct Subject<'a> {
    handle: &'a Handle,
    shape: &'a Shape,
    call: &'a Call,
    operands: Operands,
    offered: &'a mut HashMap<Shape, Vec<Algorithm>>,
}

impl Candidates for Subject<'_> {
    type Way = Algorithm;

    fn key(&self) -> String {
        self.shape.key()
    }

    fn ways(&mut self, most: usize) -> Result<Vec<Algorithm>, CudaError> {
        let algorithms = self.call.algorithms(self.handle, most).doing("choosing an algorithm")?;
        if most > 1 {
            self.offered.insert(*self.shape, algorithms.clone());
        }
        Ok(algorithms)
    }

    fn name(&self, way: &Algorithm) -> String {
        way.to_hex()
    }

    /// What the library itself has offered is good. A table may have been damaged or edited: the library judges what it
    /// says.
    fn restore(&mut self, name: &str) -> Option<Algorithm> {
        let was_offered = |algorithm: &Algorithm| {
            self.offered.get(self.shape).is_some_and(|known| known.contains(algorithm))
        };
        Algorithm::from_hex(name)
            .filter(|algorithm| was_offered(algorithm) || self.call.accepts(self.handle, algorithm))
    }

    /// Without a residual nothing of the result is read, and with one it is another matrix.
    fn run(&mut self, way: &Algorithm) -> Result<(), CudaError> {
        self.call.run(self.handle, way, &self.operands).doing("multiplying")
    }
}
