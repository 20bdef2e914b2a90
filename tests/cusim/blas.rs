//! One product by cuBLASLt, as tests describe it.

use cudarc::cublaslt::result::{self as lt, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasComputeType_t as Compute, cublasLtEpilogue_t as Epilogue, cublasLtHandle_t,
    cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t as OperationAttribute,
    cublasLtMatmulHeuristicResult_t as Offer, cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute,
    cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t as LayoutAttribute, cudaDataType_t as Type,
};
use cudarc::driver::sys::{CUdeviceptr, CUstream};
use std::mem::MaybeUninit;

/// D = epilogue(alpha · op(A) · op(B) + beta · C), column-major unless said otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Problem {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) batches: usize,
    pub(crate) transpose_a: bool,
    pub(crate) transpose_b: bool,
    pub(crate) row_major: bool,
    /// By how much leading dimensions exceed what they have to be.
    pub(crate) padding: usize,
    pub(crate) compute: Compute,
    pub(crate) factors: Type,
    pub(crate) out: Type,
    pub(crate) bias: Type,
    pub(crate) epilogue: Epilogue,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    /// The most that the algorithm may use.
    pub(crate) workspace_bytes: usize,
    /// What the algorithm is promised of every pointer.
    pub(crate) alignment: u32,
}

/// A product of floats that leaves everything at its default.
pub(crate) const PLAIN: Problem = Problem {
    m: 37,
    n: 29,
    k: 300,
    batches: 1,
    transpose_a: false,
    transpose_b: false,
    row_major: false,
    padding: 0,
    compute: Compute::CUBLAS_COMPUTE_32F,
    factors: Type::CUDA_R_32F,
    out: Type::CUDA_R_32F,
    bias: Type::CUDA_R_32F,
    epilogue: Epilogue::CUBLASLT_EPILOGUE_DEFAULT,
    alpha: 1.0,
    beta: 0.0,
    workspace_bytes: 0,
    alignment: 256,
};

/// How a stored matrix lies: element (i, j) of batch b at `b · stride + line · leading + place`.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) leading: usize,
    pub(crate) stride: usize,
    row_major: bool,
}

impl Stored {
    pub(crate) fn at(&self, batch: usize, row: usize, column: usize) -> usize {
        let (line, place) = if self.row_major { (row, column) } else { (column, row) };
        batch * self.stride + line * self.leading + place
    }
}

impl Problem {
    fn stored(&self, rows: usize, columns: usize) -> Stored {
        let (lines, line) = if self.row_major { (rows, columns) } else { (columns, rows) };
        let leading = line + self.padding;
        Stored { rows, columns, leading, stride: lines * leading, row_major: self.row_major }
    }

    pub(crate) fn a(&self) -> Stored {
        if self.transpose_a { self.stored(self.k, self.m) } else { self.stored(self.m, self.k) }
    }

    pub(crate) fn b(&self) -> Stored {
        if self.transpose_b { self.stored(self.n, self.k) } else { self.stored(self.k, self.n) }
    }

    /// Of C as well.
    pub(crate) fn d(&self) -> Stored {
        self.stored(self.m, self.n)
    }
}

/// cuBLASLt's objects for one product.
pub(crate) struct Plan {
    problem: Problem,
    handle: cublasLtHandle_t,
    operation: cublasLtMatmulDesc_t,
    layouts: [cublasLtMatrixLayout_t; 4],
    pub(crate) algorithm: cublasLtMatmulAlgo_t,
    /// What the algorithm needs.
    pub(crate) workspace_bytes: usize,
}

/// Where a product finds its matrices.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    pub(crate) a: CUdeviceptr,
    pub(crate) b: CUdeviceptr,
    pub(crate) c: CUdeviceptr,
    pub(crate) d: CUdeviceptr,
    pub(crate) bias: CUdeviceptr,
    pub(crate) workspace: CUdeviceptr,
    pub(crate) workspace_bytes: usize,
}

impl Plan {
    /// Asks for an algorithm.
    pub(crate) fn new(problem: Problem) -> Result<Self, CublasError> {
        let layout = |stored: Stored, kind| {
            let layout = lt::create_matrix_layout(
                kind,
                stored.rows as u64,
                stored.columns as u64,
                stored.leading as i64,
            )?;
            set_layout(layout, LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_ORDER, i32::from(problem.row_major))?;
            set_layout(layout, LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, problem.batches as i32)?;
            set_layout(
                layout,
                LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                if problem.batches > 1 { stored.stride as i64 } else { 0 },
            )?;
            Ok(layout)
        };
        let layouts = [
            layout(problem.a(), problem.factors)?,
            layout(problem.b(), problem.factors)?,
            layout(problem.d(), problem.out)?,
            layout(problem.d(), problem.out)?,
        ];
        let operation = lt::create_matmul_desc(problem.compute, Type::CUDA_R_32F)?;
        use OperationAttribute as Attribute;
        set_operation(operation, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, i32::from(problem.transpose_a))?;
        set_operation(operation, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, i32::from(problem.transpose_b))?;
        set_operation(operation, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, problem.epilogue)?;
        set_operation(operation, Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, problem.bias)?;
        if problem.batches > 1 {
            set_operation(operation, Attribute::CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, problem.m as i64)?;
        }
        let mut plan = Self {
            problem,
            handle: lt::create_handle()?,
            operation,
            layouts,
            algorithm: cublasLtMatmulAlgo_t { data: [0; 8] },
            workspace_bytes: 0,
        };
        plan.choose()?;
        Ok(plan)
    }

    fn choose(&mut self) -> Result<(), CublasError> {
        let first = self.offers(1)?.remove(0);
        (self.algorithm, self.workspace_bytes) = (first.algo, first.workspaceSize);
        Ok(())
    }

    /// At most `most` algorithms.
    pub(crate) fn offers(&self, most: usize) -> Result<Vec<Offer>, CublasError> {
        let preference = lt::create_matmul_pref()?;
        let mut offers = Vec::with_capacity(most);
        let mut found = 0;
        use PreferenceAttribute as Attribute;
        // SAFETY: the preference is alive, values have the sizes that are passed, the layouts are the plan's, and there is
        // room for as many offers as are asked for.
        unsafe {
            let set = |attribute, value: *const _, bytes| {
                lt::set_matmul_pref_attribute(preference, attribute, value, bytes)
            };
            let workspace_bytes = self.problem.workspace_bytes as u64;
            set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (&raw const workspace_bytes).cast(), 8)?;
            for attribute in [
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
            ] {
                set(attribute, (&raw const self.problem.alignment).cast(), 4)?;
            }
            let [a, b, c, d] = self.layouts;
            let status = sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                self.operation,
                a,
                b,
                c,
                d,
                preference,
                most as i32,
                offers.as_mut_ptr(),
                &raw mut found,
            );
            lt::destroy_matmul_pref(preference)?;
            status.result()?;
            offers.set_len(found as usize);
        }
        Ok(offers)
    }

    /// What the library says of an algorithm for this product: the workspace it needs.
    pub(crate) fn check(&self, algorithm: &cublasLtMatmulAlgo_t) -> Result<usize, CublasError> {
        let [a, b, c, d] = self.layouts;
        let mut offer = MaybeUninit::<Offer>::uninit();
        // SAFETY: the objects are the plan's; the library fills the offer of an algorithm that it takes.
        unsafe {
            sys::cublasLtMatmulAlgoCheck(
                self.handle,
                self.operation,
                a,
                b,
                c,
                d,
                &raw const *algorithm,
                offer.as_mut_ptr(),
            )
            .result()?;
            Ok(offer.assume_init().workspaceSize)
        }
    }

    pub(crate) fn run(&self, operands: Operands, stream: CUstream) -> Result<(), CublasError> {
        set_operation(self.operation, OperationAttribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias)?;
        let [a, b, c, d] = self.layouts;
        // SAFETY: the objects are the plan's; the simulator checks the operands.
        unsafe {
            lt::matmul(
                self.handle,
                self.operation,
                (&raw const self.problem.alpha).cast(),
                (&raw const self.problem.beta).cast(),
                operands.a as *const _,
                a,
                operands.b as *const _,
                b,
                operands.c as *const _,
                c,
                operands.d as *mut _,
                d,
                &raw const self.algorithm,
                operands.workspace as *mut _,
                operands.workspace_bytes,
                stream.cast(),
            )
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: nothing uses them any more.
        unsafe {
            for layout in self.layouts {
                lt::destroy_matrix_layout(layout).unwrap();
            }
            lt::destroy_matmul_desc(self.operation).unwrap();
            lt::destroy_handle(self.handle).unwrap();
        }
    }
}

fn set_layout(
    layout: cublasLtMatrixLayout_t,
    attribute: LayoutAttribute,
    value: impl Copy,
) -> Result<(), CublasError> {
    // SAFETY: the layout is alive, and the value has the size that is passed.
    unsafe {
        lt::set_matrix_layout_attribute(
            layout,
            attribute,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value),
        )
    }
}

fn set_operation(
    operation: cublasLtMatmulDesc_t,
    attribute: OperationAttribute,
    value: impl Copy,
) -> Result<(), CublasError> {
    // SAFETY: the descriptor is alive, and the value has the size that is passed.
    unsafe {
        lt::set_matmul_desc_attribute(
            operation,
            attribute,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value),
        )
    }
}
