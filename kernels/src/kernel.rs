//! # What one kernel is compiled and launched with
//!
//! A family declares each of its entries as data beside the code. `cargo xtask ptx` inserts the bounds into the PTX,
//! holds the assembler's report against the rest, and writes both to the manifest; a launch is checked against the
//! same numbers.

use crate::recurrent::{gru, lstm, rnn};
use crate::{
    arg_extreme, attention, blocks, channels, class_loss, codes, col2im, conv, conv_integer, conv_transpose,
    copy, cumulative, deform, depthwise, det, gather, gather_nd, gemm, gemv, grid_sample, linear_attention,
    map, nest, norm, pool, probe, reduce, resample, roi_align, roi_max, scatter, softmax, top_k, transpose,
};

/// One entry of the modules: its name, its one parameter and what its code may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Name of the entry in every module.
    pub entry: &'static str,
    /// Bytes of the entry's one parameter, the family's `Params`.
    pub params: usize,
    /// Most threads of a block (`.maxntid`); the assembler gives each thread at most 64 Ki / this many registers.
    pub max_threads: u32,
    /// Blocks that must fit one SM at once (`.minnctapersm`); 0 leaves it to the assembler.
    pub min_blocks: u32,
    /// Most bytes of dynamic shared memory that a launch may ask for.
    pub shared: u32,
    /// Bytes of spilled registers (stores and loads) and of stack that the code may have. 0: all in registers.
    pub spills: u32,
    /// Least compute capability, as `10 · major + minor`; modules for lesser ones do not have the entry.
    pub capability: u32,
    /// Whether the code must hold tensor-core instructions.
    pub tensor_cores: bool,
}

impl Kernel {
    /// An entry that takes one `P`, has blocks of at most `max_threads`, runs everywhere and may not spill.
    pub const fn new<P>(entry: &'static str, max_threads: u32) -> Self {
        Self {
            entry,
            params: size_of::<P>(),
            max_threads,
            min_blocks: 0,
            shared: 0,
            spills: 0,
            capability: 75,
            tensor_cores: false,
        }
    }

    /// With `blocks` on one SM at once.
    pub const fn with_min_blocks(mut self, blocks: u32) -> Self {
        self.min_blocks = blocks;
        self
    }

    /// With up to `bytes` of dynamic shared memory.
    pub const fn with_shared(mut self, bytes: u32) -> Self {
        self.shared = bytes;
        self
    }

    /// With up to `bytes` of spills and stack, for a kernel that is not bound by what it keeps in registers.
    pub const fn with_spills(mut self, bytes: u32) -> Self {
        self.spills = bytes;
        self
    }

    /// For compute capability `10 · major + minor` and above.
    pub const fn with_capability(mut self, capability: u32) -> Self {
        self.capability = capability;
        self
    }

    /// With tensor-core instructions.
    pub const fn with_tensor_cores(mut self) -> Self {
        self.tensor_cores = true;
        self
    }
}

/// Every entry of every family, in alphabetical order.
pub static KERNELS: &[&Kernel] = &[
    &arg_extreme::ARG_EXTREME_BF16.kernel,
    &arg_extreme::ARG_EXTREME_F16.kernel,
    &arg_extreme::ARG_EXTREME_F32.kernel,
    &arg_extreme::ARG_EXTREME_F64.kernel,
    &arg_extreme::ARG_EXTREME_I16.kernel,
    &arg_extreme::ARG_EXTREME_I32.kernel,
    &arg_extreme::ARG_EXTREME_I64.kernel,
    &arg_extreme::ARG_EXTREME_I8.kernel,
    &arg_extreme::ARG_EXTREME_U16.kernel,
    &arg_extreme::ARG_EXTREME_U32.kernel,
    &arg_extreme::ARG_EXTREME_U64.kernel,
    &arg_extreme::ARG_EXTREME_U8.kernel,
    &attention::scalar::ATTENTION_BF16.kernel,
    &attention::scalar::ATTENTION_F16.kernel,
    &attention::scalar::ATTENTION_F32.kernel,
    &attention::tensor::ATTENTION_TENSOR_BF16_128.kernel,
    &attention::tensor::ATTENTION_TENSOR_BF16_256.kernel,
    &attention::tensor::ATTENTION_TENSOR_BF16_64.kernel,
    &attention::tensor::ATTENTION_TENSOR_F16_128.kernel,
    &attention::tensor::ATTENTION_TENSOR_F16_256.kernel,
    &attention::tensor::ATTENTION_TENSOR_F16_64.kernel,
    &attention::tensor::ATTENTION_TENSOR_TF32_128.kernel,
    &attention::tensor::ATTENTION_TENSOR_TF32_256.kernel,
    &attention::tensor::ATTENTION_TENSOR_TF32_64.kernel,
    &blocks::tensor::BLOCKS_TENSOR_BF16_2.kernel,
    &blocks::tensor::BLOCKS_TENSOR_BF16_4.kernel,
    &blocks::tensor::BLOCKS_TENSOR_BF16_8.kernel,
    &blocks::tensor::BLOCKS_TENSOR_F16_2.kernel,
    &blocks::tensor::BLOCKS_TENSOR_F16_4.kernel,
    &blocks::tensor::BLOCKS_TENSOR_F16_8.kernel,
    &blocks::vectors::BLOCKS_VECTORS_2_1.kernel,
    &blocks::vectors::BLOCKS_VECTORS_2_16.kernel,
    &blocks::vectors::BLOCKS_VECTORS_2_4.kernel,
    &blocks::vectors::BLOCKS_VECTORS_4_1.kernel,
    &blocks::vectors::BLOCKS_VECTORS_4_16.kernel,
    &blocks::vectors::BLOCKS_VECTORS_4_4.kernel,
    &blocks::vectors::BLOCKS_VECTORS_8_1.kernel,
    &blocks::vectors::BLOCKS_VECTORS_8_16.kernel,
    &blocks::vectors::BLOCKS_VECTORS_8_4.kernel,
    &channels::CHANNELS_BF16.kernel,
    &channels::CHANNELS_F16.kernel,
    &channels::CHANNELS_F32.kernel,
    &class_loss::NARROW.kernel,
    &class_loss::WIDE.kernel,
    &codes::DECODE.kernel,
    &codes::ENCODE.kernel,
    &col2im::NARROW.kernel,
    &col2im::WHOLE.kernel,
    &col2im::WIDE.kernel,
    &conv::scalar::CONV_BF16.kernel,
    &conv::scalar::CONV_F16.kernel,
    &conv::scalar::CONV_F32.kernel,
    &conv_integer::CONV_INTEGER.kernel,
    &conv::tensor::CONV_TENSOR_BF16.kernel,
    &conv::tensor::CONV_TENSOR_F16.kernel,
    &conv::tensor::CONV_TENSOR_TF32.kernel,
    &conv_transpose::CONV_TRANSPOSE_BF16.kernel,
    &conv_transpose::CONV_TRANSPOSE_F16.kernel,
    &conv_transpose::CONV_TRANSPOSE_F32.kernel,
    &copy::COPY_1.kernel,
    &copy::COPY_16.kernel,
    &copy::COPY_2.kernel,
    &copy::COPY_4.kernel,
    &copy::COPY_8.kernel,
    &cumulative::COLUMNS_NARROW.kernel,
    &cumulative::COLUMNS_WIDE.kernel,
    &cumulative::WARP_NARROW.kernel,
    &cumulative::WARP_WIDE.kernel,
    &deform::NARROW.kernel,
    &deform::WIDE.kernel,
    &depthwise::DEPTHWISE_BF16.kernel,
    &depthwise::DEPTHWISE_F16.kernel,
    &depthwise::DEPTHWISE_F32.kernel,
    &det::DET.kernel,
    &gather::GATHER_1.kernel,
    &gather::GATHER_16.kernel,
    &gather::GATHER_2.kernel,
    &gather::GATHER_4.kernel,
    &gather::GATHER_8.kernel,
    &gather_nd::GATHER_ND_1.kernel,
    &gather_nd::GATHER_ND_2.kernel,
    &gather_nd::GATHER_ND_4.kernel,
    &gather_nd::GATHER_ND_8.kernel,
    &gemm::integer::GEMM_INTEGER.kernel,
    &gemm::simt::GEMM_SIMT_128_F32.kernel,
    &gemm::simt::GEMM_SIMT_64_BF16.kernel,
    &gemm::simt::GEMM_SIMT_64_F16.kernel,
    &gemm::simt::GEMM_SIMT_64_F32.kernel,
    &gemm::split_k::GEMM_SUM.kernel,
    &gemm::tensor::GEMM_TENSOR_BF16_NN.kernel,
    &gemm::tensor::GEMM_TENSOR_BF16_NT.kernel,
    &gemm::tensor::GEMM_TENSOR_BF16_TN.kernel,
    &gemm::tensor::GEMM_TENSOR_BF16_TT.kernel,
    &gemm::tensor::GEMM_TENSOR_F16_NN.kernel,
    &gemm::tensor::GEMM_TENSOR_F16_NT.kernel,
    &gemm::tensor::GEMM_TENSOR_F16_TN.kernel,
    &gemm::tensor::GEMM_TENSOR_F16_TT.kernel,
    &gemm::tf32::GEMM_TF32.kernel,
    &gemm::warpgroup::GEMM_WGMMA_BF16_NN.kernel,
    &gemm::warpgroup::GEMM_WGMMA_BF16_NT.kernel,
    &gemm::warpgroup::GEMM_WGMMA_BF16_PACKED.kernel,
    &gemm::warpgroup::GEMM_WGMMA_BF16_TN.kernel,
    &gemm::warpgroup::GEMM_WGMMA_BF16_TT.kernel,
    &gemm::warpgroup::GEMM_WGMMA_F16_NN.kernel,
    &gemm::warpgroup::GEMM_WGMMA_F16_NT.kernel,
    &gemm::warpgroup::GEMM_WGMMA_F16_PACKED.kernel,
    &gemm::warpgroup::GEMM_WGMMA_F16_TN.kernel,
    &gemm::warpgroup::GEMM_WGMMA_F16_TT.kernel,
    &gemv::BF16_1.kernel,
    &gemv::BF16_16.kernel,
    &gemv::BF16_2.kernel,
    &gemv::BF16_4.kernel,
    &gemv::BF16_8.kernel,
    &gemv::F16_1.kernel,
    &gemv::F16_16.kernel,
    &gemv::F16_2.kernel,
    &gemv::F16_4.kernel,
    &gemv::F16_8.kernel,
    &gemv::F32_1.kernel,
    &gemv::F32_16.kernel,
    &gemv::F32_2.kernel,
    &gemv::F32_4.kernel,
    &gemv::F32_8.kernel,
    &grid_sample::NARROW.kernel,
    &grid_sample::NEAREST_1.kernel,
    &grid_sample::NEAREST_2.kernel,
    &grid_sample::NEAREST_4.kernel,
    &grid_sample::NEAREST_8.kernel,
    &grid_sample::WIDE.kernel,
    &gru::GRU_CANDIDATE_BF16.kernel,
    &gru::GRU_CANDIDATE_F16.kernel,
    &gru::GRU_CANDIDATE_F32.kernel,
    &gru::GRU_GATES_BF16.kernel,
    &gru::GRU_GATES_F16.kernel,
    &gru::GRU_GATES_F32.kernel,
    &gru::GRU_SEQUENCE_32_BF16.kernel,
    &gru::GRU_SEQUENCE_32_F16.kernel,
    &gru::GRU_SEQUENCE_32_F32.kernel,
    &gru::GRU_SEQUENCE_64_BF16.kernel,
    &gru::GRU_SEQUENCE_64_F16.kernel,
    &gru::GRU_SEQUENCE_64_F32.kernel,
    &gru::GRU_STEP_BF16.kernel,
    &gru::GRU_STEP_F16.kernel,
    &gru::GRU_STEP_F32.kernel,
    &linear_attention::LINEAR_ATTENTION.kernel,
    &lstm::LSTM_SEQUENCE_32_BF16.kernel,
    &lstm::LSTM_SEQUENCE_32_F16.kernel,
    &lstm::LSTM_SEQUENCE_32_F32.kernel,
    &lstm::LSTM_SEQUENCE_64_BF16.kernel,
    &lstm::LSTM_SEQUENCE_64_F16.kernel,
    &lstm::LSTM_SEQUENCE_64_F32.kernel,
    &lstm::LSTM_STEP_BF16.kernel,
    &lstm::LSTM_STEP_F16.kernel,
    &lstm::LSTM_STEP_F32.kernel,
    &map::NARROW.kernel,
    &map::WIDE.kernel,
    &nest::THREAD_NARROW.kernel,
    &nest::THREAD_WIDE.kernel,
    &nest::WARP_NARROW.kernel,
    &nest::WARP_WIDE.kernel,
    &norm::BLOCK_BF16.kernel,
    &norm::BLOCK_F16.kernel,
    &norm::BLOCK_F32.kernel,
    &norm::WARP_BF16.kernel,
    &norm::WARP_F16.kernel,
    &norm::WARP_F32.kernel,
    &pool::MAX_BF16.kernel,
    &pool::MAX_F16.kernel,
    &pool::MAX_F32.kernel,
    &pool::MAX_I8.kernel,
    &pool::MAX_U8.kernel,
    &pool::SUM_BF16.kernel,
    &pool::SUM_F16.kernel,
    &pool::SUM_F32.kernel,
    &probe::meet::BARRIER.kernel,
    &probe::cluster::BARRIER.kernel,
    &probe::cluster::RING.kernel,
    &probe::stream::COPY.kernel,
    &probe::EMPTY.kernel,
    &probe::meet::FLAG.kernel,
    &probe::meet::HOST_FLAG.kernel,
    &probe::stream::READ.kernel,
    &reduce::BLOCK_BF16.kernel,
    &reduce::BLOCK_F16.kernel,
    &reduce::BLOCK_F32.kernel,
    &reduce::COLUMNS_BF16.kernel,
    &reduce::COLUMNS_F16.kernel,
    &reduce::COLUMNS_F32.kernel,
    &reduce::WARP_BF16.kernel,
    &reduce::WARP_F16.kernel,
    &reduce::WARP_F32.kernel,
    &resample::NEAREST_1.kernel,
    &resample::NEAREST_2.kernel,
    &resample::NEAREST_4.kernel,
    &resample::NEAREST_8.kernel,
    &resample::SMOOTH.kernel,
    &resample::SMOOTH_WIDE.kernel,
    &rnn::RNN_SEQUENCE_BF16.kernel,
    &rnn::RNN_SEQUENCE_F16.kernel,
    &rnn::RNN_SEQUENCE_F32.kernel,
    &rnn::RNN_STEP_BF16.kernel,
    &rnn::RNN_STEP_F16.kernel,
    &rnn::RNN_STEP_F32.kernel,
    &roi_align::NARROW.kernel,
    &roi_align::WIDE.kernel,
    &roi_max::NARROW.kernel,
    &roi_max::WIDE.kernel,
    &scatter::CLAIM.kernel,
    &scatter::COMBINE_4.kernel,
    &scatter::COMBINE_8.kernel,
    &scatter::PUT_1.kernel,
    &scatter::PUT_2.kernel,
    &scatter::PUT_4.kernel,
    &scatter::PUT_8.kernel,
    &softmax::BLOCK_BF16.kernel,
    &softmax::BLOCK_F16.kernel,
    &softmax::BLOCK_F32.kernel,
    &softmax::COLUMNS_BF16.kernel,
    &softmax::COLUMNS_F16.kernel,
    &softmax::COLUMNS_F32.kernel,
    &softmax::WARP_BF16.kernel,
    &softmax::WARP_F16.kernel,
    &softmax::WARP_F32.kernel,
    &top_k::SELECT.kernel,
    &top_k::SORT.kernel,
    &transpose::TRANSPOSE_1.kernel,
    &transpose::TRANSPOSE_2.kernel,
    &transpose::TRANSPOSE_4.kernel,
    &transpose::TRANSPOSE_8.kernel,
    &conv::winograd::WINOGRAD_INPUT.kernel,
    &conv::winograd::WINOGRAD_OUTPUT.kernel,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_and_can_be_launched() {
        assert!(KERNELS.windows(2).all(|pair| pair[0].entry < pair[1].entry), "sort the table by entry");
        for kernel in KERNELS {
            assert!((1..=1024).contains(&kernel.max_threads), "{}", kernel.entry);
            assert!((1..=4096).contains(&kernel.params), "{}", kernel.entry);
            assert!(kernel.shared <= 227 * 1024, "{}", kernel.entry);
        }
    }

    #[test]
    fn products_and_cells_declare_no_spills() {
        let bound = ["gemm_", "gemv_", "gru_", "lstm_", "rnn_"];
        for family in bound {
            let mut kernels = KERNELS.iter().filter(|kernel| kernel.entry.starts_with(family)).peekable();
            assert!(kernels.peek().is_some(), "{family}");
            kernels.for_each(|kernel| assert_eq!(kernel.spills, 0, "{}", kernel.entry));
        }
    }
}
