//! Copies between host and device, through page-locked memory: only from there do they run beside kernels.
//!
//! There are two pieces for uploads, used in turn, so that the host fills one while the device reads the other. A
//! piece is filled again once the event behind its last copy has passed.

use super::error::{CudaError, Doing};
use super::memory::{Buffer, Memory};
use cudarc::driver::sys::{CU_MEMHOSTALLOC_DEVICEMAP, CU_MEMHOSTALLOC_WRITECOMBINED, CUdeviceptr};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, result};
use std::sync::Arc;

/// Bytes copied at a time.
const PIECE: usize = 8 << 20;

/// Page-locked host memory.
#[derive(Debug)]
pub(super) struct Pinned {
    pointer: *mut u8,
    bytes: usize,
    context: Arc<CudaContext>,
}

// SAFETY: the memory belongs to this value alone, like that of a Vec.
unsafe impl Send for Pinned {}
// SAFETY: a shared reference only reads it.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Zeroed memory that the device can read and write, too, under the same address.
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, CudaError> {
        Self::with_flags(context, bytes, CU_MEMHOSTALLOC_DEVICEMAP)
    }

    fn with_flags(context: &Arc<CudaContext>, bytes: usize, flags: u32) -> Result<Self, CudaError> {
        context.bind_to_thread().doing("binding its context")?;
        // SAFETY: the memory is owned by the value made here, which frees it once.
        let pointer = unsafe { result::malloc_host(bytes.max(1), flags) };
        let pointer = pointer.map_err(|source| CudaError::HostMemory { asked: bytes, source })?.cast::<u8>();
        // SAFETY: `bytes` bytes from `pointer` were just allocated.
        unsafe { pointer.write_bytes(0, bytes) };
        Ok(Self { pointer, bytes, context: Arc::clone(context) })
    }

    /// Its address on the device: under unified addressing, which every supported device has, that of the host.
    pub(super) fn device_pointer(&self) -> CUdeviceptr {
        self.pointer as CUdeviceptr
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: allocated and initialised in `new`; nobody writes while the reference lives, because every copy
        // into it was waited for.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and every copy out of it was waited for.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // Whoever has it waits for the copies that use it.
        // SAFETY: allocated in `new`, freed once.
        let freed = unsafe { result::free_host(self.pointer.cast()) };
        self.context.record_err(freed);
    }
}

/// The pieces and the streams that copies run on.
#[derive(Debug)]
pub(super) struct Staging {
    context: Arc<CudaContext>,
    compute: Arc<CudaStream>,
    copy: Arc<CudaStream>,
    /// Of the memory that the host writes and never reads.
    upload_flags: u32,
    /// Why that does not pass the host's caches by, in words.
    upload_refusal: Option<String>,
    uploads: [Option<Upload>; 2],
    images: [Option<ImageSlot>; 2],
    next_upload: usize,
    next_image: usize,
    download: Option<Pinned>,
}

#[derive(Debug)]
struct Upload {
    memory: Pinned,
    copied: CudaEvent,
}

impl Upload {
    fn new(context: &Arc<CudaContext>, flags: u32) -> Result<Self, CudaError> {
        let memory = Pinned::with_flags(context, PIECE, flags)?;
        Ok(Self { memory, copied: context.new_event(None).doing("making an event")? })
    }
}

/// A batch of images on its way: host and device memory, and the events between the streams.
#[derive(Debug)]
struct ImageSlot {
    host: Pinned,
    device: Buffer,
    /// The copy has run: the host may fill its side again, and kernels may read the device's.
    copied: CudaEvent,
    /// The device's side was copied into place: the next copy may overwrite it.
    consumed: CudaEvent,
}

impl Staging {
    /// Takes the first piece at once: some virtual machines refuse memory that passes the host's caches by, and there
    /// all uploads go through ordinary page-locked memory ([`Staging::refusal`]).
    pub(super) fn new(
        context: Arc<CudaContext>,
        compute: Arc<CudaStream>,
        copy: Arc<CudaStream>,
    ) -> Result<Self, CudaError> {
        let (upload_flags, first, upload_refusal) = match Upload::new(&context, CU_MEMHOSTALLOC_WRITECOMBINED)
        {
            Ok(upload) => (CU_MEMHOSTALLOC_WRITECOMBINED, upload, None),
            Err(error) => (0, Upload::new(&context, 0)?, Some(error.to_string())),
        };
        Ok(Self {
            context,
            compute,
            copy,
            upload_flags,
            upload_refusal,
            uploads: [Some(first), None],
            images: [None, None],
            next_upload: 0,
            next_image: 0,
            download: None,
        })
    }

    /// Why what is uploaded does not pass the host's caches by; none where it does, as it should.
    pub(super) fn refusal(&self) -> Option<String> {
        self.upload_refusal.clone()
    }

    /// Copies `bytes` to the start of a buffer, in the order of the compute stream.
    pub(super) fn upload(&mut self, bytes: &[u8], to: &Buffer) -> Result<(), CudaError> {
        assert!(bytes.len() <= to.bytes(), "an upload fits its buffer");
        for (piece, bytes) in bytes.chunks(PIECE).enumerate() {
            let slot = &mut self.uploads[self.next_upload];
            self.next_upload = 1 - self.next_upload;
            let upload = match slot {
                Some(upload) => upload,
                None => slot.insert(Upload::new(&self.context, self.upload_flags)?),
            };
            upload.copied.synchronize().doing("waiting for a copy")?;
            let staged = &mut upload.memory.bytes_mut()[..bytes.len()];
            staged.copy_from_slice(bytes);
            let target = to.pointer() + (piece * PIECE) as u64;
            // SAFETY: source and target are as long as the piece; the source stays untouched until `copied` passed.
            unsafe { result::memcpy_htod_async(target, staged, self.compute.cu_stream()) }
                .doing("copying to the device")?;
            upload.copied.record(&self.compute).doing("recording an event")?;
        }
        Ok(())
    }

    /// Copies images into a buffer: over the bus on the copy stream, while the compute stream still works on the last
    /// ones, and from there in the order of the compute stream.
    pub(super) fn upload_images(
        &mut self,
        memory: &Arc<Memory>,
        bytes: &[u8],
        to: &Buffer,
    ) -> Result<(), CudaError> {
        assert!(bytes.len() <= to.bytes(), "images fit their buffer");
        self.context.bind_to_thread().doing("binding its context")?;
        let slot = &mut self.images[self.next_image];
        self.next_image = 1 - self.next_image;
        if slot.as_ref().is_none_or(|slot| slot.device.bytes() < bytes.len()) {
            // A smaller one goes back to the compute stream's memory: its last copy must have run before.
            if let Some(slot) = slot {
                slot.copied.synchronize().doing("waiting for a copy")?;
            }
            let event = || self.context.new_event(None).doing("making an event");
            let (copied, consumed) = (event()?, event()?);
            let device = memory.buffer(bytes.len())?;
            // Whoever had the buffer before, on the compute stream, comes first.
            consumed.record(&self.compute).doing("recording an event")?;
            let host = Pinned::with_flags(&self.context, bytes.len(), self.upload_flags)?;
            *slot = Some(ImageSlot { host, device, copied, consumed });
        }
        let Some(slot) = slot else { unreachable!("it was just filled") };
        slot.copied.synchronize().doing("waiting for a copy")?;
        let staged = &mut slot.host.bytes_mut()[..bytes.len()];
        staged.copy_from_slice(bytes);
        self.copy.wait(&slot.consumed).doing("waiting for a copy")?;
        // SAFETY: source and target are at least as long as `bytes`; the source stays untouched until `copied`
        // passed, the target is read after it.
        unsafe { result::memcpy_htod_async(slot.device.pointer(), staged, self.copy.cu_stream()) }
            .doing("copying images to the device")?;
        slot.copied.record(&self.copy).doing("recording an event")?;
        self.compute.wait(&slot.copied).doing("waiting for a copy")?;
        let (source, compute) = (slot.device.pointer(), self.compute.cu_stream());
        // SAFETY: both sides are at least as long as `bytes`, and `copied` has passed before the source is read.
        unsafe { result::memcpy_dtod_async(to.pointer(), source, bytes.len(), compute) }
            .doing("copying images into place")?;
        slot.consumed.record(&self.compute).doing("recording an event")
    }

    /// Waits for both streams.
    pub(super) fn synchronize(&self) -> Result<(), CudaError> {
        self.copy.synchronize().doing("waiting for copies")?;
        self.compute.synchronize().doing("waiting for its work")
    }

    /// Copies the start of a buffer to the host, waiting for the work that produces it.
    pub(super) fn download(&mut self, from: &Buffer, into: &mut [u8]) -> Result<(), CudaError> {
        assert!(into.len() <= from.bytes(), "a download stays within its buffer");
        let staged = match &mut self.download {
            Some(staged) => staged,
            None => self.download.insert(Pinned::new(&self.context, PIECE)?),
        };
        self.context.bind_to_thread().doing("binding its context")?;
        for (piece, into) in into.chunks_mut(PIECE).enumerate() {
            let source = from.pointer() + (piece * PIECE) as u64;
            // SAFETY: both sides are as long as the piece; the stream is waited for before anybody reads.
            unsafe {
                let staged = &mut staged.bytes_mut()[..into.len()];
                result::memcpy_dtoh_async(staged, source, self.compute.cu_stream())
            }
            .doing("copying from the device")?;
            self.compute.synchronize().doing("waiting for its results")?;
            into.copy_from_slice(&staged.bytes()[..into.len()]);
        }
        Ok(())
    }
}

impl Drop for Staging {
    /// The device's side of an image slot goes back to the compute stream's memory, on which the copy stream's last
    /// work must not land; and page-locked memory is given back at once, which the compute stream may still copy from.
    fn drop(&mut self) {
        self.context.record_err(self.copy.synchronize());
        self.context.record_err(self.compute.synchronize());
    }
}
