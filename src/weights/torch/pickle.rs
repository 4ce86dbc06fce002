//! Reads the pickle of a state dict with a stack machine that knows few words and calls nothing.
//!
//! Python's own unpickler runs whatever function a file names. Here a name that is not in [`Global`] is an error,
//! and the others are built in place. Containers lie in lists and are meant by their position, so neither deep
//! nesting nor a list that holds itself ten times over costs more than the bytes that say so.

use super::value::{Global, Storage, Value, View};
use std::collections::HashMap;
use std::rc::Rc;

/// Values that may be made; a model of 600 tensors makes about 25,000.
const MOST_VALUES: usize = 1 << 22;
/// The longest name of a class or of a tensor, in bytes.
const LONGEST_TEXT: usize = 4096;
/// As torch has it.
const MOST_DIMENSIONS: usize = 64;
/// No dimension or number of elements needs more.
const LONGEST_INTEGER: usize = 8;

/// What a pickle describes: the entries of its dictionary, and the storages that they look into.
pub struct State {
    pub entries: Vec<(Rc<str>, View)>,
    pub storages: Vec<Storage>,
}

/// The state dict that a pickle holds.
pub fn read(bytes: &[u8]) -> Result<State, String> {
    let mut machine = Machine { rest: bytes, ..Machine::default() };
    while machine.step()? == Step::More {}
    machine.state()
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    made: usize,
    items: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<Storage>,
    tensors: Vec<View>,
}

#[derive(PartialEq)]
enum Step {
    More,
    Stop,
}

impl<'a> Machine<'a> {
    /// One instruction; the letters are those of Python's pickletools.
    fn step(&mut self) -> Result<Step, String> {
        let [code] = self.array()?;
        match code {
            0x80 => self.protocol()?,
            0x95 => drop(self.array::<8>()?),
            b'.' => return Ok(Step::Stop),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => self.push(self.top()?.clone())?,
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool)?,
            b'K' => {
                let [n] = self.array()?;
                self.push(Value::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(n.into()))?;
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(n.into()))?;
            }
            0x8a => {
                let [length] = self.array()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?);
                self.long(length as usize)?;
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Float)?;
            }
            b'U' | 0x8c => {
                let [length] = self.array()?;
                self.text(length.into())?;
            }
            b'T' | b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)?;
            }
            b']' | b')' => self.new_items(Vec::new())?,
            b'l' | b't' => {
                let values = self.since_mark()?;
                self.new_items(values)?;
            }
            0x85..=0x87 => {
                let values = self.take(usize::from(code - 0x84))?;
                self.new_items(values)?;
            }
            b'a' => {
                let values = self.take(1)?;
                self.extend(values)?;
            }
            b'e' => {
                let values = self.since_mark()?;
                self.extend(values)?;
            }
            b'}' => self.new_dict()?,
            b's' => {
                let values = self.take(2)?;
                self.set_items(values)?;
            }
            b'u' => {
                let values = self.since_mark()?;
                self.set_items(values)?;
            }
            b'q' => {
                let [at] = self.array()?;
                self.remember(at.into())?;
            }
            b'r' => {
                let at = u32::from_le_bytes(self.array()?);
                self.remember(at)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let [at] = self.array()?;
                self.recall(at.into())?;
            }
            b'j' => {
                let at = u32::from_le_bytes(self.array()?);
                self.recall(at)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err("a class is named by something that is no text".into());
                };
                self.global(&module, &name)?;
            }
            b'Q' => self.storage()?,
            b'R' | 0x81 => self.call()?,
            // Attributes, such as a state dict's `_metadata`, change no tensor.
            b'b' => drop(self.pop()?),
            _ => return Err(format!("instruction 0x{code:02x} is none that torch.save writes")),
        }
        Ok(Step::More)
    }

    fn protocol(&mut self) -> Result<(), String> {
        let [version] = self.array()?;
        match version {
            2..=5 => Ok(()),
            _ => Err(format!("pickle protocol {version} is not one from 2 to 5")),
        }
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("the pickle ends in the middle")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or("the pickle ends in the middle")?;
        self.rest = rest;
        Ok(*taken)
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().take(LONGEST_TEXT).position(|&b| b == b'\n');
        let line = self.bytes(end.ok_or("the name of a class does not end")?)?;
        self.bytes(1)?;
        std::str::from_utf8(line).map_err(|_| "the name of a class is not UTF-8".into())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.made += 1;
        if self.made > MOST_VALUES {
            return Err(format!("more than {MOST_VALUES} values are too many for a model"));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The height that the innermost mark protects from being taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<&Value, String> {
        self.stack[self.floor()..].last().ok_or_else(|| "the pickle takes a value that is not there".into())
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.take(1)?.pop().ok_or_else(|| "the pickle takes a value that is not there".into())
    }

    fn take(&mut self, count: usize) -> Result<Vec<Value>, String> {
        match self.stack.len() - self.floor() >= count {
            true => Ok(self.stack.split_off(self.stack.len() - count)),
            false => Err("the pickle takes a value that is not there".into()),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let height = self.marks.pop().ok_or("the pickle takes a mark that is not there")?;
        Ok(self.stack.split_off(height))
    }

    fn long(&mut self, length: usize) -> Result<(), String> {
        if length > LONGEST_INTEGER {
            return Err(format!("an integer of {length} bytes is too long for a size"));
        }
        let digits = self.bytes(length)?;
        // Two's complement, the last byte carrying the sign.
        let fill = if digits.last().is_some_and(|&b| b >= 0x80) { 0xff } else { 0 };
        let mut whole = [fill; LONGEST_INTEGER];
        whole[..length].copy_from_slice(digits);
        self.push(Value::Int(i64::from_le_bytes(whole)))
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        if length > LONGEST_TEXT {
            return Err(format!("a text of {length} bytes is too long for a name"));
        }
        let text = std::str::from_utf8(self.bytes(length)?).map_err(|_| "a name is not UTF-8")?;
        self.push(Value::Text(text.into()))
    }

    fn new_items(&mut self, values: Vec<Value>) -> Result<(), String> {
        self.items.push(values);
        self.push(Value::Items(self.items.len() - 1))
    }

    fn new_dict(&mut self) -> Result<(), String> {
        self.dicts.push(Vec::new());
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    fn extend(&mut self, values: Vec<Value>) -> Result<(), String> {
        match *self.top()? {
            Value::Items(at) => self.items[at].extend(values),
            ref other => return Err(format!("the pickle appends to {}", other.kind())),
        }
        Ok(())
    }

    fn set_items(&mut self, values: Vec<Value>) -> Result<(), String> {
        let at = match *self.top()? {
            Value::Dict(at) => at,
            ref other => return Err(format!("the pickle sets a key of {}", other.kind())),
        };
        let mut values = values.into_iter();
        while let Some(key) = values.next() {
            let value = values.next().ok_or("the pickle sets a key to nothing")?;
            self.dicts[at].push((key, value));
        }
        Ok(())
    }

    fn remember(&mut self, at: u32) -> Result<(), String> {
        let value = self.top()?.clone();
        self.memo.insert(at, value);
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<(), String> {
        let value = self.memo.get(&at).cloned().ok_or("the pickle recalls a value that it never kept")?;
        self.push(value)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = Global::parse(module, name).ok_or_else(|| {
            format!(
                "it names {module}.{name}, which no file of weights needs; nothing was run. \
                 Get the weights as safetensors, or from a source that you trust"
            )
        })?;
        self.push(Value::Global(global))
    }

    /// A persistent id: ("storage", class, key, where it was, length).
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        match self.content(&id) {
            Some(
                [Value::Text(tag), Value::Global(Global::Storage(dtype)), Value::Text(key), _, Value::Int(n)],
            ) if &**tag == "storage" => {
                let length = u64::try_from(*n).map_err(|_| format!("storage {key:?} has {n} elements"))?;
                let storage = Storage { dtype: *dtype, key: key.clone(), length };
                self.storages.push(storage);
                self.push(Value::Storage(self.storages.len() - 1))
            }
            _ => Err("a storage is described in a form that torch.save does not write".into()),
        }
    }

    fn content(&self, value: &Value) -> Option<&[Value]> {
        match value {
            Value::Items(at) => Some(&self.items[*at]),
            _ => None,
        }
    }

    /// What a known class or function would return.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = self.content(&arguments).ok_or("a call without a list of arguments")?;
        match (&function, arguments) {
            (Value::Global(Global::OrderedDict), []) => self.new_dict(),
            (Value::Global(Global::RebuildParameter), [tensor @ Value::Tensor(_), ..]) => {
                let tensor = tensor.clone();
                self.push(tensor)
            }
            (
                Value::Global(Global::RebuildTensor),
                [Value::Storage(at), Value::Int(offset), shape, strides, ..],
            ) => {
                let offset = u64::try_from(*offset).map_err(|_| format!("a tensor begins at {offset}"))?;
                let view =
                    View { storage: *at, offset, shape: self.sizes(shape)?, strides: self.sizes(strides)? };
                self.tensors.push(view);
                self.push(Value::Tensor(self.tensors.len() - 1))
            }
            (Value::Global(global), _) => {
                Err(format!("{global:?} is given arguments that torch.save does not write"))
            }
            (other, _) => Err(format!("the pickle calls {}", other.kind())),
        }
    }

    fn sizes(&self, value: &Value) -> Result<Vec<u64>, String> {
        let content = self.content(value).ok_or("a shape or a stride that is no list")?;
        if content.len() > MOST_DIMENSIONS {
            return Err(format!("a tensor of {} dimensions", content.len()));
        }
        let size = |value: &Value| match value {
            Value::Int(n) => u64::try_from(*n).map_err(|_| format!("a size or a stride of {n}")),
            other => Err(format!("a size or a stride that is {}", other.kind())),
        };
        content.iter().map(size).collect()
    }

    fn state(mut self) -> Result<State, String> {
        let at = match self.pop()? {
            Value::Dict(at) => at,
            other => return Err(not_a_state_dict(&format!("it holds {}", other.kind()))),
        };
        let mut entries = Vec::with_capacity(self.dicts[at].len());
        for (key, value) in &self.dicts[at] {
            match (key, value) {
                (Value::Text(name), Value::Tensor(at)) => {
                    entries.push((name.clone(), self.tensors[*at].clone()))
                }
                (Value::Text(name), other) => {
                    return Err(not_a_state_dict(&format!("{name:?} is {}", other.kind())));
                }
                (other, _) => return Err(not_a_state_dict(&format!("a key is {}", other.kind()))),
            }
        }
        Ok(State { entries, storages: self.storages })
    }
}

fn not_a_state_dict(what: &str) -> String {
    format!(
        "this is no dictionary of tensors: {what}; save the weights alone, torch.save(model.state_dict(), ..)"
    )
}
