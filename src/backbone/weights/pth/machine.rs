//! The stack machine: the opcodes of pickle protocols 2 to 5 that `torch.save` emits, and no way to call anything.
//!
//! The machine keeps every container in one flat list and refers to it by number, as pickles may share and even
//! nest containers in themselves; [`super::unfold`] makes a tree of them at the end, under a limit that honest
//! files never meet.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::globals::Global;
use super::{PthError, damaged};
use crate::backbone::weights::element::ElementType;

/// The longest pickle that is read; that of wide_resnet101_2 has 77 kB.
pub(super) const LONGEST_PICKLE: usize = 2 << 20;

/// What stands on the stack.
#[derive(Clone, Debug)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Rc<str>),
    Global(Global),
    Storage(Rc<StorageRef>),
    Tensor(Rc<Recipe>),
    /// The container of this number.
    Container(usize),
}

/// What items are in; a container never moves once it has its number.
#[derive(Debug)]
pub(super) enum Container {
    Tuple(Vec<Item>),
    List(Vec<Item>),
    Dict(Vec<(Item, Item)>),
}

/// A storage as a pickle names it; where its bytes are, the file's container knows.
#[derive(Debug)]
pub(super) struct StorageRef {
    /// The name of the root storage within the file.
    pub(super) key: Rc<str>,
    /// Its element type.
    pub(super) element: ElementType,
    /// First element and number of elements, where the storage is a view of the root (legacy files only).
    pub(super) view: Option<(usize, usize)>,
}

/// The arguments of `_rebuild_tensor_v2`.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) storage: Rc<StorageRef>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// A pickle that is running.
pub(super) struct Machine<'a> {
    /// What is still to be read.
    pub(super) rest: &'a [u8],
    pub(super) stack: Vec<Item>,
    /// Heights of the stack at which a MARK was set.
    marks: Vec<usize>,
    memo: HashMap<u32, Item>,
    pub(super) containers: Vec<Container>,
    /// Element type of every storage that was named, by key.
    pub(super) storages: BTreeMap<Rc<str>, ElementType>,
    /// Dictionary entries copied from lists: bounded, as one list could be copied many times.
    pub(super) copied: usize,
}

impl<'a> Machine<'a> {
    /// A machine about to run the pickle that `bytes` begin with.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: &bytes[..bytes.len().min(LONGEST_PICKLE)],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            containers: Vec::new(),
            storages: BTreeMap::new(),
            copied: 0,
        }
    }

    /// Runs one opcode; true at STOP. Names and codes are those of Python's `pickletools`.
    pub(super) fn step(&mut self) -> Result<bool, PthError> {
        let [opcode] = self.array()?;
        match opcode {
            // PROTO, FRAME: nothing to do.
            0x80 => drop(self.array::<1>()?),
            0x95 => drop(self.array::<8>()?),
            b'.' => return Ok(true),

            // NONE, NEWTRUE, NEWFALSE, BININT, BININT1, BININT2, LONG1, BINFLOAT.
            b'N' => self.stack.push(Item::None),
            0x88 => self.stack.push(Item::Bool(true)),
            0x89 => self.stack.push(Item::Bool(false)),
            b'J' => self.int(|m| Ok(i32::from_le_bytes(m.array()?).into()))?,
            b'K' => self.int(|m| Ok(u8::from_le_bytes(m.array()?).into()))?,
            b'M' => self.int(|m| Ok(u16::from_le_bytes(m.array()?).into()))?,
            0x8a => self.int(Self::long)?,
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.stack.push(Item::Float(value));
            }

            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8; BINSTRING and SHORT_BINSTRING are Python 2's strings.
            b'X' | b'T' => self.text(|m| Ok(u64::from(u32::from_le_bytes(m.array()?))))?,
            0x8c | b'U' => self.text(|m| Ok(u64::from(u8::from_le_bytes(m.array()?))))?,
            0x8d => self.text(|m| Ok(u64::from_le_bytes(m.array()?)))?,

            // MARK, EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE, EMPTY_LIST, EMPTY_DICT.
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.tuple(0)?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.contain(Container::Tuple(items));
            }
            b']' => self.contain(Container::List(Vec::new())),
            b'}' => self.contain(Container::Dict(Vec::new())),

            // APPEND, APPENDS, SETITEM, SETITEMS.
            b'a' => {
                let item = self.pop()?;
                self.extend_list([item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dict(&items)?;
            }

            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
            b'q' => {
                let [slot] = self.array()?;
                self.remember(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(slot)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let [slot] = self.array()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }

            // GLOBAL and INST name a function as two lines of text, STACK_GLOBAL as two strings on the stack.
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::find(module, name)?;
                if opcode == b'i' {
                    return Err(PthError::Unsupported("an instance of an old-style class".into()));
                }
                self.stack.push(Item::Global(global));
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Item::Text(name), Item::Text(module)) => {
                    self.stack.push(Item::Global(Global::find(&module, &name)?));
                }
                _ => return damaged("a function without a name"),
            },

            // BINPERSID, REDUCE, BUILD.
            b'Q' => self.storage()?,
            b'R' => self.reduce()?,
            b'b' => {
                // An OrderedDict's attributes, such as `_metadata`: versions of modules, of no use here.
                self.pop()?;
                let Some(Item::Container(_)) = self.stack.last() else {
                    return damaged("attributes for something that is no dictionary");
                };
            }
            other => return Err(PthError::Unsupported(format!("the pickle opcode 0x{other:02x}"))),
        }
        Ok(false)
    }

    /// The next `count` bytes.
    fn take(&mut self, count: u64) -> Result<&'a [u8], PthError> {
        match usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count)) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => damaged("its pickle ends too early"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PthError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    /// The text up to a line break.
    fn line(&mut self) -> Result<&'a str, PthError> {
        let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') else {
            return damaged("its pickle ends too early");
        };
        let line = self.take(end as u64 + 1)?;
        utf8(&line[..end])
    }

    fn int(&mut self, read: impl FnOnce(&mut Self) -> Result<i128, PthError>) -> Result<(), PthError> {
        let value = read(self)?;
        self.stack.push(Item::Int(value));
        Ok(())
    }

    /// LONG1: a length and two's-complement bytes, low first.
    fn long(&mut self) -> Result<i128, PthError> {
        let [length] = self.array()?;
        let bytes = self.take(length.into())?;
        if bytes.len() > 16 {
            return Err(PthError::Unsupported(format!("an integer of {length} bytes")));
        }
        let fill = if bytes.last().is_some_and(|&top| top >= 0x80) { 0xff } else { 0 };
        let mut wide = [fill; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(i128::from_le_bytes(wide))
    }

    fn text(&mut self, length: impl FnOnce(&mut Self) -> Result<u64, PthError>) -> Result<(), PthError> {
        let length = length(self)?;
        let text = utf8(self.take(length)?)?;
        self.stack.push(Item::Text(text.into()));
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Item, PthError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return damaged("its pickle takes from an empty stack");
        }
        self.stack.pop().ok_or_else(|| PthError::Damaged("its pickle takes from an empty stack".into()))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Item>, PthError> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => damaged("its pickle lacks a mark"),
        }
    }

    pub(super) fn contain(&mut self, container: Container) {
        self.stack.push(Item::Container(self.containers.len()));
        self.containers.push(container);
    }

    fn tuple(&mut self, count: usize) -> Result<(), PthError> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.contain(Container::Tuple(items));
        Ok(())
    }

    fn extend_list(&mut self, items: impl IntoIterator<Item = Item>) -> Result<(), PthError> {
        if let Some(&Item::Container(number)) = self.stack.last()
            && let Container::List(list) = &mut self.containers[number]
        {
            list.extend(items);
            return Ok(());
        }
        damaged("its pickle appends to something that is no list")
    }

    /// Adds keys and values, which alternate in `items`.
    fn extend_dict(&mut self, items: &[Item]) -> Result<(), PthError> {
        if let Some(&Item::Container(number)) = self.stack.last()
            && let Container::Dict(dict) = &mut self.containers[number]
            && let (pairs, []) = items.as_chunks::<2>()
        {
            dict.extend(pairs.iter().cloned().map(|[key, value]| (key, value)));
            return Ok(());
        }
        damaged("its pickle sets items of something that is no dictionary")
    }

    fn remember(&mut self, slot: u32) -> Result<(), PthError> {
        let Some(item) = self.stack.last() else { return damaged("its pickle remembers nothing") };
        self.memo.insert(slot, item.clone());
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), PthError> {
        let Some(item) = self.memo.get(&slot) else { return damaged("its pickle recalls what it never saw") };
        self.stack.push(item.clone());
        Ok(())
    }

    pub(super) fn items(&self, item: &Item) -> Option<&[Item]> {
        let Item::Container(number) = item else { return None };
        match &self.containers[*number] {
            Container::Tuple(items) | Container::List(items) => Some(items),
            Container::Dict(_) => None,
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, PthError> {
    std::str::from_utf8(bytes).map_err(|_| PthError::Damaged("a string that is no UTF-8".into()))
}
