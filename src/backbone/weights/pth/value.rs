//! What a `.pth` file holds: a tree of Python's plain values, with tensors as leaves.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{FileBytes, PthError, damaged};
use crate::backbone::weights::element::ElementType;
use crate::tensor::Tensor;

/// A Python value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(String),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// A dict or OrderedDict, in the file's order.
    Dict(Vec<(Value, Value)>),
    /// A tensor or parameter.
    Tensor(TorchTensor),
}

impl Value {
    /// The entry `key` of a dictionary.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Self::Dict(entries) = self else { return None };
        entries
            .iter()
            .rev()
            .find(|(k, _)| matches!(k, Self::Text(text) if text == key))
            .map(|(_, value)| value)
    }

    /// Every tensor below this value, by its path of dictionary keys joined with dots; other values are left out.
    ///
    /// `{'pre_projection': {'layers.0fc.weight': T}}` gives `pre_projection.layers.0fc.weight`.
    pub fn flatten(&self) -> BTreeMap<String, &TorchTensor> {
        fn visit<'a>(value: &'a Value, path: &str, found: &mut BTreeMap<String, &'a TorchTensor>) {
            let Value::Dict(entries) = value else { return };
            for (key, value) in entries {
                let Value::Text(key) = key else { continue };
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match value {
                    Value::Tensor(tensor) => drop(found.insert(path, tensor)),
                    other => visit(other, &path, found),
                }
            }
        }
        let mut found = BTreeMap::new();
        visit(self, "", &mut found);
        found
    }
}

/// A tensor as PyTorch stores it: a strided view of a storage. The elements are still in the file.
#[derive(Clone)]
pub struct TorchTensor {
    shape: Vec<usize>,
    /// In elements, like PyTorch's.
    strides: Vec<usize>,
    /// First element of the view within its storage.
    offset: usize,
    element: ElementType,
    file: FileBytes,
    /// The storage's bytes within the file.
    storage: Range<usize>,
}

impl TorchTensor {
    /// A view of the storage `file[storage]`.
    ///
    /// Every element must lie within the storage, and there may be no more elements than the storage has: a tensor
    /// expanded with stride 0 could otherwise ask for any amount of memory.
    pub(super) fn new(
        file: &FileBytes,
        storage: Range<usize>,
        element: ElementType,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self, PthError> {
        if shape.len() != strides.len() {
            return damaged(format!("a tensor of shape {shape:?} has strides {strides:?}"));
        }
        let stored = storage.len() / element.size();
        let count = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let last = shape.iter().zip(&strides).try_fold(offset, |last, (&extent, &stride)| {
            last.checked_add(extent.saturating_sub(1).checked_mul(stride)?)
        });
        match (count, last) {
            (Some(0), _) => {}
            (Some(count), Some(last)) if count <= stored && last < stored => {}
            _ => {
                return damaged(format!(
                    "a tensor of shape {shape:?} exceeds its storage of {stored} elements"
                ));
            }
        }
        Ok(Self { shape, strides, offset, element, file: file.clone(), storage })
    }

    /// The extent of every axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How the elements are stored.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The elements, row-major whatever the strides are; `None` for integer tensors.
    pub fn to_f32(&self) -> Option<Tensor> {
        let bytes = &(*self.file).as_ref()[self.storage.clone()];
        let size = self.element.size();
        let count: usize = self.shape.iter().product();
        let data = if count == 0 {
            self.element.to_f32(&[])?
        } else if self.is_contiguous() {
            self.element.to_f32(&bytes[self.offset * size..(self.offset + count) * size])?
        } else {
            let mut gathered = Vec::with_capacity(count * size);
            let mut index = vec![0; self.shape.len()];
            for _ in 0..count {
                let at: usize =
                    self.offset + index.iter().zip(&self.strides).map(|(i, s)| i * s).sum::<usize>();
                gathered.extend_from_slice(&bytes[at * size..(at + 1) * size]);
                // The next index in row-major order: the last axis runs fastest.
                for (i, &extent) in index.iter_mut().zip(&self.shape).rev() {
                    *i += 1;
                    if *i < extent {
                        break;
                    }
                    *i = 0;
                }
            }
            self.element.to_f32(&gathered)?
        };
        Some(Tensor::new(self.shape.clone(), data))
    }

    /// Whether the elements lie row-major without gaps. The stride of an axis of extent 1 says nothing.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&extent, &stride)| {
            let fits = extent == 1 || stride == expected;
            expected *= extent;
            fits
        })
    }
}

impl std::fmt::Debug for TorchTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} tensor of shape {:?}", self.element, self.shape)
    }
}
