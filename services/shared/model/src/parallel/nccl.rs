//! Ranks that are GPUs, by NVIDIA's collectives: feature `nccl`.
//!
//! A communicator belongs to the thread that made it and to that thread's stream; NCCL queues its work there, among the
//! kernels of the model, so no rank waits on the host. A rank that dies leaves the others waiting on their devices: who
//! tells the ranks what to do bounds that wait.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, ReduceOp};
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor};

use super::Collective;

thread_local! {
    /// This thread's, from [`Seat::take`] on. A communicator is no `Sync`, and the operations of a tensor must be.
    static COMM: RefCell<Option<Comm>> = const { RefCell::new(None) };
}

/// A rank's invitation; to be taken up on the thread that will run it.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    id: Id,
    rank: usize,
    ranks: usize,
}

/// A rank among GPUs. Used on the thread that took its seat.
#[derive(Debug)]
pub struct Nccl {
    rank: usize,
    ranks: usize,
}

impl Seat {
    /// One for each rank, in their order.
    pub fn all(ranks: usize) -> Result<Vec<Self>> {
        let id = Id::new().map_err(|e| candle_core::Error::msg(format!("NCCL gives no id: {e:?}")))?;
        Ok((0..ranks).map(|rank| Self { id, rank, ranks }).collect())
    }

    /// Connects with the other ranks; returns when all have come.
    pub fn take(self, device: &Device) -> Result<Arc<dyn Collective>> {
        let Self { id, rank, ranks } = self;
        let stream = device.as_cuda_device()?.cuda_stream();
        let comm = Comm::from_rank(stream, rank, ranks, id)
            .map_err(|e| candle_core::Error::msg(format!("NCCL cannot connect rank {rank}: {e:?}")))?;
        COMM.with(|own| own.replace(Some(comm)));
        Ok(Arc::new(Nccl { rank, ranks }))
    }
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn sum(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1_no_bwd(&Sum)
    }

    fn gather(&self, x: &Tensor) -> Result<Tensor> {
        let all = x.contiguous()?.apply_op1_no_bwd(&Gather(self.ranks))?; // [ranks, ..x]
        let last = x.rank() - 1;
        let mut order: Vec<usize> = (1..=last).collect();
        order.extend([0, last + 1]);
        let mut shape = x.dims().to_vec();
        shape[last] *= self.ranks;
        all.permute(order)?.reshape(shape) // [.., ranks, w] as [.., ranks·w]
    }

    /// What waits on a device cannot be called back from the host; new calls of this thread fail.
    fn abort(&self, _reason: &str) {
        COMM.with(|own| own.replace(None));
    }
}

/// Of f32, contiguous.
struct Sum;

/// Of f32, contiguous; so many ranks, one after the other.
struct Gather(usize);

impl CustomOp1 for Sum {
    fn name(&self) -> &'static str {
        "sum over ranks"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("NCCL connects GPUs; this tensor is on the CPU")
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let to = with_comm(storage, layout, 1, |comm, from, to| {
            comm.all_reduce(from, to, &ReduceOp::Sum).map(|_| ())
        })?;
        Ok((to, layout.shape().clone()))
    }
}

impl CustomOp1 for Gather {
    fn name(&self) -> &'static str {
        "gather of ranks"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("NCCL connects GPUs; this tensor is on the CPU")
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let to = with_comm(storage, layout, self.0, |comm, from, to| {
            comm.all_gather(from, to).map(|_| ())
        })?;
        let mut dims = vec![self.0];
        dims.extend(layout.dims());
        Ok((to, dims.into()))
    }
}

/// Runs a collective from a tensor's numbers to new room for `times` as many.
fn with_comm(
    storage: &CudaStorage,
    layout: &Layout,
    times: usize,
    run: impl FnOnce(
        &Comm,
        &candle_core::cuda_backend::cudarc::driver::CudaView<'_, f32>,
        &mut CudaSlice<f32>,
    ) -> std::result::Result<(), candle_core::cuda_backend::cudarc::nccl::result::NcclError>,
) -> Result<CudaStorage> {
    if storage.dtype() != DType::F32 {
        candle_core::bail!("ranks add up f32, not {:?}", storage.dtype());
    }
    let Some((first, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("ranks exchange contiguous tensors");
    };
    let device = storage.device().clone();
    let from = storage.as_cuda_slice::<f32>()?.slice(first..end);
    let mut to = device.alloc_zeros::<f32>(times * (end - first))?;
    COMM.with(|own| match &*own.borrow() {
        Some(comm) => run(comm, &from, &mut to).map_err(|e| candle_core::Error::msg(format!("NCCL: {e:?}"))),
        None => candle_core::bail!("this thread is no rank, or no longer one"),
    })?;
    Ok(CudaStorage::wrap_cuda_slice(to, device))
}
