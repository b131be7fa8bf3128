//! Arrays in numpy's NPY format, versions 1.0 to 3.0: a magic number, a Python dictionary of dtype, order and
//! shape, and the elements.

use recurve::values::Bool;
use recurve::{DType, Tensor, TensorView};
use std::io::{Read, Write};

/// Why an array cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArrayError {
    #[error("it is no NPY array")]
    Magic,
    #[error("it is in version {0} of the NPY format; 1, 2 and 3 are known")]
    Version(u8),
    #[error("it has a header that {0}")]
    Header(String),
    #[error("it has dtype `{descr}`, {reason}")]
    DType { descr: String, reason: &'static str },
    #[error("it has shape {shape:?}, more than this machine can address")]
    Size { shape: Vec<usize> },
    #[error("it ends after {got} of {expected} bytes")]
    Truncated { got: usize, expected: usize },
    #[error("it goes on after its {expected} bytes")]
    Trailing { expected: usize },
    #[error("it is {0}, which NPY does not have")]
    Unwritable(&'static str),
    #[error("it has the number {0:#x} where a character is meant")]
    Character(u32),
    #[error("it cannot be read or written")]
    Io(#[from] std::io::Error),
    #[error("it is refused by the engine")]
    Tensor(#[from] recurve::Error),
}

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longer headers are those of structured dtypes, or lies.
const MAX_HEADER: usize = 1 << 16;

/// Whether an array begins here.
pub(crate) fn begins(from: impl Read) -> std::io::Result<bool> {
    let mut start = Vec::with_capacity(MAGIC.len());
    from.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

/// Reads one array.
pub(crate) fn read(mut from: impl Read) -> Result<Tensor, ArrayError> {
    let mut start = [0u8; 8];
    fill(&mut from, &mut start, ArrayError::Magic)?;
    if &start[..6] != MAGIC {
        return Err(ArrayError::Magic);
    }
    let cut_short = || ArrayError::Header("is cut short".to_owned());
    let length = match start[6] {
        1 => {
            let mut length = [0u8; 2];
            fill(&mut from, &mut length, cut_short())?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0u8; 4];
            fill(&mut from, &mut length, cut_short())?;
            u32::from_le_bytes(length) as usize
        }
        version => return Err(ArrayError::Version(version)),
    };
    if length > MAX_HEADER {
        return Err(ArrayError::Header(format!("has {length} bytes")));
    }
    let mut header = vec![0u8; length];
    fill(&mut from, &mut header, cut_short())?;
    let header = String::from_utf8(header).map_err(|_| ArrayError::Header("is no text".to_owned()))?;
    let header = Header::parse(&header)?;
    let layout = header.layout()?;

    // What the file holds is read before memory for what it claims to hold is asked for.
    let mut bytes = Vec::new();
    from.by_ref().take(layout.bytes as u64).read_to_end(&mut bytes)?;
    if bytes.len() < layout.bytes {
        return Err(ArrayError::Truncated { got: bytes.len(), expected: layout.bytes });
    }
    // At its end an archive's member compares checksums.
    if from.read(&mut [0])? != 0 {
        return Err(ArrayError::Trailing { expected: layout.bytes });
    }
    if layout.big_endian {
        bytes.chunks_exact_mut(layout.unit).for_each(<[u8]>::reverse);
    }
    if header.fortran_order && header.shape.len() > 1 {
        bytes = row_major(&bytes, &header.shape, layout.width);
    }
    if layout.dtype == DType::String {
        return strings(&header.shape, layout.width, &bytes);
    }
    tensor(layout.dtype, &header.shape, bytes)
}

fn fill(from: &mut impl Read, buffer: &mut [u8], otherwise: ArrayError) -> Result<(), ArrayError> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => otherwise,
        _ => ArrayError::Io(error),
    })
}

struct Layout {
    dtype: DType,
    /// Bytes of an element.
    width: usize,
    /// Bytes of what has an order: an element, or a character of text.
    unit: usize,
    /// Of all elements.
    bytes: usize,
    big_endian: bool,
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, keys in any order.
    fn parse(text: &str) -> Result<Self, ArrayError> {
        let malformed = |what: &str| ArrayError::Header(format!("{what}: `{}`", text.trim()));
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut rest = text.trim_start().strip_prefix('{').ok_or_else(|| malformed("is no dictionary"))?;
        loop {
            rest = rest.trim_start();
            if rest.starts_with('}') {
                break;
            }
            let (key, after) = quoted(rest).ok_or_else(|| malformed("has a key that is no text"))?;
            rest = after.trim_start().strip_prefix(':').ok_or_else(|| malformed("lacks a colon"))?;
            rest = rest.trim_start();
            match key {
                "descr" if rest.starts_with('[') => {
                    let reason = "which has fields; arrays of plain numbers are read";
                    return Err(ArrayError::DType { descr: rest.trim().to_owned(), reason });
                }
                "descr" => {
                    let (value, after) =
                        quoted(rest).ok_or_else(|| malformed("has a dtype that is no text"))?;
                    descr = Some(value.to_owned());
                    rest = after;
                }
                "fortran_order" => {
                    let truth = [("True", true), ("False", false)];
                    let found =
                        truth.iter().find_map(|(word, value)| Some((*value, rest.strip_prefix(word)?)));
                    let (value, after) =
                        found.ok_or_else(|| malformed("has an order that is no truth value"))?;
                    fortran_order = Some(value);
                    rest = after;
                }
                "shape" => {
                    let inner = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
                    let (extents, after) = inner.ok_or_else(|| malformed("has a shape that is no tuple"))?;
                    let extents = extents.split(',').map(str::trim).filter(|extent| !extent.is_empty());
                    // Python 2 wrote `3L`.
                    let parse = |extent: &str| extent.strip_suffix('L').unwrap_or(extent).parse().ok();
                    let extents: Option<Vec<usize>> = extents.map(parse).collect();
                    shape = Some(extents.ok_or_else(|| malformed("has an extent that is no size"))?);
                    rest = after;
                }
                _ => return Err(malformed("has a key that is not known")),
            }
            rest = rest.trim_start();
            rest = match rest.strip_prefix(',') {
                Some(after) => after,
                None if rest.starts_with('}') => rest,
                None => return Err(malformed("lacks a comma")),
            };
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Self { descr, fortran_order, shape }),
            _ => Err(malformed("lacks a key")),
        }
    }

    fn layout(&self) -> Result<Layout, ArrayError> {
        let refuse = |reason| ArrayError::DType { descr: self.descr.clone(), reason };
        let (order, kind) = match self.descr.split_at_checked(1) {
            Some((order @ ("<" | ">" | "|" | "="), kind)) => (order, kind),
            _ => ("=", self.descr.as_str()),
        };
        let dtype = match kind {
            "f2" => DType::F16,
            "f4" => DType::F32,
            "f8" => DType::F64,
            "i1" => DType::I8,
            "i2" => DType::I16,
            "i4" => DType::I32,
            "i8" => DType::I64,
            "u1" => DType::U8,
            "u2" => DType::U16,
            "u4" => DType::U32,
            "u8" => DType::U64,
            "b1" => DType::Bool,
            _ if characters(kind).is_some() => DType::String,
            _ => return Err(refuse(why_not(kind))),
        };
        let unit = characters(kind).map_or(dtype.bits() / 8, |_| CHARACTER);
        let width = unit * characters(kind).unwrap_or(1);
        let count = self.shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        let bytes = count.and_then(|n| n.checked_mul(width)).filter(|&bytes| isize::try_from(bytes).is_ok());
        let bytes = bytes.ok_or_else(|| ArrayError::Size { shape: self.shape.clone() })?;
        let big_endian = order == ">" || (order == "=" && cfg!(target_endian = "big"));
        Ok(Layout { dtype, width, unit, bytes, big_endian })
    }
}

/// Bytes of a character: its number.
const CHARACTER: usize = 4;

/// Characters of each text of an array of text, `U12`.
fn characters(kind: &str) -> Option<usize> {
    let count = kind.strip_prefix('U')?.parse().ok()?;
    (1..=usize::MAX / CHARACTER).contains(&count).then_some(count)
}

/// A tensor of texts of `width` bytes each, which end where only zeros follow.
fn strings(shape: &[usize], width: usize, bytes: &[u8]) -> Result<Tensor, ArrayError> {
    let text = |bytes: &[u8]| -> Result<String, ArrayError> {
        let numbers = bytes.as_chunks::<CHARACTER>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let text: Result<String, ArrayError> =
            numbers.map(|number| char::from_u32(number).ok_or(ArrayError::Character(number))).collect();
        text.map(|text| text.trim_end_matches('\0').to_owned())
    };
    let texts = bytes.chunks_exact(width).map(text).collect::<Result<_, _>>()?;
    Ok(Tensor::strings(shape, texts)?)
}

fn why_not(kind: &str) -> &'static str {
    match kind.as_bytes().first() {
        Some(b'S' | b'a' | b'T') => "which is bytes; text is read as numpy's `U`",
        Some(b'O') => "which is pickled Python objects; they are never read",
        Some(b'c') => "which is complex; no operator takes it",
        Some(b'V') => {
            "which is raw bytes, as numpy writes bfloat16; NPY has no bfloat16, save float32 instead"
        }
        Some(b'M' | b'm') => "which is a time; numbers, truth values and text are read",
        _ => "which is not known",
    }
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// The elements of an array in Fortran order (first axis fastest) with the last axis fastest.
fn row_major(bytes: &[u8], shape: &[usize], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0usize; shape.len()];
    for _ in 0..bytes.len() / width {
        let at = index.iter().zip(shape).rev().fold(0, |at, (&i, &extent)| at * extent + i);
        out.extend_from_slice(&bytes[at * width..(at + 1) * width]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}

/// A tensor over little-endian bytes.
fn tensor(dtype: DType, shape: &[usize], mut bytes: Vec<u8>) -> Result<Tensor, ArrayError> {
    if dtype == DType::Bool {
        let truths: Vec<Bool> = bytes.iter().map(|&byte| Bool::new(byte != 0)).collect();
        return Ok(Tensor::new(shape, truths)?);
    }
    bytes.shrink_to_fit();
    Ok(Tensor::from_bytes(dtype, shape, bytes.into())?)
}

/// Whether an element type can be written.
pub(crate) fn check_writable(dtype: DType) -> Result<(), ArrayError> {
    if dtype == DType::String { Ok(()) } else { descr(dtype).map(|_| ()) }
}

fn descr(dtype: DType) -> Result<&'static str, ArrayError> {
    Ok(match dtype {
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::Bool => "|b1",
        other => return Err(ArrayError::Unwritable(other.name())),
    })
}

/// Writes one array as numpy does.
pub(crate) fn write(mut to: impl Write, tensor: TensorView<'_>) -> Result<(), ArrayError> {
    const ALIGNMENT: usize = 64;
    let extents: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
    let shape = match extents.as_slice() {
        [one] => format!("({one},)"),
        more => format!("({})", more.join(", ")),
    };
    let width = tensor.as_strings().map(|texts| {
        let longest = texts.iter().map(|text| text.chars().count()).max();
        longest.unwrap_or_default().max(1)
    });
    let descr = match width {
        Some(width) => format!("<U{width}"),
        None => descr(tensor.dtype())?.to_owned(),
    };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| ArrayError::Header("is too long".to_owned()))?;
    to.write_all(MAGIC)?;
    to.write_all(&[1, 0])?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(header.as_bytes())?;
    match tensor.dtype() {
        // A truth value may be stored as any byte but zero; numpy has 0 and 1.
        DType::Bool => {
            let truths: Vec<u8> = tensor.bytes().iter().map(|&byte| u8::from(byte != 0)).collect();
            to.write_all(&truths)?;
        }
        _ => to.write_all(tensor.bytes())?,
    }
    for text in tensor.as_strings().unwrap_or_default() {
        let padded = text.chars().chain(std::iter::repeat('\0')).take(width.unwrap_or_default());
        for character in padded {
            to.write_all(&u32::from(character).to_le_bytes())?;
        }
    }
    Ok(())
}
