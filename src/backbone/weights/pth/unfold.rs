//! From a pickle that has run to a tree of values.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::machine::{Container, Item, Machine, StorageRef};
use super::value::{TorchTensor, Value};
use super::{FileBytes, PthError, damaged};
use crate::backbone::weights::element::ElementType;

/// How deeply containers may nest.
const DEEPEST_NESTING: usize = 64;

/// A pickle that was run to its end.
pub(super) struct Pickle {
    root: Item,
    containers: Vec<Container>,
    /// Element type of every storage that was named, by key.
    pub(super) storages: BTreeMap<Rc<str>, ElementType>,
    /// Bytes from the pickle's first to its last opcode.
    pub(super) length: usize,
}

impl Pickle {
    /// Runs the pickle that `bytes` begin with.
    pub(super) fn run(bytes: &[u8]) -> Result<Self, PthError> {
        let mut machine = Machine::new(bytes);
        let start = machine.rest.len();
        while !machine.step()? {}
        let (root, length) = (machine.pop()?, start - machine.rest.len());
        Ok(Self { root, containers: machine.containers, storages: machine.storages, length })
    }

    /// The result, where it is an integer.
    pub(super) fn integer(&self) -> Option<i128> {
        if let Item::Int(value) = self.root { Some(value) } else { None }
    }

    /// The result as a tree; `locate` says where in `file` the bytes of a storage lie.
    pub(super) fn value(
        &self,
        file: &FileBytes,
        locate: &dyn Fn(&StorageRef) -> Result<Range<usize>, PthError>,
    ) -> Result<Value, PthError> {
        // Every value of a pickle without sharing costs it a byte or more; a little sharing is normal.
        let mut unfold = Unfold { pickle: self, file, locate, budget: 8 * self.length + 1024 };
        unfold.value(&self.root, 0)
    }
}

/// Turns stack items into a tree, counting what it makes.
struct Unfold<'a> {
    pickle: &'a Pickle,
    file: &'a FileBytes,
    locate: &'a dyn Fn(&StorageRef) -> Result<Range<usize>, PthError>,
    budget: usize,
}

impl Unfold<'_> {
    fn value(&mut self, item: &Item, depth: usize) -> Result<Value, PthError> {
        let cost = if let Item::Text(text) = item { 1 + text.len() } else { 1 };
        self.budget = match self.budget.checked_sub(cost) {
            Some(left) if depth <= DEEPEST_NESTING => left,
            _ => return damaged("its containers are nested or shared without end"),
        };
        Ok(match item {
            Item::None => Value::None,
            Item::Bool(value) => Value::Bool(*value),
            Item::Int(value) => match i64::try_from(*value) {
                Ok(value) => Value::Int(value),
                Err(_) => return Err(PthError::Unsupported(format!("the integer {value}"))),
            },
            Item::Float(value) => Value::Float(*value),
            Item::Text(text) => Value::Text(text.to_string()),
            Item::Global(_) | Item::Storage(_) => {
                return Err(PthError::Unsupported("a bare storage or function".into()));
            }
            Item::Tensor(recipe) => {
                let bytes = (self.locate)(&recipe.storage)?;
                let (shape, strides) = (recipe.shape.clone(), recipe.strides.clone());
                let element = recipe.storage.element;
                Value::Tensor(TorchTensor::new(self.file, bytes, element, recipe.offset, shape, strides)?)
            }
            Item::Container(number) => match &self.pickle.containers[*number] {
                Container::Tuple(items) => Value::Tuple(self.values(items, depth)?),
                Container::List(items) => Value::List(self.values(items, depth)?),
                Container::Dict(entries) => Value::Dict(
                    entries
                        .iter()
                        .map(|(k, v)| Ok((self.value(k, depth + 1)?, self.value(v, depth + 1)?)))
                        .collect::<Result<_, PthError>>()?,
                ),
            },
        })
    }

    fn values(&mut self, items: &[Item], depth: usize) -> Result<Vec<Value>, PthError> {
        items.iter().map(|item| self.value(item, depth + 1)).collect()
    }
}
