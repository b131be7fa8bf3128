//! The operator table: every operator in alphabetical order. An operator is its file and one line here.

use super::OpDef;

/// Every operator.
pub(crate) static OPS: &[&OpDef] = &[
    &super::abs::DEF,
    &super::acos::DEF,
    &super::acosh::DEF,
    &super::add::DEF,
    &super::and::DEF,
    &super::arg_max::DEF,
    &super::arg_min::DEF,
    &super::asin::DEF,
    &super::asinh::DEF,
    &super::atan::DEF,
    &super::atanh::DEF,
    &super::average_pool::DEF,
    &super::batch_normalization::DEF,
    &super::bitwise_and::DEF,
    &super::bitwise_or::DEF,
    &super::bitwise_xor::DEF,
    &super::cast::DEF,
    &super::cast_like::DEF,
    &super::ceil::DEF,
    &super::celu::DEF,
    &super::clip::DEF,
    &super::concat::DEF,
    &super::constant::DEF,
    &super::constant_of_shape::DEF,
    &super::conv::DEF,
    &super::cos::DEF,
    &super::cosh::DEF,
    &super::div::DEF,
    &super::einsum::DEF,
    &super::elu::DEF,
    &super::equal::DEF,
    &super::erf::DEF,
    &super::exp::DEF,
    &super::expand::DEF,
    &super::flatten::DEF,
    &super::floor::DEF,
    &super::gather::DEF,
    &super::gelu::DEF,
    &super::gemm::DEF,
    &super::global_average_pool::DEF,
    &super::global_max_pool::DEF,
    &super::greater::DEF,
    &super::greater_or_equal::DEF,
    &super::hardmax::DEF,
    &super::hard_sigmoid::DEF,
    &super::hard_swish::DEF,
    &super::identity::DEF,
    &super::is_inf::DEF,
    &super::is_nan::DEF,
    &super::layer_normalization::DEF,
    &super::leaky_relu::DEF,
    &super::less::DEF,
    &super::less_or_equal::DEF,
    &super::log::DEF,
    &super::log_softmax::DEF,
    &super::mat_mul::DEF,
    &super::max::DEF,
    &super::max_pool::DEF,
    &super::mean::DEF,
    &super::min::DEF,
    &super::mish::DEF,
    &super::modulo::DEF,
    &super::mul::DEF,
    &super::neg::DEF,
    &super::not::DEF,
    &super::or::DEF,
    &super::pad::DEF,
    &super::pow::DEF,
    &super::p_relu::DEF,
    &super::range::DEF,
    &super::reciprocal::DEF,
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
    &super::reshape::DEF,
    &super::reverse_sequence::DEF,
    &super::round::DEF,
    &super::selu::DEF,
    &super::shape::DEF,
    &super::sigmoid::DEF,
    &super::sign::DEF,
    &super::sin::DEF,
    &super::sinh::DEF,
    &super::size::DEF,
    &super::slice::DEF,
    &super::softmax::DEF,
    &super::softplus::DEF,
    &super::softsign::DEF,
    &super::split::DEF,
    &super::sqrt::DEF,
    &super::squeeze::DEF,
    &super::sub::DEF,
    &super::sum::DEF,
    &super::swi_glu::DEF,
    &super::swish::DEF,
    &super::tan::DEF,
    &super::tanh::DEF,
    &super::thresholded_relu::DEF,
    &super::tile::DEF,
    &super::transpose::DEF,
    &super::unsqueeze::DEF,
    &super::r#where::DEF,
    &super::xor::DEF,
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
