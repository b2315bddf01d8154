//! Compact weights of files: what is decoded is in proportion to its bytes, what is encoded comes back.

use arbitrary::{Result, Unstructured};
use sparse_ops::compact::{self, Grouping, Scheme, Values};
use tract_sparse::prelude::Tensor;

/// Mostly small, sometimes absurd.
fn size(input: &mut Unstructured) -> Result<usize> {
    Ok(match input.arbitrary::<u8>()? % 4 {
        0 => 1,
        1 => usize::from(input.arbitrary::<u8>()?),
        2 => 1 << (u32::from(input.arbitrary::<u8>()?) % usize::BITS),
        _ => input.arbitrary()?,
    })
}

fn decode(input: &mut Unstructured) -> Result<()> {
    let grouping = if input.arbitrary()? { Grouping::Patterns } else { Grouping::Blocks };
    let values = *input.choose(&Values::ALL)?;
    let scheme = Scheme { grouping, group: [size(input)?, size(input)?], taps: size(input)?, values };
    let rank = input.arbitrary::<u8>()? % 5;
    let shape = (0..rank).map(|_| size(input)).collect::<Result<Vec<usize>>>()?;
    let bytes = input.bytes(input.len())?;
    // the tensor, a copy of it, and what is remembered of its groups
    crate::within((1 << 20) + 4096 * bytes.len(), || {
        if let Ok(tensor) = compact::decode(&shape, &scheme, bytes) {
            assert!(tensor.len() <= (16 << 10) + 256 * bytes.len());
        }
    });
    Ok(())
}

fn encode(input: &mut Unstructured) -> Result<()> {
    let shape = input.arbitrary::<[u8; 4]>()?.map(|d| usize::from(d % 20) + 1);
    let len = shape.iter().product();
    let values = input.bytes(input.len())?.iter().map(|v| f32::from(*v as i8));
    let values: Vec<f32> = values.chain(std::iter::repeat(0.0)).take(len).collect();
    let tensor = Tensor::from_shape(&shape, &values).unwrap();
    if let Some((scheme, bytes)) = compact::encode(&tensor).unwrap() {
        assert_eq!(bits(&compact::decode(&shape, &scheme, &bytes).unwrap()), bits(&tensor));
    }
    Ok(())
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let plain = tensor.try_as_plain_ram().unwrap();
    plain.as_slice::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
}

/// Runs one input.
pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    // an input that ends too early is none
    let _ = if input.arbitrary().unwrap_or(false) { decode(&mut input) } else { encode(&mut input) };
}
