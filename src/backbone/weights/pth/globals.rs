//! The Python names a `.pth` file may use: all of them, and what each stands for.

use super::PthError;
use crate::backbone::weights::element::ElementType;

/// A Python object that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`: what `state_dict()` returns.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`: a tensor from a storage, an offset, a shape and strides.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: a tensor marked as learned.
    RebuildParameter,
    /// `torch.FloatStorage` and its kin: the element type of a storage.
    Storage(ElementType),
}

impl Global {
    /// The object called `module.name`.
    ///
    /// # Errors
    /// [`PthError::Refused`] for every name that is not listed here.
    pub(super) fn find(module: &str, name: &str) -> Result<Self, PthError> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "FloatStorage") => Self::Storage(ElementType::F32),
            ("torch", "HalfStorage") => Self::Storage(ElementType::F16),
            ("torch", "BFloat16Storage") => Self::Storage(ElementType::Bf16),
            ("torch", "DoubleStorage") => Self::Storage(ElementType::F64),
            ("torch", "LongStorage") => Self::Storage(ElementType::Integer(8)),
            ("torch", "IntStorage") => Self::Storage(ElementType::Integer(4)),
            ("torch", "ShortStorage") => Self::Storage(ElementType::Integer(2)),
            ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => {
                Self::Storage(ElementType::Integer(1))
            }
            _ => return Err(PthError::Refused(format!("{module}.{name}"))),
        })
    }
}
