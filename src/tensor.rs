//! Tensors: shared storage on a device, a row-major shape, and a place on the tape.

use crate::collective::Group;
use crate::device::{Arg, Block, Call, Device, Exchange, Kernel, Lifetime, bytes_of};
use crate::error::{Error, Result};
use crate::shape::{DType, Element, Shape};
use crate::units::{Bytes, Flops};
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

pub mod cast;
pub mod int8;
pub mod matmul;
pub mod watch;

/// The kernels that tensors need whatever the op.
pub static KERNELS: &[&Kernel] =
    &[&cast::CAST, &cast::CAST_TO_F32, &int8::PRODUCT, &int8::WIDEN, &matmul::MATMUL];

struct Storage {
    device: Device,
    block: Block,
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.device.release(self.block);
    }
}

/// Identifies a value whose gradient is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(u64);

impl Node {
    /// A node that no other tensor of this thread has.
    pub fn fresh() -> Self {
        thread_local!(static NEXT: Cell<u64> = const { Cell::new(0) });
        Node(NEXT.replace(NEXT.get() + 1))
    }
}

/// A contiguous array of elements; clones share the storage.
#[derive(Clone)]
pub struct Tensor {
    storage: Rc<Storage>,
    offset: usize,
    shape: Shape,
    dtype: DType,
    node: Option<Node>,
}

impl Tensor {
    /// Uninitialised elements that live until dropped within the step.
    pub fn empty(device: &Device, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        Self::allocate(device, shape.into(), dtype, Lifetime::Step)
    }

    /// Zeros that outlive steps.
    pub fn persistent(device: &Device, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        Self::allocate(device, shape.into(), dtype, Lifetime::Persistent)
    }

    /// A step-lived copy of host values.
    pub fn upload<T: Element>(device: &Device, shape: impl Into<Shape>, values: &[T]) -> Result<Self> {
        let tensor = Self::empty(device, shape, T::DTYPE)?;
        tensor.write(values)?;
        Ok(tensor)
    }

    /// Step-lived copies of host values, one behind the other: a single copy to the device.
    pub fn upload_together<T: Element, const N: usize>(
        device: &Device,
        parts: [(Shape, &[T]); N],
    ) -> Result<[Self; N]> {
        let values = parts.map(|(_, values)| values).concat();
        let all = Self::upload(device, [values.len()], &values)?;
        let mut tensors = [(); N].map(|()| all.clone());
        let mut from = 0;
        for (tensor, (shape, values)) in tensors.iter_mut().zip(parts) {
            *tensor = all.slice(from, [values.len()])?.reshape(shape)?;
            from += values.len();
        }
        Ok(tensors)
    }

    fn allocate(device: &Device, shape: Shape, dtype: DType, lifetime: Lifetime) -> Result<Self> {
        let block = device.allocate(bytes_of(shape.len(), dtype)?, lifetime)?;
        Ok(Tensor {
            storage: Rc::new(Storage { device: device.clone(), block }),
            offset: 0,
            shape,
            dtype,
            node: None,
        })
    }

    /// Uninitialised elements of the same type on the same device.
    pub fn like(&self, shape: impl Into<Shape>) -> Result<Self> {
        Self::empty(self.device(), shape, self.dtype)
    }

    /// Uninitialised f32 elements on the same device: statistics, sums, workspaces.
    pub fn like_f32(&self, shape: impl Into<Shape>) -> Result<Self> {
        Self::empty(self.device(), shape, DType::F32)
    }

    pub fn device(&self) -> &Device {
        &self.storage.device
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn len(&self) -> usize {
        self.shape.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The node that collects this tensor's gradient, if it needs one.
    pub fn node(&self) -> Option<Node> {
        self.node
    }

    pub fn with_node(mut self, node: Option<Node>) -> Self {
        self.node = node;
        self
    }

    /// The same value under another shape.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != self.len() {
            return Err(Error::shape("reshape", self.shape, shape));
        }
        Ok(Tensor { shape, ..self.clone() })
    }

    /// Elements `from..from + shape.len()` of the same storage.
    pub fn slice(&self, from: usize, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if from + shape.len() > self.len() {
            return Err(Error::shape("slice", self.shape, shape));
        }
        Ok(Tensor { offset: self.offset + from, shape, node: None, ..self.clone() })
    }

    /// Which elements of its storage it is.
    pub fn place(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }

    /// From the first element of the first of `parts` to the last of the last, and the distance from
    /// each to the next, where they lie in one storage at equal distances, in order.
    pub fn spaced(parts: &[&Tensor]) -> Option<(Tensor, usize)> {
        let [first, .., last] = parts else {
            return None;
        };
        let alike = |t: &&Tensor| {
            Rc::ptr_eq(&t.storage, &first.storage) && t.dtype == first.dtype && t.shape == first.shape
        };
        let step = parts[1].offset.checked_sub(first.offset)?;
        let even = parts.windows(2).all(|pair| pair[0].offset + step == pair[1].offset);
        if !parts.iter().all(alike) || !even || step < first.len() {
            return None;
        }
        let shape = [last.offset + last.len() - first.offset].into();
        Some((Tensor { shape, node: None, ..(*first).clone() }, step))
    }

    /// Whether another tensor uses the same storage.
    pub fn is_shared(&self) -> bool {
        Rc::strong_count(&self.storage) > 1
    }

    /// Overwrites all elements.
    pub fn write<T: Element>(&self, values: &[T]) -> Result<()> {
        self.expect::<T>(values.len())?;
        let bytes = bytemuck::cast_slice(values);
        self.device().upload(&self.storage.block, self.byte_offset(), bytes)
    }

    /// All elements, copied to the host.
    pub fn read<T: Element>(&self) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); self.len()];
        self.read_into(&mut values)?;
        Ok(values)
    }

    /// All elements as f32, whatever floating-point type they are stored in.
    pub fn read_floats(&self) -> Result<Vec<f32>> {
        match self.dtype {
            DType::BF16 => Ok(self.read::<half::bf16>()?.iter().map(|v| v.to_f32()).collect()),
            _ => self.read(),
        }
    }

    /// All elements, copied into `values`.
    pub fn read_into<T: Element>(&self, values: &mut [T]) -> Result<()> {
        self.expect::<T>(values.len())?;
        let bytes = bytemuck::cast_slice_mut(values);
        self.device().download(&self.storage.block, self.byte_offset(), bytes)
    }

    /// Begins to exchange these elements, from device to device, with those of the other ranks; nothing else touches them
    /// until [`Device::finish_exchanges`].
    pub fn begin_exchange(&self, exchange: &Exchange) -> Result<()> {
        if self.dtype != exchange.dtype() {
            return Err(Error::internal(format!("{} of {:?} elements", exchange.name(), self.dtype)));
        }
        self.device().begin_exchange(exchange, &self.storage.block, self.byte_offset())
    }

    /// Exchanges these elements, from device to device, with those of the group's other ranks.
    pub fn exchange(&self, group: &Group, exchange: &Exchange) -> Result<()> {
        self.begin_exchange(exchange)?;
        self.device().finish_exchanges(group, exchange.name())
    }

    /// Fails unless the shapes agree.
    pub fn same_shape(&self, op: &'static str, other: &Tensor) -> Result<()> {
        match self.shape == other.shape {
            true => Ok(()),
            false => Err(Error::shape(op, self.shape, other.shape)),
        }
    }

    fn byte_offset(&self) -> usize {
        self.offset * self.dtype.size()
    }

    fn expect<T: Element>(&self, len: usize) -> Result<()> {
        if T::DTYPE == self.dtype && len == self.len() {
            return Ok(());
        }
        Err(Error::shape(
            "copy",
            format!("{:?} {}", self.dtype, self.shape),
            format!("{len} elements of {:?}", T::DTYPE),
        ))
    }

    fn arg(&self) -> Arg {
        Arg { block: self.storage.block, offset: self.byte_offset(), len: self.len(), dtype: self.dtype }
    }
}

/// Builds the arguments of one launch, each by its name in the descriptor and in any order, and runs it.
pub struct Launch {
    kernel: &'static Kernel,
    call: Call,
    /// The arguments' storage: a temporary passed to `output` must outlive the launch.
    held: Vec<Tensor>,
    /// The first argument that does not fit the descriptor.
    error: Option<Error>,
}

impl Launch {
    pub fn of(kernel: &'static Kernel) -> Self {
        Launch { kernel, call: Call::new(kernel.signature()), held: Vec::new(), error: None }
    }

    /// A tensor, or `None` for an absent optional one.
    pub fn output<'t>(mut self, name: &str, tensor: impl Into<Option<&'t Tensor>>) -> Self {
        let arg = self.hold(tensor.into());
        let given = self.call.give_output(name, arg);
        self.noting(given)
    }

    /// As [`Launch::output`].
    pub fn input<'t>(mut self, name: &str, tensor: impl Into<Option<&'t Tensor>>) -> Self {
        let arg = self.hold(tensor.into());
        let given = self.call.give_input(name, arg);
        self.noting(given)
    }

    pub fn size(mut self, name: &str, size: usize) -> Self {
        let given = self.call.give_size(name, size);
        self.noting(given)
    }

    pub fn sizes<'n>(self, sizes: impl IntoIterator<Item = (&'n str, usize)>) -> Self {
        sizes.into_iter().fold(self, |launch, (name, size)| launch.size(name, size))
    }

    pub fn scalar(mut self, name: &str, scalar: f32) -> Self {
        let given = self.call.give_scalar(name, scalar);
        self.noting(given)
    }

    /// Adds floating-point operations to the cost; bytes are counted from the arguments.
    pub fn flops(mut self, flops: u64) -> Self {
        self.call.cost.flops += Flops(flops);
        self
    }

    pub fn exponentials(mut self, count: u64) -> Self {
        self.call.cost.exponentials += count;
        self
    }

    /// Runs the launch, or fails for the first argument that is unknown, given twice or missing.
    pub fn run(mut self, device: &Device) -> Result<()> {
        match self.error {
            Some(error) => Err(error),
            None => {
                self.call.engine = device.engine();
                device.launch(self.kernel, &self.call)?;
                watch::look(device, self.kernel.name, &self.call)
            }
        }
    }

    fn noting(mut self, given: Result<()>) -> Self {
        self.error = self.error.or(given.err());
        self
    }

    fn hold(&mut self, tensor: Option<&Tensor>) -> Arg {
        let Some(tensor) = tensor else {
            return Arg::ABSENT;
        };
        self.held.push(tensor.clone());
        let arg = tensor.arg();
        self.call.cost.bytes += Bytes(arg.bytes() as u64);
        arg
    }
}
