//! Matrix products, by cuBLASLt: one call with bias, residual and ReLU where the library fuses them.
//!
//! cuBLASLt counts in columns: row-major `out = left·right` is its `outᵀ = rightᵀ·leftᵀ`, so the operands change
//! places and every row-major matrix is its own transpose there. The bias then runs along the rows of its result,
//! which is the channel axis of ours.
//!
//! Which algorithm serves a shape is asked once and kept: the same shape gets the same algorithm, and the same bits.

use super::Precision;
use super::context::Context;
use super::conv2d;

use super::error::{CudaError, Doing};
use super::launch::{In, Out};
use super::memory::{Buffer, Element, ElementType};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    cublasComputeType_t as Compute, cublasLtEpilogue_t as LtEpilogue, cublasLtHandle_t, cublasLtMatmulAlgo_t,
    cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t as Attribute,
    cublasLtMatmulPreferenceAttributes_t as Preference, cublasLtMatrixLayout_t, cublasStatus_t, cudaDataType,
};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

/// Device memory that algorithms may use: what NVIDIA recommends for the largest devices.
const WORKSPACE: usize = 32 << 20;

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
    workspace: Option<Buffer>,
}

/// Everything an algorithm depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    element: ElementType,
    m: usize,
    n: usize,
    k: usize,
    left_transposed: bool,
    right_transposed: bool,
    bias: bool,
    residual: bool,
    relu: bool,
    /// Powers of two that divide the addresses of right, left, residual and out.
    alignments: [u32; 4],
}

impl Shape {
    /// The same product with nothing fused to it.
    fn plain(&self) -> Self {
        Self { bias: false, residual: false, relu: false, ..*self }
    }

    fn in_words(&self) -> String {
        let Self { m, n, k, element, .. } = self;
        format!("product of {m} × {k} by {k} × {n} elements of {element:?}")
    }
}

/// What a shape's product is made with.
#[derive(Debug)]
enum Plan {
    /// One call, epilogue included.
    Offered(Call),
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
        let handle = Handle(result::create_handle().doing("starting")?);
        Ok(Self { handle, compute, state: Mutex::default() })
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.workspace.is_none() {
            state.workspace = Some(context.memory.buffer(WORKSPACE)?);
        }
        if self.run(context, &mut state, shape, pointers, bias)? {
            return Ok(());
        }
        if shape == shape.plain() || !self.run(context, &mut state, shape.plain(), pointers, 0)? {
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
        pointers: [u64; 4],
        bias: u64,
    ) -> Result<bool, CudaError> {
        let plan = match state.plans.entry(shape) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(match Call::new(&self.handle, self.compute, &shape, bias) {
                Ok(call) => Plan::Offered(call),
                Err(CublasError(cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => Plan::Refused,
                Err(source) => return Err(CudaError::CublasLt { doing: "choosing an algorithm", source }),
            }),
        };
        let Plan::Offered(call) = plan else { return Ok(false) };
        let workspace = state.workspace.as_ref().map_or(0, Buffer::pointer);
        // Descriptors are changed under the lock, and read during the call alone.
        call.run(&self.handle, pointers, bias, workspace, context.memory.stream().cast())
            .doing("multiplying")?;
        Ok(true)
    }
}

#[derive(Debug)]
struct Handle(cublasLtHandle_t);

// SAFETY: cuBLASLt's handle may be used from any thread.
unsafe impl Send for Handle {}
// SAFETY: and from several at once, as its documentation says.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created with this value and destroyed once. A failure leaves nothing to be done.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// Descriptors and algorithm of one shape.
#[derive(Debug)]
struct Call {
    descriptor: Descriptor,
    right: Layout,
    left: Layout,
    out: Layout,
    algorithm: cublasLtMatmulAlgo_t,
    beta: f32,
}

impl Call {
    fn new(handle: &Handle, compute: Compute, shape: &Shape, bias: u64) -> Result<Self, CublasError> {
        let &Shape { element, m, n, k, left_transposed, right_transposed, .. } = shape;
        let kind = match element {
            ElementType::F32 => cudaDataType::CUDA_R_32F,
            ElementType::F16 => cudaDataType::CUDA_R_16F,
        };
        // Products of halves are accumulated in f32; TF32 concerns f32 operands alone.
        let compute = match element {
            ElementType::F32 => compute,
            ElementType::F16 => Compute::CUBLAS_COMPUTE_32F,
        };
        let descriptor = Descriptor(result::create_matmul_desc(compute, cudaDataType::CUDA_R_32F)?);
        // cublasOperation_t, which comes without names here: CUBLAS_OP_N is 0, CUBLAS_OP_T is 1.
        let operation = i32::from;
        let epilogue = match (shape.bias, shape.relu) {
            (true, true) => LtEpilogue::CUBLASLT_EPILOGUE_RELU_BIAS,
            (true, false) => LtEpilogue::CUBLASLT_EPILOGUE_BIAS,
            (false, true) => LtEpilogue::CUBLASLT_EPILOGUE_RELU,
            (false, false) => LtEpilogue::CUBLASLT_EPILOGUE_DEFAULT,
        };
        descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &operation(right_transposed))?;
        descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &operation(left_transposed))?;
        descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        if shape.bias {
            descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        // As stored: a row-major matrix is a column-major one of exchanged extents.
        let (right_rows, right_columns) = if right_transposed { (k, n) } else { (n, k) };
        let (left_rows, left_columns) = if left_transposed { (m, k) } else { (k, m) };
        let right = Layout::new(kind, right_rows, right_columns)?;
        let left = Layout::new(kind, left_rows, left_columns)?;
        let out = Layout::new(kind, n, m)?;
        let wishes = Wishes(result::create_matmul_pref()?);
        wishes.set(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        let places = [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ];
        for (place, alignment) in places.into_iter().zip(&shape.alignments) {
            wishes.set(place, alignment)?;
        }
        // SAFETY: all descriptors were just created and live until the end of this function.
        let found = unsafe {
            result::get_matmul_algo_heuristic(handle.0, descriptor.0, right.0, left.0, out.0, out.0, wishes.0)
        }?;
        let beta = if shape.residual { 1.0 } else { 0.0 };
        Ok(Self { descriptor, right, left, out, algorithm: found.algo, beta })
    }

    fn run(
        &self,
        handle: &Handle,
        [right, left, residual, out]: [u64; 4],
        bias: u64,
        workspace: u64,
        stream: cudarc::cublaslt::sys::cudaStream_t,
    ) -> Result<(), CublasError> {
        if bias != 0 {
            self.descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        let alpha = 1.0f32;
        // SAFETY: the layouts describe memory whose lengths `multiply` asserted; the algorithm was chosen for these
        // descriptors and alignments, and needs no more workspace than there is.
        unsafe {
            result::matmul(
                handle.0,
                self.descriptor.0,
                (&raw const alpha).cast(),
                (&raw const self.beta).cast(),
                right as *const c_void,
                self.right.0,
                left as *const c_void,
                self.left.0,
                residual as *const c_void,
                self.out.0,
                out as *mut c_void,
                self.out.0,
                &raw const self.algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                stream,
            )
        }
    }
}

// SAFETY: descriptors are plain host memory of the library; a `Call` is used under the lock of its `Products`.
unsafe impl Send for Call {}

#[derive(Debug)]
struct Descriptor(cublasLtMatmulDesc_t);

impl Descriptor {
    fn set<V>(&self, attribute: Attribute, value: &V) -> Result<(), CublasError> {
        // SAFETY: the descriptor is alive, and the library copies as many bytes as it is told.
        unsafe {
            result::set_matmul_desc_attribute(self.0, attribute, (&raw const *value).cast(), size_of::<V>())
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: created with this value and destroyed once.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

#[derive(Debug)]
struct Layout(cublasLtMatrixLayout_t);

impl Layout {
    /// Column-major, without gaps.
    fn new(kind: cudaDataType, rows: usize, columns: usize) -> Result<Self, CublasError> {
        result::create_matrix_layout(kind, rows as u64, columns as u64, rows as i64).map(Self)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created with this value and destroyed once.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What an algorithm may use, and may rely on.
struct Wishes(cudarc::cublaslt::sys::cublasLtMatmulPreference_t);

impl Wishes {
    fn set<V>(&self, attribute: Preference, value: &V) -> Result<(), CublasError> {
        // SAFETY: the object is alive, and the library copies as many bytes as it is told.
        unsafe {
            result::set_matmul_pref_attribute(self.0, attribute, (&raw const *value).cast(), size_of::<V>())
        }
    }
}

impl Drop for Wishes {
    fn drop(&mut self) {
        // SAFETY: created with this value and destroyed once.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
