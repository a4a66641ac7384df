//! Devices by name.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::runner::RunnerError;

/// `cpu`, or `cuda:N` for the GPU of that number among those that the process sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceName {
    #[default]
    Cpu,
    Cuda(usize),
}

impl DeviceName {
    /// Opens it: on a GPU with a stream of its own, the only one that work goes through, so that steps can be recorded.
    pub fn open(self) -> Result<Device, RunnerError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cfg!(feature = "cuda") => Err(RunnerError::new(format!(
                "{self}: this build has no GPU support; build with `--features cuda`, or set devices to cpu"
            ))),
            Self::Cuda(number) => {
                let device = Device::new_cuda_with_stream(number).map_err(|e| {
                    RunnerError::new(format!(
                        "{self} cannot be opened ({e}): `nvidia-smi -L` lists the GPUs there are; CUDA_VISIBLE_DEVICES hides some"
                    ))
                })?;
                #[cfg(feature = "cuda")]
                if let Device::Cuda(cuda) = &device {
                    refract_kernel::gpu::order_by_stream(cuda);
                    refract_kernel::gpu::keep_freed(cuda).map_err(RunnerError::new)?;
                }
                Ok(device)
            }
        }
    }

    pub fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda(_))
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let number = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
        match (name, number) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(number)) => Ok(Self::Cuda(number)),
            _ => Err(format!("{name:?} is no device: cpu, cuda:0, cuda:1 …")),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Cuda(11)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        for bad in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad:?}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_gpu_is_refused_by_a_build_without_them() {
        let error = DeviceName::Cuda(1).open().unwrap_err().to_string();
        assert!(
            error.contains("cuda:1") && error.contains("--features cuda"),
            "{error}"
        );
    }
}
