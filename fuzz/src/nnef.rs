//! NNEF archives. An input is an archive as it is, or, since nothing else than the project's own generator
//! gets tar's check sums right, the text of a graph and, behind a zero, the bytes of all its variables.

use std::sync::LazyLock;
use tract_nnef::internal::Nnef;
use tract_onnx::WithOnnx;
use tract_sparse::prelude::*;

const LOADING: usize = 1 << 30;
/// stock tract's parser tries every level of brackets again and again: eighteen take it half a minute.
const DEEPEST: usize = 10;

/// A tensor of bytes as NNEF stores it.
fn tensor(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0u8; 128];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x4e, 0xef, 1, 0]);
    put(4, &(bytes.len() as u32).to_le_bytes());
    put(8, &1u32.to_le_bytes());
    put(12, &(bytes.len() as u32).to_le_bytes());
    put(44, &8u32.to_le_bytes());
    put(48, &1u16.to_le_bytes());
    file.extend(bytes);
    file
}

fn archive(text: &str, variables: &[u8]) -> Option<Vec<u8>> {
    let mut tar = tar::Builder::new(vec![]);
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).ok()
    };
    add("graph.nnef", text.as_bytes())?;
    let labels = text.split("label = \"").skip(1).filter_map(|rest| rest.split_once('"'));
    for (label, _) in labels.take(8) {
        add(&format!("{label}.dat"), &tensor(variables))?;
    }
    tar.into_inner().ok()
}

fn deepest(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in bytes {
        match byte {
            b'(' | b'[' | b'{' | b'-' | b'!' | b'+' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' => depth = 0,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

static STOCK: LazyLock<Nnef> = LazyLock::new(|| tract_nnef::nnef().with_onnx());
static OURS: LazyLock<Nnef> = LazyLock::new(|| tract_sparse::nnef().into_inner());

fn load(nnef: &Nnef, bytes: &[u8], sparse: bool) -> TractResult<TypedModel> {
    let mut model = nnef.model_for_read(&mut &*bytes)?.into_decluttered()?;
    if sparse {
        tract_sparse::sparsify(&mut model, &tract_sparse::Policy::from_knobs()?)?;
    }
    model.into_optimized()
}

/// Runs one input.
pub fn run(bytes: &[u8]) {
    if deepest(bytes) > DEEPEST {
        return;
    }
    let made = match bytes.iter().position(|b| *b == 0).map(|at| bytes.split_at(at)) {
        Some((text, rest)) if bytes.get(257..262) != Some(&b"ustar"[..]) => {
            std::str::from_utf8(text).ok().and_then(|text| archive(text, &rest[1..]))
        }
        _ => None,
    };
    let bytes = made.as_deref().unwrap_or(bytes);
    // stock tract does not know the extension: it stops where ours goes on
    let same = !bytes.windows(12).any(|w| w == b"tract_sparse");
    let stock = crate::caught(LOADING, || load(&STOCK, bytes, false).is_ok());
    let ours = crate::caught(LOADING, || load(&OURS, bytes, true).is_ok());
    crate::judge(ours, stock, same);
}
