//! Launches that the stream recorded as one CUDA graph.

use super::Cuda;
use super::errors::{calling, refused};
use super::launch::{self, Launched};
use super::maps;
use crate::device::graph::Op;
use crate::device::{Gpu, Pass};
use crate::error::{Error, Result};
use cudarc::driver::result::{graph, stream};
use cudarc::driver::sys::{
    self, CUDA_KERNEL_NODE_PARAMS, CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUgraphNode,
    CUstreamCaptureMode, CUstreamCaptureStatus,
};
use std::ptr;

/// A graph that can run, and the nodes of each op in it, with their entries.
pub(super) struct Recorded {
    template: CUgraph,
    graph: CUgraphExec,
    nodes: Vec<Vec<(CUgraphNode, &'static str)>>,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // SAFETY: both were made with this value and are destroyed once; runs on their way are not affected.
        unsafe {
            let _ = graph::exec_destroy(self.graph);
            let _ = graph::destroy(self.template);
        }
    }
}

/// Records what the stream is given, without running it.
pub(super) fn record(cuda: &Cuda, ops: &[Op]) -> Result<Recorded> {
    let failed = |e: cudarc::driver::DriverError| refused(e.0, "record a graph");
    let stream = cuda.context.stream;
    // What is only recorded cannot be at fault.
    let recent = cuda.recent.take();
    let recorded = calling(|| {
        // SAFETY: the stream lives, and recording ends below whatever happens in between.
        unsafe { stream::begin_capture(stream, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) }
            .map_err(failed)?;
        let nodes: Result<Vec<_>> = calling(|| {
            let nodes = ops.iter().map(|op| nodes_of(cuda, op)).collect::<Result<Vec<_>>>()?;
            match ops.iter().any(|op| matches!(op, Op::Exchange { .. })) {
                true => cuda.join_recorded_exchanges().map(|()| nodes),
                false => Ok(nodes),
            }
        });
        // SAFETY: the stream is recording.
        let template = unsafe { stream::end_capture(stream) }.map_err(failed)?;
        let flags = CUgraphInstantiate_flags(0);
        // SAFETY: recording gave the graph.
        let graph = nodes.and_then(|nodes| {
            let graph = unsafe { graph::instantiate(template, flags) }.map_err(failed)?;
            Ok((nodes, graph))
        });
        match graph {
            Ok((nodes, graph)) => Ok(Recorded { template, graph, nodes }),
            Err(error) => {
                // SAFETY: nothing was made of the recording.
                let _ = unsafe { graph::destroy(template) };
                Err(error)
            }
        }
    });
    cuda.recent.replace(recent);
    recorded
}

/// Gives one op to the recording stream; its nodes, if it is of kernels whose arguments can be set.
fn nodes_of(cuda: &Cuda, op: &Op) -> Result<Vec<(CUgraphNode, &'static str)>> {
    let (kernel, call) = match op {
        Op::Launch { kernel, call } => (kernel, call),
        Op::Exchange { exchange, block, offset } => {
            return cuda.record_exchange(exchange, (block.address + offset) as u64).map(|()| Vec::new());
        }
        _ => return Ok(Vec::new()),
    };
    if !matches!(kernel.gpu, Gpu::Passes(_)) {
        cuda.run_launch(kernel, call)?;
        return Ok(Vec::new());
    }
    let mut arguments = call.packed();
    let variant = cuda.variant(call);
    let put = |pass: &Pass| {
        cuda.run_pass(pass, variant, &mut arguments)?;
        Ok((newest_node(cuda)?, pass.entry))
    };
    kernel.passes(call).iter().map(put).collect()
}

/// The node that the recording stream was given last.
fn newest_node(cuda: &Cuda) -> Result<CUgraphNode> {
    let mut status = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    let (mut nodes, mut count) = (ptr::null(), 0);
    // SAFETY: the driver writes what is asked for and leaves out what is null.
    let asked = unsafe {
        sys::cuStreamGetCaptureInfo_v3(
            cuda.context.stream,
            &mut status,
            ptr::null_mut(),
            ptr::null_mut(),
            &mut nodes,
            ptr::null_mut(),
            &mut count,
        )
    };
    asked.result().map_err(|e| refused(e.0, "record a graph"))?;
    match count {
        // SAFETY: `nodes` points to `count` nodes until the stream is given the next.
        1 => Ok(unsafe { *nodes }),
        _ => Err(Error::internal(format!("a launch left {count} ends in a graph"))),
    }
}

impl Recorded {
    /// Puts it on the stream.
    pub fn launch(&self, cuda: &Cuda) -> Result<()> {
        let count = self.nodes.iter().map(Vec::len).sum();
        cuda.recent.borrow_mut().add(Launched::Graph(count));
        // SAFETY: the graph and the stream live.
        let launched = unsafe { graph::launch(self.graph, cuda.context.stream) };
        launched.map_err(|e| cuda.failed(e.0, "launch a graph"))
    }

    /// Sets the arguments and grids of op `index`; fails where it would have other nodes.
    pub fn update(&mut self, cuda: &Cuda, index: usize, op: &Op) -> Result<()> {
        let Op::Launch { kernel, call } = op else {
            return Ok(());
        };
        let passes = kernel.passes(call);
        let nodes = &self.nodes[index];
        let same = |(pass, node): (&Pass, &(CUgraphNode, &str))| pass.entry == node.1;
        let library = matches!(kernel.gpu, Gpu::Library);
        if library || passes.len() != nodes.len() || !passes.iter().zip(nodes).all(same) {
            return Err(Error::internal("other kernels than were recorded"));
        }
        let mut arguments = call.packed();
        for (pass, (node, _)) in passes.iter().zip(nodes) {
            launch::check(pass, cuda.gpu.shared)?;
            let function = cuda.modules.function(pass.entry, cuda.variant(call))?;
            function.allow_shared(pass.shared)?;
            let mut maps = maps::pack(&pass.maps, cuda.driver)?;
            let mut kernel_parameters = launch::parameters(&mut arguments, &mut maps);
            let [x, y, z] = pass.grid;
            let parameters = CUDA_KERNEL_NODE_PARAMS {
                func: function.handle,
                gridDimX: x,
                gridDimY: y,
                gridDimZ: z,
                blockDimX: pass.block,
                blockDimY: 1,
                blockDimZ: 1,
                sharedMemBytes: pass.shared,
                kernelParams: kernel_parameters.as_mut_ptr(),
                extra: ptr::null_mut(),
                kern: ptr::null_mut(),
                ctx: ptr::null_mut(),
            };
            // SAFETY: the node is one of this graph's template; the driver copies both structs, whose bytes are as the
            // kernel has them.
            let set = unsafe { sys::cuGraphExecKernelNodeSetParams_v2(self.graph, *node, &parameters) };
            set.result().map_err(|e| refused(e.0, "change a graph"))?;
        }
        Ok(())
    }
}
