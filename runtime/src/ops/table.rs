//! The operator table: every operator in alphabetical order. An operator is its file and one line here.

use super::OpDef;

/// Every operator.
pub(crate) static OPS: &[&OpDef] =
    &[&super::gru::DEF, &super::lstm::DEF, &super::relu::DEF, &super::rnn::DEF];

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
