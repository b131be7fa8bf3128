//! ONNX.
pub(crate) fn dtype_of_code(_code: i64) -> Option<crate::DType> {
    None
}
