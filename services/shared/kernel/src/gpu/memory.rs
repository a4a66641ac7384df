//! A GPU's memory: what one step has freed is there for the next.
//!
//! Here because it asks the driver for a pool by a pointer, of which the compiler cannot check that it is one.

use candle_core::CudaDevice;
use candle_core::cuda::cudarc::driver::result::{device, mem_pool};
use candle_core::cuda::cudarc::driver::sys::{
    CUdevice_attribute, CUgraphMem_attribute, CUmemPool_attribute, CUmemoryPool, cuDeviceGetGraphMemAttribute,
};
use candle_core::cuda::cudarc::driver::{CudaContext, DriverError};

/// Leaves freed memory with the process. Unless told so, a driver gives it back to the system whenever a stream is waited for
/// (release threshold 0; CUDA driver API, "Stream Ordered Memory Allocator"), which a server does at every step, and has to
/// ask for it again at the next. A device without pools frees at once in any case, and nothing is said to it.
pub fn keep_freed(device: &CudaDevice) -> Result<(), DriverError> {
    let stream = device.cuda_stream();
    let Some(pool) = pool(stream.context())? else {
        return Ok(());
    };
    let mut kept = u64::MAX;
    let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is the driver's own; the attribute is a `cuuint64_t`.
    unsafe { mem_pool::set_attribute(pool, attribute, (&raw mut kept).cast()) }
}

/// Bytes that can still be had: free on the device, or freed and kept.
pub fn free(device: &CudaDevice) -> Result<u64, DriverError> {
    let stream = device.cuda_stream();
    let (free, _) = stream.context().mem_get_info()?;
    let kept = match pool(stream.context())? {
        Some(pool) => {
            let reserved = number(pool, CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
            reserved.saturating_sub(number(
                pool,
                CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
            )?)
        }
        None => 0,
    };
    Ok(free as u64 + kept)
}

/// The most bytes that this process has had in use since this was last asked: buffers, and what recorded work has reserved.
pub fn peak(device: &CudaDevice) -> Result<u64, DriverError> {
    let stream = device.cuda_stream();
    let Some(pool) = pool(stream.context())? else {
        let (free, total) = stream.context().mem_get_info()?;
        return Ok((total - free) as u64);
    };
    let mut recorded = 0_u64;
    let reserved = CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT;
    let high = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    let used = number(pool, high)?;
    let mut from_now_on = 0_u64;
    // SAFETY: the device is that of an open context, the pool the driver's own; both attributes are `cuuint64_t`. Writing 0 to a high
    // watermark lowers it to what is used now.
    unsafe {
        cuDeviceGetGraphMemAttribute(stream.context().cu_device(), reserved, (&raw mut recorded).cast())
            .result()?;
        mem_pool::set_attribute(pool, high, (&raw mut from_now_on).cast())?;
    }
    Ok(used + recorded)
}

/// Where a device's buffers come from; `None` where it has no pools.
fn pool(context: &CudaContext) -> Result<Option<CUmemoryPool>, DriverError> {
    context.bind_to_thread()?;
    let supported = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    // SAFETY: the device is that of a context, which was opened before.
    unsafe {
        if device::get_attribute(context.cu_device(), supported)? == 0 {
            return Ok(None);
        }
        device::get_mem_pool(context.cu_device()).map(Some)
    }
}

fn number(pool: CUmemoryPool, attribute: CUmemPool_attribute) -> Result<u64, DriverError> {
    let mut number = 0_u64;
    // SAFETY: as in `keep_freed`.
    unsafe { mem_pool::get_attribute(pool, attribute, (&raw mut number).cast())? };
    Ok(number)
}
