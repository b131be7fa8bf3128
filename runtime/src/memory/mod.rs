//! Memory: the byte limit, aligned buffers, and files mapped into memory.

mod budget;
mod buffer;
mod lent;
mod mapped;

pub(crate) use budget::{Budget, Charge};
pub(crate) use buffer::{Buffer, no_bytes};
pub(crate) use lent::Lent;
pub(crate) use mapped::MappedFile;
