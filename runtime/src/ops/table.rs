//! The operator table: every operator in alphabetical order. An operator is its file and one line here.

use super::OpDef;

/// Every operator.
pub(crate) static OPS: &[&OpDef] = &[
    &super::arg_max::DEF,
    &super::arg_min::DEF,
    &super::average_pool::DEF,
    &super::batch_normalization::DEF,
    &super::conv::DEF,
    &super::gemm::DEF,
    &super::global_average_pool::DEF,
    &super::global_max_pool::DEF,
    &super::hardmax::DEF,
    &super::layer_normalization::DEF,
    &super::log_softmax::DEF,
    &super::mat_mul::DEF,
    &super::max_pool::DEF,
    &super::reduce_l1::DEF,
    &super::reduce_l2::DEF,
    &super::reduce_log_sum::DEF,
    &super::reduce_log_sum_exp::DEF,
    &super::reduce_max::DEF,
    &super::reduce_mean::DEF,
    &super::reduce_min::DEF,
    &super::reduce_prod::DEF,
    &super::reduce_sum::DEF,
    &super::reduce_sum_square::DEF,
    &super::relu::DEF,
    &super::softmax::DEF,
];

/// The operator `name` of `domain` in version `opset` of the domain.
pub(crate) fn find(domain: &str, name: &str, opset: i64) -> Option<&'static OpDef> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    OPS.iter().copied().find(|def| {
        def.name == name
            && def.domain == domain
            && def.since.first().is_some_and(|&first| first <= opset)
            && def.until.is_none_or(|last| opset <= last)
    })
}

impl OpDef {
    /// Name with domain, such as `com.microsoft:MatMulNBits`.
    pub(crate) fn full_name(&self) -> String {
        if self.domain.is_empty() { self.name.into() } else { format!("{}:{}", self.domain, self.name) }
    }
}

impl std::fmt::Debug for OpDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpDef({})", self.full_name())
    }
}
