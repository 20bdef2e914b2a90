//! Element types of stored tensors, and their conversion to `f32`.

use std::borrow::Cow;

use half::{bf16, f16};

/// How a tensor's elements are stored; little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// 64-bit float; rounded to nearest.
    F64,
    /// An integer or truth value of this many bytes: carried along, never a weight.
    Integer(usize),
}

impl ElementType {
    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Integer(size) => size,
        }
    }

    /// The elements of `bytes` as `f32`; `None` for integers. A rest shorter than an element is dropped: callers
    /// check lengths against shapes first.
    pub(super) fn to_f32(self, bytes: &[u8]) -> Option<Vec<f32>> {
        fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
            Some(bytes.as_chunks::<N>().0.iter().map(|&chunk| read(chunk)).collect())
        }
        match self {
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::Integer(_) => None,
        }
    }
}

/// The little-endian bytes of `values`.
pub(super) fn to_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }
}
