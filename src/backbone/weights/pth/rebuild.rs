//! The two opcodes that make tensors: a reference to a storage, and the "call" of one of the listed functions.

use std::rc::Rc;

use super::globals::Global;
use super::machine::{Container, Item, LONGEST_PICKLE, Machine, Recipe, StorageRef};
use super::{PthError, damaged};

/// How many axes a tensor may have.
const MOST_AXES: usize = 16;

impl Machine<'_> {
    /// `('storage', type, key, device, elements[, view])`, view being None or `(key, first element, elements)`.
    pub(super) fn storage(&mut self) -> Result<(), PthError> {
        let id = self.pop()?;
        let (key, element, view) = match self.items(&id) {
            Some(
                [Item::Text(kind), Item::Global(Global::Storage(element)), Item::Text(key), _, _, view @ ..],
            ) if **kind == *"storage" => {
                let view = match view {
                    [] | [Item::None] => None,
                    [view] => match self.items(view) {
                        Some([_, first, count]) => Some((size(first)?, size(count)?)),
                        _ => return damaged("a storage view without bounds"),
                    },
                    _ => return damaged("a storage with too many properties"),
                };
                (key.clone(), *element, view)
            }
            _ => return damaged("a reference to something that is no storage"),
        };
        if *self.storages.entry(key.clone()).or_insert(element) != element {
            return damaged(format!("storage {key} has two element types"));
        }
        self.stack.push(Item::Storage(Rc::new(StorageRef { key, element, view })));
        Ok(())
    }

    /// "Calls" one of the listed functions.
    pub(super) fn reduce(&mut self) -> Result<(), PthError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Item::Global(global), Some(arguments)) = (&function, self.items(&arguments)) else {
            return damaged("a call of something that is no function");
        };
        match (global, arguments) {
            (Global::OrderedDict, []) => self.contain(Container::Dict(Vec::new())),
            (Global::OrderedDict, [pairs]) => {
                // Python 2 passes the entries as a list of [key, value] lists.
                let Some(pairs) = self.items(pairs) else { return damaged("an OrderedDict of no list") };
                let mut entries = Vec::with_capacity(pairs.len());
                let copied = self.copied + pairs.len();
                if copied > LONGEST_PICKLE {
                    return damaged("one list in many dictionaries");
                }
                for pair in pairs {
                    let Some([key, value]) = self.items(pair) else {
                        return damaged("a pair of other than two");
                    };
                    entries.push((key.clone(), value.clone()));
                }
                self.copied = copied;
                self.contain(Container::Dict(entries));
            }
            (Global::RebuildTensor, [Item::Storage(storage), offset, shape, strides, ..]) => {
                let recipe = Recipe {
                    storage: storage.clone(),
                    offset: size(offset)?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                };
                self.stack.push(Item::Tensor(Rc::new(recipe)));
            }
            (Global::RebuildParameter, [tensor @ Item::Tensor(_), ..]) => {
                let tensor = tensor.clone();
                self.stack.push(tensor);
            }
            _ => return damaged(format!("a call of {global:?} with other arguments than torch.save writes")),
        }
        Ok(())
    }

    fn sizes(&self, item: &Item) -> Result<Vec<usize>, PthError> {
        match self.items(item) {
            Some(items) if items.len() <= MOST_AXES => items.iter().map(size).collect(),
            _ => damaged("a tensor without a proper shape"),
        }
    }
}

fn size(item: &Item) -> Result<usize, PthError> {
    if let Item::Int(value) = item
        && let Ok(value) = usize::try_from(*value)
    {
        return Ok(value);
    }
    damaged("a size that is no natural number")
}
