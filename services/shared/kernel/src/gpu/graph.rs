//! CUDA graphs: work that a GPU is told once and repeats in one call.
//!
//! Here because it needs two promises that the compiler cannot check; both are about candle's handle of a device, which has one
//! stream and does everything on it.

use std::fmt;

use candle_core::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::cuda::cudarc::driver::{CudaGraph, DriverError};
use candle_core::{CudaDevice, Error, Result};

/// Leaves the order of a device's work to its stream, without an event for every buffer: waiting on one ends a recording, and
/// making two for each allocation takes time in any case. Call it before anything is put on the device.
pub fn order_by_stream(device: &CudaDevice) {
    // SAFETY: events keep streams that share a buffer in step. A `CudaDevice` has a single stream, given to it when it was made,
    // allocates, frees, copies and computes on that one only, and its buffers are refused by candle where another `CudaDevice`
    // is expected (`same_device`). What two threads do with clones of the handle is ordered by the same stream.
    unsafe { device.disable_event_tracking() }
}

/// Runs work once as it is told, so that it can be recorded next: kernels are loaded, and what they read of the host (shapes and
/// strides) is on the device and stays there.
pub fn warm(device: &CudaDevice, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let _kept = device.enable_cuda_graph_htod_cache();
    work()
}

/// Recorded work. It reads and writes the addresses that it was recorded with: whoever launches it keeps those buffers.
pub struct Graph(CudaGraph);

// SAFETY: the driver's functions on a graph may be called from any thread, of which one at a time (CUDA driver API, "Graph object
// thread safety"). `launch` takes `&mut self`, nothing else touches the graph, and it is not `Sync`.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` tells the device; nothing of it is done before [`Graph::launch`]. Work that asks the device for numbers,
    /// uploads some that [`warm`] has not seen, or frees what was there before cannot be recorded, and is an error.
    pub fn record(device: &CudaDevice, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let stream = device.cuda_stream();
        let _kept = device.enable_cuda_graph_htod_cache();
        stream
            // Other threads (another model, a copy for the metrics) go on as they like.
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .map_err(because("a recording cannot begin"))?;
        let worked = work();
        // In any case: a stream that is left recording does no work.
        let ended =
            stream.end_capture(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
        worked?;
        match ended.map_err(because("the work cannot be recorded"))? {
            Some(graph) => {
                graph
                    .upload()
                    .map_err(because("a recording cannot be put on the device"))?;
                Ok(Self(graph))
            }
            None => Err(Error::msg("the work cannot be recorded: it ended the recording")),
        }
    }

    /// Does the recorded work, after all that the device has been told before.
    pub fn launch(&mut self) -> Result<()> {
        self.0
            .launch()
            .map_err(because("recorded work cannot be launched"))
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

fn because(what: &'static str) -> impl FnOnce(DriverError) -> Error {
    move |error| Error::msg(format!("{what}: {error}"))
}
