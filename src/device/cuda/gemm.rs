//! Matrix precision through cuBLASLt.
//!
//! The library thinks in columns: a row-major `[r, c]` is its column-major `[c, r]`, so that c = a b is asked for as
//! cᵀ = bᵀ aᵀ, and the bias runs along the columns' elements, as its epilogue has it.

use super::driver::Context;
use super::errors;
use super::libraries::Library;
use super::memory::Memory;
use crate::device::Precision;
use crate::device::blocks::Memory as _;
use crate::error::{Error, Result};
use crate::shape::DType;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    cublasComputeType_t as Compute, cublasLtEpilogue_t as Epilogue, cublasLtHandle_t, cublasLtMatmulAlgo_t,
    cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t as Attribute,
    cublasLtMatmulPreferenceAttributes_t as Preference, cublasLtMatrixLayout_t,
    cublasLtMatrixLayoutAttribute_t as LayoutAttribute, cublasLtReductionScheme_t as Reduction,
    cudaDataType_t as Type,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

/// Plans above this number start anew: every length of a batch has its own.
const MOST_PLANS: usize = 4096;

pub(super) struct Gemm {
    handle: Owned<cublasLtHandle_t>,
    precision: Precision,
    plans: RefCell<HashMap<Shape, Plan>>,
    workspace: Memory,
    context: Rc<Context>,
}

/// A product as the library's heuristics see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// c `[m, n]` from a sum over k.
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Whether a is stored as `[k, m]` and b as `[n, k]`.
    pub a_transposed: bool,
    pub b_transposed: bool,
    pub accumulate: bool,
    /// One a against this many b, biases and c.
    pub planes: usize,
    /// Elements from one b, and from one bias, to the next.
    pub b_step: usize,
    pub bias_step: usize,
    /// Elements from one row of a, as it is stored, and of c to the next.
    pub a_row: usize,
    pub c_row: usize,
    pub a: DType,
    pub b: DType,
    pub c: DType,
    pub bias: Option<DType>,
    /// What the addresses of a, b and c are multiples of, up to `ALIGNED`.
    pub alignment: [u32; 3],
}

/// Addresses on the GPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands {
    pub c: u64,
    pub a: u64,
    pub b: u64,
    /// 0 without one.
    pub bias: u64,
}

/// The library's algorithms ask for no more, and blocks of the arena have no more in every layout: a product takes the
/// same algorithm wherever its operands lie.
const ALIGNED: u32 = 16;

impl Operands {
    /// Powers of two that divide the addresses of a, b and c and the bytes from plane to plane of b and c.
    pub fn alignment(&self, [b_step, c_step]: [usize; 2]) -> [u32; 3] {
        let all = [self.a, self.b | b_step as u64, self.c | c_step as u64];
        all.map(|bits| 1 << bits.trailing_zeros().min(ALIGNED.trailing_zeros()))
    }
}

/// What is decided once for a shape.
struct Plan {
    description: Owned<cublasLtMatmulDesc_t>,
    left: Owned<cublasLtMatrixLayout_t>,
    right: Owned<cublasLtMatrixLayout_t>,
    result: Owned<cublasLtMatrixLayout_t>,
    algorithm: cublasLtMatmulAlgo_t,
}

/// One of the library's handles, destroyed when dropped.
struct Owned<T: Copy>(T, unsafe fn(T) -> std::result::Result<(), CublasError>);

impl<T: Copy> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the handle was made with its owner and is destroyed once.
        let _ = unsafe { (self.1)(self.0) };
    }
}

impl Gemm {
    /// Loads the library; `major` is the GPU's major compute capability.
    pub fn open(context: &Rc<Context>, major: u32, precision: Precision) -> Result<Self> {
        if !Library::CublasLt.load() {
            return Err(errors::no_cublaslt());
        }
        let handle = result::create_handle().map_err(|e| failed("cannot start", e))?;
        // As NVIDIA recommends: Hopper's fastest algorithms need more.
        let workspace = Memory::new(context, if major >= 9 { 32 << 20 } else { 8 << 20 })?;
        Ok(Gemm {
            handle: Owned(handle, result::destroy_handle),
            precision,
            plans: RefCell::default(),
            workspace,
            context: context.clone(),
        })
    }

    /// Puts c = a b (+ bias) (+ c) on the stream.
    pub fn multiply(&self, shape: Shape, operands: Operands) -> Result<()> {
        let mut plans = self.plans.borrow_mut();
        if !plans.contains_key(&shape) {
            if plans.len() == MOST_PLANS {
                plans.clear();
            }
            plans.insert(shape, self.plan(&shape)?);
        }
        let plan = &plans[&shape];
        if shape.bias.is_some() {
            set(&plan.description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &operands.bias)?;
        }
        let Operands { a, b, c, .. } = operands;
        let (alpha, beta) = (1f32, if shape.accumulate { 1f32 } else { 0f32 });
        // SAFETY: `Launch` checked the operands' lengths against the shape; all handles live in the plan; the
        // workspace is used by this stream only, in its order.
        let put = unsafe {
            result::matmul(
                self.handle.0,
                plan.description.0,
                pointer(&alpha),
                pointer(&beta),
                b as *const c_void,
                plan.left.0,
                a as *const c_void,
                plan.right.0,
                c as *const c_void,
                plan.result.0,
                c as *mut c_void,
                plan.result.0,
                &plan.algorithm,
                self.workspace.pointer() as *mut c_void,
                self.workspace.bytes(),
                self.context.stream.cast(),
            )
        };
        put.map_err(|e| failed(&shape.name(), e))
    }

    fn plan(&self, shape: &Shape) -> Result<Plan> {
        let at = |e: CublasError| failed(&shape.name(), e);
        let compute = match self.precision {
            Precision::Fp32 | Precision::Tf32x3 | Precision::Bf16 => Compute::CUBLAS_COMPUTE_32F,
            Precision::Tf32 => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
        };
        let description = result::create_matmul_desc(compute, Type::CUDA_R_32F).map_err(at)?;
        let description = Owned(description, result::destroy_matmul_desc);
        set(&description, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(shape.b_transposed))?;
        set(&description, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(shape.a_transposed))?;
        if let Some(bias) = shape.bias {
            set(&description, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &Epilogue::CUBLASLT_EPILOGUE_BIAS)?;
            set(&description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &data_type(bias)?)?;
            if shape.planes > 1 {
                let step = shape.bias_step as i64;
                set(&description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, &step)?;
            }
        }
        let Shape { m, n, k, a_row, c_row, .. } = *shape;
        // What is stored, by its columns.
        let a = if shape.a_transposed { [m, k] } else { [k, m] };
        let b = if shape.b_transposed { [k, n] } else { [n, k] };
        let b_row = b[0];
        let plan = Plan {
            description,
            left: layout(shape.b, b, b_row, shape.planes, shape.b_step)?,
            right: layout(shape.a, a, a_row, shape.planes, 0)?,
            result: layout(shape.c, [n, m], c_row, shape.planes, m * c_row)?,
            algorithm: cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        Ok(Plan { algorithm: self.choose(shape, &plan)?, ..plan })
    }

    /// The algorithm that the library thinks fastest, among those that give the same bits every time.
    fn choose(&self, shape: &Shape, plan: &Plan) -> Result<cublasLtMatmulAlgo_t> {
        let at = |e: CublasError| failed(&shape.name(), e);
        let preference = Owned(result::create_matmul_pref().map_err(at)?, result::destroy_matmul_pref);
        let [a, b, c] = shape.alignment;
        // Partial sums are kept as f32 and added in one order.
        let scheme = Reduction::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let workspace = self.workspace.bytes() as u64;
        let words = [
            (Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, scheme),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c),
        ];
        // SAFETY: each attribute is read from a value of the type that the library's manual gives it; every handle
        // lives to the end of the function.
        unsafe {
            let bytes = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            result::set_matmul_pref_attribute(preference.0, bytes, pointer(&workspace), 8).map_err(at)?;
            for (attribute, value) in words {
                result::set_matmul_pref_attribute(preference.0, attribute, pointer(&value), 4).map_err(at)?;
            }
            let found = result::get_matmul_algo_heuristic(
                self.handle.0,
                plan.description.0,
                plan.left.0,
                plan.right.0,
                plan.result.0,
                plan.result.0,
                preference.0,
            );
            found.map(|found| found.algo).map_err(at)
        }
    }
}

impl Shape {
    fn name(&self) -> String {
        let Shape { m, n, k, a, b, c, .. } = self;
        format!("matmul [{m}, {n}] over {k} ({c:?} from {a:?} and {b:?})")
    }
}

fn pointer<T>(value: &T) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

fn set<T>(description: &Owned<cublasLtMatmulDesc_t>, attribute: Attribute, value: &T) -> Result<()> {
    // SAFETY: the callers give values of the types that the library's manual names; it copies them.
    let set = unsafe {
        result::set_matmul_desc_attribute(description.0, attribute, pointer(value), size_of::<T>())
    };
    set.map_err(|e| failed("cannot describe a product", e))
}

/// Matrices stored column by column, `column` elements from one to the next, each `step` elements after the one before.
fn layout(
    dtype: DType,
    [rows, columns]: [usize; 2],
    column: usize,
    count: usize,
    step: usize,
) -> Result<Owned<cublasLtMatrixLayout_t>> {
    let at = |e: CublasError| failed("cannot describe a matrix", e);
    let created = result::create_matrix_layout(data_type(dtype)?, rows as u64, columns as u64, column as i64);
    let layout = Owned(created.map_err(at)?, result::destroy_matrix_layout);
    if count > 1 {
        let (count, step) = (count as i32, step as i64);
        // SAFETY: the attributes are read from values of the types that the library's manual gives them.
        unsafe {
            let batch = LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
            result::set_matrix_layout_attribute(layout.0, batch, pointer(&count), size_of::<i32>())
                .map_err(at)?;
            let offset = LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
            result::set_matrix_layout_attribute(layout.0, offset, pointer(&step), size_of::<i64>())
                .map_err(at)?;
        }
    }
    Ok(layout)
}

fn data_type(dtype: DType) -> Result<Type> {
    match dtype {
        DType::F32 => Ok(Type::CUDA_R_32F),
        DType::BF16 => Ok(Type::CUDA_R_16BF),
        DType::I32 | DType::I8 => Err(Error::internal("a product of integers")),
    }
}

fn failed(what: &str, error: CublasError) -> Error {
    Error::Device(format!(
        "cuBLASLt: {what}: {:?}; see `wattention doctor` for the library's version, or use --device cpu",
        error.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of an arena are 64 bytes apart: where they happen to lie must not decide which algorithm is taken.
    #[test]
    fn a_product_is_the_same_wherever_its_operands_lie() {
        let at = |c, a, b| Operands { c, a, b, bias: 0 }.alignment([0, 0]);
        assert_eq!(at(0x1000, 0x1000, 0x1000), at(0x1040, 0x10c0, 0x1080));
        assert_eq!(at(0x1040, 0x1008, 0x1002), [8, 2, 16]);
        let planes = Operands { c: 0x1000, a: 0x1000, b: 0x1000, bias: 0 }.alignment([8, 4]);
        assert_eq!(planes, [16, 8, 4]);
    }
}
