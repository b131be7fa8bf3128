//! Arrays of NPZ files as numpy writes them.

use anyhow::{Context, Result, anyhow, bail};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The elements, in row-major order, of the 32-bit float array `name` of the file at `path`.
pub fn floats(path: &Path, name: &str) -> Result<Vec<f32>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut archive = zip::ZipArchive::new(file)?;
    let mut bytes = Vec::new();
    archive.by_name(&format!("{name}.npy"))?.read_to_end(&mut bytes)?;
    npy_floats(&bytes).with_context(|| format!("array `{name}` of {}", path.display()))
}

fn npy_floats(bytes: &[u8]) -> Result<Vec<f32>> {
    let rest = bytes.strip_prefix(b"\x93NUMPY\x01\x00").ok_or_else(|| anyhow!("no NPY file of version 1"))?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| anyhow!("truncated"))?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (header, data) = rest.split_at_checked(length).ok_or_else(|| anyhow!("truncated"))?;
    let header = String::from_utf8_lossy(header);
    if !header.contains("'descr': '<f4'") || !header.contains("'fortran_order': False") {
        bail!("not 32-bit floats in row-major order: {header}");
    }
    Ok(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_and_other_arrays_are_refused() {
        let file = |descr: &str| {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}\n");
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.as_bytes());
            bytes.extend([1f32, -2.5].iter().flat_map(|x| x.to_le_bytes()));
            bytes
        };
        assert_eq!(npy_floats(&file("<f4")).expect("floats"), [1.0, -2.5]);
        assert!(npy_floats(&file("<f8")).is_err());
        assert!(npy_floats(&file("<f4")[..20]).is_err());
    }
}
