//! Launching kernels: typed arguments, and grids within the device's limits.
//!
//! The struct of each kernel in [`kernels`] is generated from its CUDA source when the program is built
//! (`build/launchers.rs`). What a launch still has to get right is the length of every buffer: launchers assert it.

use super::context::Context;
use super::error::{CudaError, Doing};
use super::memory::Element;
use cudarc::driver::result;
use cudarc::driver::sys::CUdeviceptr;
use std::ffi::c_void;
use std::marker::PhantomData;

/// Threads of a block wherever an operation has no reason for another number; `THREADS` of `kernels/common.cuh`.
pub(super) const THREADS: u32 = 256;
/// Blocks along x.
const MOST_BLOCKS_X: u64 = (1 << 31) - 1;
/// Blocks along y.
const MOST_BLOCKS_Y: u64 = 65_535;
/// Dynamic shared memory that every device gives without being asked, in bytes.
pub(super) const SHARED_MEMORY: usize = 48 << 10;

/// Device memory that a kernel reads.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct In<'a, T> {
    pointer: CUdeviceptr,
    len: usize,
    memory: PhantomData<&'a T>,
}

impl<T> In<'_, T> {
    /// `len` elements from `pointer`.
    pub(super) fn new(pointer: CUdeviceptr, len: usize) -> Self {
        Self { pointer, len, memory: PhantomData }
    }

    /// A null pointer, for an input that is not there.
    pub(super) fn absent() -> Self {
        Self::new(0, 0)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The elements from `offset` on.
    pub(super) fn from(self, offset: usize) -> Self {
        assert!(offset <= self.len, "{offset} lies beyond {} elements", self.len);
        Self::new(self.pointer + (offset * size_of::<T>()) as u64, self.len - offset)
    }

    pub(super) fn pointer(&self) -> CUdeviceptr {
        self.pointer
    }

    fn argument(&self) -> *mut c_void {
        (&raw const self.pointer).cast_mut().cast()
    }
}

/// Device memory that a kernel writes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Out<'a, T> {
    pointer: CUdeviceptr,
    len: usize,
    memory: PhantomData<&'a mut T>,
}

impl<T> Out<'_, T> {
    /// `len` elements from `pointer`.
    pub(super) fn new(pointer: CUdeviceptr, len: usize) -> Self {
        Self { pointer, len, memory: PhantomData }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The elements from `offset` on.
    pub(super) fn from(self, offset: usize) -> Self {
        assert!(offset <= self.len, "{offset} lies beyond {} elements", self.len);
        Self::new(self.pointer + (offset * size_of::<T>()) as u64, self.len - offset)
    }

    /// The first `len` elements.
    pub(super) fn first(self, len: usize) -> Self {
        assert!(len <= self.len, "{len} elements are more than {}", self.len);
        Self::new(self.pointer, len)
    }

    pub(super) fn pointer(&self) -> CUdeviceptr {
        self.pointer
    }

    fn argument(&self) -> *mut c_void {
        (&raw const self.pointer).cast_mut().cast()
    }
}

/// How many blocks of how many threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    x: u64,
    y: u64,
    threads: u32,
    shared: usize,
}

impl Grid {
    /// Blocks of [`THREADS`] along x that cover `threads` threads.
    pub(super) fn threads(threads: u64) -> Self {
        Self::blocks(threads.div_ceil(u64::from(THREADS)), THREADS)
    }

    /// `blocks` blocks along x.
    pub(super) fn blocks(blocks: u64, threads: u32) -> Self {
        Self::plane(blocks, 1, threads)
    }

    /// Blocks of [`THREADS`] along the lines of a feature map, each with `items` for its threads; `line_place` of
    /// `kernels/common.cuh`.
    pub(super) fn lines(lines: u64, items: u64) -> Self {
        Self::blocks(lines * items.div_ceil(u64::from(THREADS)), THREADS)
    }

    /// `x · y` blocks.
    pub(super) fn plane(x: u64, y: u64, threads: u32) -> Self {
        Self { x, y, threads, shared: 0 }
    }

    /// With `bytes` of dynamic shared memory a block.
    pub(super) fn shared(self, bytes: usize) -> Self {
        Self { shared: bytes, ..self }
    }

    /// The sizes as the driver takes them, refused where no device takes them.
    fn checked(&self, kernel: &'static str) -> Result<(u32, u32, u32), CudaError> {
        let refuse = |what: String| Err(CudaError::LaunchTooLarge { kernel, what });
        if self.x > MOST_BLOCKS_X || self.y > MOST_BLOCKS_Y {
            return refuse(format!("{} × {} blocks", self.x, self.y));
        }
        if self.shared > SHARED_MEMORY {
            return refuse(format!("{} bytes of shared memory", self.shared));
        }
        Ok((self.x as u32, self.y as u32, self.shared as u32))
    }
}

/// A kernel with its arguments.
pub(super) trait Kernel: Sized {
    /// One pointer an argument.
    type Arguments: AsMut<[*mut c_void]>;

    /// Its place in [`kernels::FUNCTIONS`].
    fn function() -> usize;

    /// Pointers to the arguments, which live in `self`.
    fn arguments(&self) -> Self::Arguments;

    /// Enqueues the kernel on the compute stream.
    fn launch(self, context: &Context, grid: Grid) -> Result<(), CudaError> {
        let (_, name) = kernels::FUNCTIONS[Self::function()];
        let (x, y, shared) = grid.checked(name)?;
        if x == 0 || y == 0 {
            return Ok(());
        }
        let function = context.modules.function(Self::function())?;
        let mut arguments = self.arguments();
        context.bind()?;
        // SAFETY: the arguments have the types and the order of the kernel's own declaration, from which they were
        // generated; their memory outlives the launch, because it goes back to the stream-ordered list only after
        // it, and the replays of a recording, because `run_recorded` asks its caller for that; the launcher asserted
        // the lengths that the kernel relies on.
        unsafe {
            result::launch_kernel(
                function,
                (x, y, 1),
                (grid.threads, 1, 1),
                shared,
                context.memory.stream(),
                arguments.as_mut(),
            )
        }
        .doing(name)
    }
}

/// The arguments of every kernel.
pub(super) mod kernels {
    use super::{Element, In, Kernel, Out};

    include!(concat!(env!("OUT_DIR"), "/launchers.rs"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_beyond_the_limits_is_refused_by_name() {
        assert_eq!(Grid::threads(257).checked("k").unwrap(), (2, 1, 0));
        assert_eq!(Grid::threads(0).checked("k").unwrap(), (0, 1, 0));
        let refused = [
            Grid::blocks(1 << 31, THREADS),
            Grid::plane(1, 65_536, THREADS),
            Grid::threads(1).shared(SHARED_MEMORY + 1),
        ];
        for grid in refused {
            let message = grid.checked("a_kernel").unwrap_err().to_string();
            assert!(message.starts_with("a_kernel"), "{message}");
        }
    }

    #[test]
    fn an_offset_moves_the_pointer_and_shortens_the_rest() {
        let view = In::<f32>::new(1024, 10).from(4);
        assert_eq!((view.pointer(), view.len()), (1040, 6));
    }
}
