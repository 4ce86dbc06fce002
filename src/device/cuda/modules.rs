//! The embedded kernels on one GPU, each file loaded at its first use.

use super::driver::{Context, Version};
use super::errors;
use super::kernels::{self, Module, Variant};
use crate::error::{Error, Result};
use cudarc::driver::result::{function, module};
use cudarc::driver::sys::{CUfunction, CUfunction_attribute_enum as Attribute, CUmodule};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::rc::Rc;

/// What a launch may ask for without saying so beforehand.
const USUAL_SHARED: u32 = 48 << 10;

pub(super) struct Modules {
    driver: Version,
    loaded: RefCell<HashMap<(&'static str, Variant), CUmodule>>,
    functions: RefCell<HashMap<(&'static str, Variant), Rc<Function>>>,
    /// Modules go with their context.
    _context: Rc<Context>,
}

/// A kernel that can be launched.
pub(super) struct Function {
    pub handle: CUfunction,
    /// Bytes of shared memory that it has been allowed.
    shared: Cell<u32>,
}

impl Modules {
    /// Loads one file, to see whether the driver takes them.
    pub fn open(context: &Rc<Context>, driver: Version) -> Result<Self> {
        let modules = Modules {
            driver,
            loaded: RefCell::default(),
            functions: RefCell::default(),
            _context: context.clone(),
        };
        if let Some(first) = kernels::MODULES.first() {
            modules.load(first)?;
        }
        Ok(modules)
    }

    pub fn function(&self, entry: &'static str, variant: Variant) -> Result<Rc<Function>> {
        if let Some(function) = self.functions.borrow().get(&(entry, variant)) {
            return Ok(function.clone());
        }
        let missing = || {
            let name = variant.name();
            Error::internal(format!("no kernel file has the entry {entry} in {name}"))
        };
        let module = kernels::module_of(entry, variant).ok_or_else(missing)?;
        let name = CString::new(entry).map_err(|_| missing())?;
        // SAFETY: the module is loaded and stays so.
        let handle = unsafe { module::get_function(self.load(module)?, name) };
        let handle =
            handle.map_err(|e| errors::refused(e.0, format_args!("find {entry} among the kernels")))?;
        let function = Rc::new(Function { handle, shared: Cell::new(USUAL_SHARED) });
        self.functions.borrow_mut().insert((entry, variant), function.clone());
        Ok(function)
    }

    fn load(&self, of: &'static Module) -> Result<CUmodule> {
        let key = (of.stem, of.variant);
        if let Some(&module) = self.loaded.borrow().get(&key) {
            return Ok(module);
        }
        // SAFETY: the image is a whole fat binary, aligned, as nvcc wrote it.
        let loaded = unsafe { module::load_data(of.image.0.as_ptr().cast()) };
        let nvcc = kernels::NVCC.unwrap_or("none");
        let module = loaded.map_err(|e| errors::cannot_load(of.stem, e.0, self.driver, nvcc))?;
        self.loaded.borrow_mut().insert(key, module);
        Ok(module)
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        for (_, module) in self.loaded.borrow_mut().drain() {
            // SAFETY: it was loaded here and is unloaded once; after a fault this fails and harms nothing.
            let _ = unsafe { module::unload(module) };
        }
    }
}

impl Function {
    /// Allows launches with this much shared memory.
    pub fn allow_shared(&self, bytes: u32) -> Result<()> {
        if bytes <= self.shared.get() {
            return Ok(());
        }
        let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function's module is loaded.
        let allowed = unsafe { function::set_function_attribute(self.handle, attribute, bytes as i32) };
        allowed.map_err(|e| errors::refused(e.0, format_args!("use {bytes} bytes of shared memory")))?;
        self.shared.set(bytes);
        Ok(())
    }
}
