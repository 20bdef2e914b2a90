//! cuBLASLt's objects for one shape of product: descriptors, the algorithms it offers, and the call itself.
//!
//! cuBLASLt counts in columns: row-major `out = left·right` is its `outᵀ = rightᵀ·leftᵀ`, so the operands change
//! places and every row-major matrix is its own transpose there. The bias then runs along the rows of its result,
//! which is the channel axis of ours.

use super::memory::ElementType;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasComputeType_t as Compute, cublasLtEpilogue_t as LtEpilogue, cublasLtHandle_t,
    cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t as Attribute,
    cublasLtMatmulHeuristicResult_t as Offer, cublasLtMatmulPreferenceAttributes_t as Preference,
    cublasLtMatrixLayout_t, cublasStatus_t as Status, cudaDataType, cudaStream_t,
};
use std::ffi::c_void;
use std::mem::MaybeUninit;

/// Where K is cut, the parts are added in the type of the sums (`CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE`), never in half.
const PARTS_IN_F32: u32 = 2;
/// Device memory that algorithms may use: what NVIDIA recommends for the largest devices.
pub(super) const WORKSPACE: usize = 32 << 20;

/// Everything an algorithm depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) element: ElementType,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) left_transposed: bool,
    pub(super) right_transposed: bool,
    pub(super) bias: bool,
    pub(super) residual: bool,
    pub(super) relu: bool,
    /// Powers of two that divide the addresses of right, left, residual and out.
    pub(super) alignments: [u32; 4],
}

impl Shape {
    /// The same product with nothing fused to it.
    pub(super) fn plain(&self) -> Self {
        Self { bias: false, residual: false, relu: false, ..*self }
    }

    /// Sizes and type, for messages.
    pub(super) fn in_words(&self) -> String {
        let Self { m, n, k, element, .. } = self;
        format!("product of {m} × {k} by {k} × {n} elements of {element:?}")
    }

    /// All of it, as tables of plans name it.
    pub(super) fn key(&self) -> String {
        let Self { m, n, k, element, alignments: [right, left, residual, out], .. } = self;
        let side = |transposed| if transposed { "transposed" } else { "stored" };
        let mut key = format!(
            "product {} {m}x{n}x{k}, left {}, right {}",
            element.name(),
            side(self.left_transposed),
            side(self.right_transposed)
        );
        for (fused, name) in [(self.bias, "bias"), (self.residual, "residual"), (self.relu, "relu")] {
            if fused {
                key += &format!(", {name}");
            }
        }
        key + &format!(", aligned {right} {left} {residual} {out}")
    }
}

/// One of cuBLASLt's ways to compute a product: opaque, but a value that may be stored and used again with the same
/// version of the library ("can be trivially serialized", says its documentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Algorithm(cublasLtMatmulAlgo_t);

impl Algorithm {
    /// Its 64 bytes in hexadecimal.
    pub(super) fn to_hex(self) -> String {
        self.0.data.iter().map(|word| format!("{word:016x}")).collect()
    }

    /// What [`Algorithm::to_hex`] wrote; `None` for any other text.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut data = [0; 8];
        if text.len() != 16 * data.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (word, digits) in data.iter_mut().zip(text.as_bytes().chunks_exact(16)) {
            *word = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(cublasLtMatmulAlgo_t { data }))
    }
}

/// The library, started.
#[derive(Debug)]
pub(super) struct Handle(cublasLtHandle_t);

// SAFETY: cuBLASLt's handle may be used from any thread.
unsafe impl Send for Handle {}
// SAFETY: and from several at once, as its documentation says.
unsafe impl Sync for Handle {}

impl Handle {
    pub(super) fn new() -> Result<Self, CublasError> {
        result::create_handle().map(Self)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created with this value and destroyed once. A failure leaves nothing to be done.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// Where one product finds its operands, its scratch memory and its place in the order of things.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands {
    /// Of right, left, residual and out.
    pub(super) pointers: [u64; 4],
    /// Zero without one.
    pub(super) bias: u64,
    /// [`WORKSPACE`] bytes.
    pub(super) workspace: u64,
    pub(super) stream: cudaStream_t,
}

/// The descriptors of one shape.
#[derive(Debug)]
pub(super) struct Call {
    descriptor: Descriptor,
    right: Layout,
    left: Layout,
    out: Layout,
    wishes: Wishes,
    beta: f32,
}

impl Call {
    /// `bias` is any address that the product may have it at, zero without one.
    pub(super) fn new(compute: Compute, shape: &Shape, bias: u64) -> Result<Self, CublasError> {
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
        wishes.set(Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &PARTS_IN_F32)?;
        let places = [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ];
        for (place, alignment) in places.into_iter().zip(&shape.alignments) {
            wishes.set(place, alignment)?;
        }
        let beta = if shape.residual { 1.0 } else { 0.0 };
        Ok(Self { descriptor, right, left, out, wishes, beta })
    }

    /// At most `most` algorithms, those first that cuBLASLt's heuristic thinks fastest; none where it has none. Asks
    /// the host alone: no device is waited for.
    pub(super) fn algorithms(&self, handle: &Handle, most: usize) -> Result<Vec<Algorithm>, CublasError> {
        let mut offers: Vec<Offer> = Vec::with_capacity(most);
        let mut found = 0;
        // SAFETY: all descriptors are alive, there is room for `most` offers, and the library fills the first `found`.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle.0,
                self.descriptor.0,
                self.right.0,
                self.left.0,
                self.out.0,
                self.out.0,
                self.wishes.0,
                most as i32,
                offers.as_mut_ptr(),
                &raw mut found,
            )
        };
        if status == Status::CUBLAS_STATUS_NOT_SUPPORTED {
            return Ok(Vec::new());
        }
        status.result()?;
        // SAFETY: as above.
        unsafe { offers.set_len((found as usize).min(most)) };
        let usable = offers.iter().filter(|offer| offer.state == Status::CUBLAS_STATUS_SUCCESS);
        Ok(usable.map(|offer| Algorithm(offer.algo)).collect())
    }

    /// Whether the library takes an algorithm for this product, in the workspace there is.
    pub(super) fn accepts(&self, handle: &Handle, algorithm: &Algorithm) -> bool {
        let mut offer = MaybeUninit::<Offer>::uninit();
        // SAFETY: all descriptors are alive; the algorithm is 64 bytes that the library looks at and judges.
        let status = unsafe {
            sys::cublasLtMatmulAlgoCheck(
                handle.0,
                self.descriptor.0,
                self.right.0,
                self.left.0,
                self.out.0,
                self.out.0,
                &raw const algorithm.0,
                offer.as_mut_ptr(),
            )
        };
        // SAFETY: the library fills the offer of an algorithm that it takes.
        status == Status::CUBLAS_STATUS_SUCCESS && unsafe { offer.assume_init() }.workspaceSize <= WORKSPACE
    }

    /// Enqueues the product. The caller vouches that the operands are as large and as aligned as the shape says.
    pub(super) fn run(
        &self,
        handle: &Handle,
        algorithm: &Algorithm,
        operands: &Operands,
    ) -> Result<(), CublasError> {
        let &Operands { pointers: [right, left, residual, out], bias, workspace, stream } = operands;
        if bias != 0 {
            self.descriptor.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        let alpha = 1.0f32;
        // SAFETY: the layouts describe memory whose lengths the caller asserted; the algorithm was offered or accepted
        // for these descriptors and alignments, and needs no more workspace than there is.
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
                &raw const algorithm.0,
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
#[derive(Debug)]
struct Wishes(sys::cublasLtMatmulPreference_t);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_survives_its_text() {
        let data = [0, 1, u64::MAX, 0xABCD_EF01_2345_6789, 4, 5, 6, 7 << 60];
        let algorithm = Algorithm(cublasLtMatmulAlgo_t { data });
        let text = algorithm.to_hex();
        assert_eq!(text.len(), 128);
        assert_eq!(Algorithm::from_hex(&text), Some(algorithm));
        let signed = format!("+{}", &text[1..]);
        for bad in ["", &text[1..], &format!("{text}0"), &text.replace('f', "g"), &signed, &"ä".repeat(64)] {
            assert_eq!(Algorithm::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn shapes_that_differ_have_keys_that_differ() {
        let shape = Shape {
            element: ElementType::F16,
            m: 2,
            n: 3,
            k: 4,
            left_transposed: false,
            right_transposed: true,
            bias: true,
            residual: false,
            relu: true,
            alignments: [256, 16, 256, 2],
        };
        assert_eq!(
            shape.key(),
            "product f16 2x3x4, left stored, right transposed, bias, relu, aligned 256 16 256 2"
        );
        let others = [
            Shape { element: ElementType::F32, ..shape },
            Shape { m: 3, n: 2, ..shape },
            Shape { left_transposed: true, right_transposed: false, ..shape },
            Shape { residual: true, ..shape },
            Shape { alignments: [16, 256, 256, 2], ..shape },
            shape.plain(),
        ];
        let keys: std::collections::BTreeSet<String> =
            others.iter().chain([&shape]).map(Shape::key).collect();
        assert_eq!(keys.len(), others.len() + 1);
    }
}
