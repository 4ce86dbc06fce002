//! What the pickle of a state dict can hold.

use safetensors::Dtype;
use std::rc::Rc;

/// Handles into the machine's lists: copying a value copies no content, and no value holds another.
#[derive(Debug, Clone)]
pub enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Text(Rc<str>),
    Global(Global),
    /// A list or a tuple.
    Items(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

impl Value {
    /// For messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool => "a boolean",
            Value::Int(_) | Value::Float => "a number",
            Value::Text(_) => "a text",
            Value::Global(_) => "a class",
            Value::Items(_) => "a list",
            Value::Dict(_) => "a dictionary",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

/// The classes and functions that a pickle may name. None is called: what they would return is built here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    pub fn parse(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
            // torch reads an untyped storage as bytes.
            ("torch.storage" | "torch", "UntypedStorage") => Some(Global::Storage(Dtype::U8)),
            ("torch", name) => element_type(name).map(Global::Storage),
            _ => None,
        }
    }
}

fn element_type(storage: &str) -> Option<Dtype> {
    Some(match storage.strip_suffix("Storage")? {
        "Double" => Dtype::F64,
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::BOOL,
        _ => return None,
    })
}

/// The elements that several tensors may look into, in a record of their own.
#[derive(Debug, Clone)]
pub struct Storage {
    pub dtype: Dtype,
    /// The record is `data/<key>`.
    pub key: Rc<str>,
    /// In elements.
    pub length: u64,
}

/// A tensor as the pickle has it, not yet compared with its storage.
#[derive(Debug, Clone)]
pub struct View {
    pub storage: usize,
    /// In elements, as all of these.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}
