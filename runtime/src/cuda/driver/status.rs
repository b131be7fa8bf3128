//! From the driver's result codes to errors.

use crate::cuda::GpuError;
use cudarc::driver::sys::CUresult;

/// An error of `call`, or nothing where it went well.
pub(super) fn check(call: &'static str, code: CUresult) -> Result<(), GpuError> {
    if code == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let problem = format!("{code:?}");
    Err(if is_sticky(code) { GpuError::Lost { problem } } else { GpuError::Driver { call, problem } })
}

/// Whether the context is unusable after `code`: every later call of the process for this GPU gives it again.
pub(super) fn is_sticky(code: CUresult) -> bool {
    use CUresult as R;
    matches!(
        code,
        R::CUDA_ERROR_ILLEGAL_ADDRESS
            | R::CUDA_ERROR_LAUNCH_TIMEOUT
            | R::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | R::CUDA_ERROR_ASSERT
            | R::CUDA_ERROR_HARDWARE_STACK_ERROR
            | R::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | R::CUDA_ERROR_MISALIGNED_ADDRESS
            | R::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | R::CUDA_ERROR_INVALID_PC
            | R::CUDA_ERROR_LAUNCH_FAILED
            | R::CUDA_ERROR_ECC_UNCORRECTABLE
            | R::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | R::CUDA_ERROR_DEINITIALIZED
            | R::CUDA_ERROR_UNKNOWN
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sticky_code_is_a_lost_gpu_and_another_one_is_not() {
        assert_eq!(check("cuInit", CUresult::CUDA_SUCCESS), Ok(()));
        let lost = check("cuEventQuery", CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert!(matches!(lost, Err(GpuError::Lost { .. })), "{lost:?}");
        let refused = check("cuMemAlloc", CUresult::CUDA_ERROR_INVALID_VALUE);
        assert!(matches!(refused, Err(GpuError::Driver { call: "cuMemAlloc", .. })), "{refused:?}");
    }
}
