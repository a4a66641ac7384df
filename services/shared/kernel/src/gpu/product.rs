//! A product that is added to what is there already.

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::cublas::result::gemm_ex;
use candle_core::cuda::cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType,
};
use candle_core::cuda::cudarc::driver::DevicePtr;
use candle_core::{CpuStorage, CudaStorage, DType, InplaceOp3, Layout, Result, bail};
use half::{bf16, f16};

/// y `[.., out]` += x `[.., in]` · Wᵀ for W `[out, in]`, all contiguous, x and W of one type; y of that type or f32, so that a
/// residual stream in f32 takes up products of bf16 without their sums being rounded. One call to the device instead of a
/// product, a cast and an addition.
#[derive(Clone, Copy, Debug)]
pub struct AddProduct;

impl InplaceOp3 for AddProduct {
    fn name(&self) -> &'static str {
        "add a product"
    }

    fn cpu_fwd(
        &self,
        _: &mut CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<()> {
        bail!("this is a bug: products are added in place on GPUs only")
    }

    fn cuda_fwd(
        &self,
        y: &mut CudaStorage,
        y_layout: &Layout,
        x: &CudaStorage,
        x_layout: &Layout,
        w: &CudaStorage,
        w_layout: &Layout,
    ) -> Result<()> {
        let (outputs, inputs) = w_layout.shape().dims2()?;
        let rows = x_layout.shape().elem_count() / inputs.max(1);
        let ends = |layout: &Layout, width: usize| layout.dims().last() == Some(&width);
        if !ends(x_layout, inputs)
            || !ends(y_layout, outputs)
            || y_layout.shape().elem_count() != rows * outputs
            || ![x_layout, w_layout, y_layout].iter().all(|l| l.is_contiguous())
        {
            bail!("this is a bug: {y_layout:?} += {x_layout:?} · {w_layout:?}ᵀ");
        }
        let (given, kept) = (w.dtype(), y.dtype());
        if x.dtype() != given || (kept != given && kept != DType::F32) {
            bail!("this is a bug: {kept:?} += {:?} · {given:?}", x.dtype());
        }
        if rows == 0 {
            return Ok(());
        }
        let device = y.device().clone();
        let [m, n, k] = [outputs, rows, inputs].map(|size| size as i32);
        let (x_at, w_at, y_at) = (at(x, x_layout)?, at(w, w_layout)?, at(y, y_layout)?);
        let (alpha, beta) = (1_f32, 1_f32);
        // SAFETY: the three buffers live as long as this call holds their storages, and what it queues runs on the one stream that
        // also frees them (`order_by_stream`). Shapes were checked above against the leading dimensions given here; cuBLAS counts
        // columns first, so it is told of yᵀ `[out, rows]` += W · xᵀ. y is borrowed mutably, so it is neither x nor W.
        unsafe {
            gemm_ex(
                *device.cublas_handle().handle(),
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                m,
                n,
                k,
                (&raw const alpha).cast(),
                w_at as *const _,
                name(given)?,
                k,
                x_at as *const _,
                name(given)?,
                k,
                (&raw const beta).cast(),
                y_at as *mut _,
                name(kept)?,
                m,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|e| candle_core::Error::msg(format!("cuBLAS does not add a product: {e:?}")))
    }
}

/// Where a tensor's first number lies on the device.
fn at(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    let stream = storage.device().cuda_stream();
    let begin = match storage.dtype() {
        DType::F32 => storage.as_cuda_slice::<f32>()?.device_ptr(&stream).0,
        DType::BF16 => storage.as_cuda_slice::<bf16>()?.device_ptr(&stream).0,
        DType::F16 => storage.as_cuda_slice::<f16>()?.device_ptr(&stream).0,
        other => bail!("no product of {other:?}"),
    };
    Ok(begin + (layout.start_offset() * storage.dtype().size_in_bytes()) as u64)
}

fn name(dtype: DType) -> Result<cudaDataType> {
    Ok(match dtype {
        DType::F32 => cudaDataType::CUDA_R_32F,
        DType::BF16 => cudaDataType::CUDA_R_16BF,
        DType::F16 => cudaDataType::CUDA_R_16F,
        other => bail!("no product of {other:?}"),
    })
}
