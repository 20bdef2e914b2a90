//! The compiled kernels, as `build.rs` left them: one image a file of `kernels/`, in alphabetical order.
//!
//! `IMAGES` holds names and fatbins, `ARCHITECTURES` what they have machine code for (90 is `sm_90`),
//! `PTX_ARCHITECTURES` what they have PTX of, which drivers compile for everything newer, and `NVCC_VERSION` the
//! compiler. Where there was no nvcc, the images are empty and `NVCC_VERSION` is `None`.

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
