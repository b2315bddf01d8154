//! Weights in files: a bitmap or pattern ids, then the values that are not zero.
//!
//! What kernels read is made for speed and for one target; this is made for size and for every target. A
//! tensor is seen as rows by columns of kernels: of ONNX weights `[oc][ic][kh][kw]`, output by input channels
//! by taps. Groups of kernels follow each other row by row, the kernels of a group likewise.
//!
//! * **Blocks**: one bit per group (lowest bit first) says whether it is stored, then all weights of those
//!   that are. For 4x4 groups of a 1x1 convolution that is one bit per 16 weights.
//! * **Patterns**: the number of different masks of taps, each mask (16 bits), one byte per group with the
//!   number of the mask that its kernels share, then the weights that the masks keep. A mask of no taps is an
//!   absent group. That covers 3:9 of depthwise kernels and 5:9 with connectivity, and whatever else shares
//!   masks.
//!
//! Values that all are numbers of bf16 or f16 take 16 bits each ([`Values`]), which loses nothing: whoever wants a
//! file of half the size rounds the weights first ([`rounded`]). They come back in f32, and tensors of f16 as such.
//! Values that are whole numbers of one byte times a scale for each row, or for each place along the last axis, as those of
//! quantised layers are, take 8 bits each behind the scales (f32): where the product is the value to the last bit.
//!
//! All numbers are little-endian. A negative zero comes back as zero.

use crate::int8::exact_scale;
use sparse_kernels::pairs;
use tract_core::internal::*;

/// Groups that are tried, output by input channels; the smallest result wins.
const BLOCKS: [(usize, usize); 8] = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (1, 8), (4, 4)];
const PATTERNS: [(usize, usize); 7] = [(16, 1), (8, 1), (4, 1), (1, 1), (4, 4), (2, 4), (1, 4)];
/// Taps that fit into a mask.
const MASK: usize = 16;
/// Weights of a group.
const LARGEST_GROUP: usize = 1 << 16;
/// Dense bytes that a tensor may take for every byte stored, beyond [`SMALL`]. 4x4 blocks of which none is
/// stored take 512 bytes for every byte of their bitmap.
const EXPANSION: usize = 1024;
/// What the text that names a tensor justifies without any byte stored.
const SMALL: usize = 64 << 10;

/// Which weights are left out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// Groups are there or not.
    Blocks,
    /// Groups share a mask of taps.
    Patterns,
}

/// The numbers that values are stored as, and the type of the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Values {
    /// f32 of a tensor of f32.
    F32,
    /// bf16 of a tensor of f32.
    Bf16,
    /// f16 of a tensor of f32.
    F16,
    /// f16 of a tensor of f16.
    F16Tensor,
    /// i8 of a tensor of f32, times a scale for each row.
    Int8Rows,
    /// i8 of a tensor of f32, times a scale for each place along the last axis.
    Int8Columns,
    /// i8 of a tensor of i8.
    Int8Tensor,
}

impl Values {
    /// All of them.
    pub const ALL: [Values; 7] = [
        Values::F32,
        Values::Bf16,
        Values::F16,
        Values::F16Tensor,
        Values::Int8Rows,
        Values::Int8Columns,
        Values::Int8Tensor,
    ];

    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            Values::F32 => "f32",
            Values::Bf16 => "bf16",
            Values::F16 => "f16",
            Values::F16Tensor => "f16_tensor",
            Values::Int8Rows => "i8_rows",
            Values::Int8Columns => "i8_columns",
            Values::Int8Tensor => "i8_tensor",
        }
    }

    /// Those of a word.
    ///
    /// # Errors
    /// Another word than those of [`Values::name`].
    pub fn named(name: &str) -> TractResult<Values> {
        let found = Values::ALL.into_iter().find(|values| values.name() == name);
        found.with_context(|| format!("values of {name:?}"))
    }

    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Values::F32 => size_of::<f32>(),
            Values::Bf16 | Values::F16 | Values::F16Tensor => size_of::<u16>(),
            Values::Int8Rows | Values::Int8Columns | Values::Int8Tensor => size_of::<i8>(),
        }
    }

    /// The nearest of these numbers: ties to even; of bf16, denormals are zero.
    fn round(self, value: f32) -> f32 {
        match self {
            Values::F32 => value,
            Values::Bf16 => pairs::float(pairs::round(value)),
            Values::F16 | Values::F16Tensor => f16::from_f32(value).to_f32(),
            Values::Int8Rows | Values::Int8Columns | Values::Int8Tensor => {
                value.round_ties_even().clamp(-128.0, 127.0)
            }
        }
    }

    /// How many scales there are of a tensor of this shape, and how many weights follow each other that have the same.
    fn scales(self, shape: &[usize]) -> (usize, usize) {
        let rows = rows_of(shape);
        match self {
            Values::F32 | Values::Bf16 | Values::F16 | Values::F16Tensor | Values::Int8Tensor => (0, 1),
            Values::Int8Rows => (rows, (shape.iter().product::<usize>() / rows.max(1)).max(1)),
            Values::Int8Columns => (shape.last().copied().unwrap_or(1), 1),
        }
    }

    /// The numbers that are stored and their scales, if they say all values to the last bit.
    fn numbers(self, shape: &[usize], values: &[f32]) -> Option<(Vec<f32>, Vec<f32>)> {
        let (count, run) = self.scales(shape);
        if count == 0 {
            return Some((values.to_vec(), vec![]));
        }
        let scale = |line: usize| {
            let line = values.chunks(run).skip(line).step_by(count).flatten().copied();
            exact_scale(&line.collect::<Vec<f32>>())
        };
        let scales: Vec<f32> = (0..count).map(scale).collect::<Option<_>>()?;
        let number = |(at, value): (usize, &f32)| match scales[at / run % count] {
            0.0 => 0.0,
            scale => (value / scale).round_ties_even(),
        };
        Some((values.iter().enumerate().map(number).collect(), scales))
    }

    /// The narrowest of floats that all values are, of f32.
    fn of(values: &[f32]) -> Values {
        let all_are = |is: fn(f32) -> bool| values.iter().all(|value| is(*value));
        if all_are(|value| value.to_bits() & 0xffff == 0) {
            Values::Bf16
        } else if all_are(|value| f16::from_f32(value).to_f32().to_bits() == value.to_bits()) {
            Values::F16
        } else {
            Values::F32
        }
    }

    fn write(self, value: f32, out: &mut Vec<u8>) {
        match self {
            Values::F32 => out.extend(value.to_le_bytes()),
            Values::Bf16 => out.extend(((value.to_bits() >> 16) as u16).to_le_bytes()),
            Values::F16 | Values::F16Tensor => out.extend(f16::from_f32(value).to_le_bytes()),
            Values::Int8Rows | Values::Int8Columns | Values::Int8Tensor => out.push(value as i8 as u8),
        }
    }

    fn read(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Values::F32, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
            (Values::Bf16, [a, b]) => pairs::float(u16::from_le_bytes([*a, *b])),
            (Values::F16 | Values::F16Tensor, [a, b]) => f16::from_le_bytes([*a, *b]).to_f32(),
            (Values::Int8Rows | Values::Int8Columns | Values::Int8Tensor, [a]) => f32::from(*a as i8),
            _ => unreachable!("{} bytes of {}", bytes.len(), self.name()),
        }
    }
}

/// The tensor with every value rounded to these numbers; none if a finite value has none there.
///
/// # Errors
/// A tensor that is not of f32.
pub fn rounded(tensor: &Tensor, to: Values) -> TractResult<Option<Tensor>> {
    let values = tensor.try_as_plain_ram()?.as_slice::<f32>()?;
    let rounded: Vec<f32> = values.iter().map(|value| to.round(*value)).collect();
    rule_if!(values.iter().zip(&rounded).all(|(value, rounded)| rounded.is_finite() || !value.is_finite()));
    Tensor::from_shape(tensor.shape(), &rounded).map(Some)
}

/// How the weights of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// Which weights are left out together.
    pub grouping: Grouping,
    /// Rows and columns of a group.
    pub group: [usize; 2],
    /// Weights of one kernel.
    pub taps: usize,
    /// What the weights are stored as.
    pub values: Values,
}

/// A tensor as rows by columns of kernels.
struct View {
    rows: usize,
    cols: usize,
    taps: usize,
    group: [usize; 2],
}

impl View {
    fn new(shape: &[usize], scheme: &Scheme) -> TractResult<View> {
        let Scheme { group: [r, c], taps, .. } = *scheme;
        let len = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let len = len.filter(|n| (1..=isize::MAX as usize / size_of::<f32>()).contains(n));
        let len = len.with_context(|| format!("a tensor of shape {shape:?}"))?;
        let rows = rows_of(shape);
        let size = r.checked_mul(c).and_then(|n| n.checked_mul(taps));
        ensure!(size.is_some_and(|n| (1..=LARGEST_GROUP).contains(&n)), "a group of {r}x{c} by {taps} taps");
        ensure!((len / rows).is_multiple_of(taps), "shape {shape:?} has no kernels of {taps} taps");
        Ok(View { rows, cols: len / rows / taps, taps, group: [r, c] })
    }

    fn bytes(&self) -> usize {
        self.rows * self.cols * self.taps * size_of::<f32>()
    }

    /// Refuses to make a dense tensor of so few bytes.
    fn check(&self, stored: usize) -> TractResult<()> {
        let allowed = SMALL.saturating_add(stored.saturating_mul(EXPANSION));
        ensure!(
            self.bytes() <= allowed,
            "{} bytes of weights are more than {stored} stored bytes justify",
            self.bytes()
        );
        Ok(())
    }

    fn groups(&self) -> usize {
        self.rows.div_ceil(self.group[0]) * self.cols.div_ceil(self.group[1])
    }

    /// The first weight of every kernel of a group.
    fn kernels(&self, group: usize) -> impl Iterator<Item = usize> + Clone + '_ {
        let [r, c] = self.group;
        let across = self.cols.div_ceil(c);
        let (row, col) = (group / across * r, group % across * c);
        (row..self.rows.min(row + r))
            .flat_map(move |row| (col..self.cols.min(col + c)).map(move |col| row * self.cols + col))
            .map(|kernel| kernel * self.taps)
    }

    /// The taps that any kernel of the group has; a single bit if there are more than a mask holds.
    fn mask(&self, group: usize, nonzero: &[bool]) -> u16 {
        self.kernels(group).fold(0, |mask, first| {
            let taps = nonzero[first..first + self.taps].iter().enumerate();
            taps.fold(mask, |mask, (tap, set)| mask | u16::from(*set) << (tap % MASK))
        })
    }
}

/// Leading axes of extent one say nothing about output channels.
fn rows_of(shape: &[usize]) -> usize {
    shape.iter().copied().find(|d| *d != 1).unwrap_or(1)
}

/// The scheme that stores a tensor in fewest bytes, and those bytes; `None` if the tensor is neither f32, f16 nor i8, has
/// fewer than two axes, or takes no less room so.
///
/// # Errors
/// A tensor whose values are not in memory.
pub fn encode(tensor: &Tensor) -> TractResult<Option<(Scheme, Vec<u8>)>> {
    let (dt, narrow, byte) = (tensor.datum_type(), DatumType::F16, DatumType::I8);
    rule_if!([DatumType::F32, narrow, byte].contains(&dt) && tensor.is_plain_ram());
    let shape = tensor.shape();
    rule_if!(shape.iter().filter(|d| **d != 1).count() >= 2);
    let wide = tensor.cast_to::<f32>()?;
    let floats = wide.try_as_plain_ram()?.as_slice::<f32>()?;
    let nonzero: Vec<bool> = floats.iter().map(|v| *v != 0.0).collect();
    let mut types = vec![];
    if dt == narrow {
        types.push((Values::F16Tensor, (floats.to_vec(), vec![])));
    } else if dt == byte {
        types.push((Values::Int8Tensor, (floats.to_vec(), vec![])));
    } else {
        types.push((Values::of(floats), (floats.to_vec(), vec![])));
        let int8 = [Values::Int8Rows, Values::Int8Columns];
        let int8 = int8.into_iter().find_map(|values| Some((values, values.numbers(shape, floats)?)));
        types.extend(int8);
    }
    types.retain(|(values, _)| nonzero.contains(&false) || values.bytes() < dt.size_of());
    let axis = shape.iter().position(|d| *d == rows_of(shape)).unwrap_or(0);
    let taps: usize = shape[axis + 1..].iter().skip(1).product();
    let mut schemes = vec![];
    for (values, _) in &types {
        let values = *values;
        let blocks =
            |taps| BLOCKS.map(|(r, c)| Scheme { grouping: Grouping::Blocks, group: [r, c], taps, values });
        schemes.extend(blocks(taps));
        if taps > 1 {
            schemes.extend(blocks(1));
        }
        if (2..=MASK).contains(&taps) {
            let patterns = |(r, c)| Scheme { grouping: Grouping::Patterns, group: [r, c], taps, values };
            schemes.extend(PATTERNS.map(patterns));
        }
    }
    let mut best: Option<(usize, Scheme)> = None;
    for scheme in schemes {
        let Ok(view) = View::new(shape, &scheme) else { continue };
        let Some(size) = size(&view, &scheme, &nonzero) else { continue };
        let size = size + size_of::<f32>() * scheme.values.scales(shape).0;
        if view.check(size).is_ok() && best.is_none_or(|(least, _)| size < least) {
            best = Some((size, scheme));
        }
    }
    rule_if_some!((size, scheme) = best);
    rule_if!(size < dt.size_of() * floats.len());
    let (_, (numbers, scales)) =
        types.iter().find(|(values, _)| *values == scheme.values).context("a type that was not tried")?;
    let mut bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    bytes.extend(write(&View::new(shape, &scheme)?, &scheme, numbers, &nonzero));
    Ok(Some((scheme, bytes)))
}

/// Different masks, none of more than 256 wanted.
fn palette(view: &View, nonzero: &[bool]) -> Option<Vec<u16>> {
    let mut masks: Vec<u16> = (0..view.groups()).map(|group| view.mask(group, nonzero)).collect();
    masks.sort_unstable();
    masks.dedup();
    (masks.len() <= 256).then_some(masks)
}

fn size(view: &View, scheme: &Scheme, nonzero: &[bool]) -> Option<usize> {
    let bytes = scheme.values.bytes();
    let kernels = |group| view.kernels(group).count();
    let stored = |bits: &dyn Fn(u16) -> usize| -> usize {
        (0..view.groups()).map(|group| bits(view.mask(group, nonzero)) * kernels(group)).sum()
    };
    match scheme.grouping {
        Grouping::Blocks => {
            let values = stored(&|mask| if mask == 0 { 0 } else { view.taps });
            Some(view.groups().div_ceil(8) + bytes * values)
        }
        Grouping::Patterns => {
            let masks = palette(view, nonzero)?;
            Some(2 + 2 * masks.len() + view.groups() + bytes * stored(&|mask| mask.count_ones() as usize))
        }
    }
}

fn write(view: &View, scheme: &Scheme, values: &[f32], nonzero: &[bool]) -> Vec<u8> {
    let grouping = scheme.grouping;
    let masks: Vec<u16> = (0..view.groups()).map(|group| view.mask(group, nonzero)).collect();
    let mut out = vec![];
    match grouping {
        Grouping::Blocks => {
            out.resize(masks.len().div_ceil(8), 0);
            for (group, _) in masks.iter().enumerate().filter(|(_, mask)| **mask != 0) {
                out[group / 8] |= 1 << (group % 8);
            }
        }
        Grouping::Patterns => {
            let palette = palette(view, nonzero).unwrap_or_default();
            out.extend((palette.len() as u16).to_le_bytes());
            palette.iter().for_each(|mask| out.extend(mask.to_le_bytes()));
            // the palette is sorted and holds every mask
            out.extend(masks.iter().map(|mask| palette.partition_point(|other| other < mask) as u8));
        }
    }
    for (group, mask) in masks.iter().enumerate().filter(|(_, mask)| **mask != 0) {
        for first in view.kernels(group) {
            for (tap, value) in values[first..first + view.taps].iter().enumerate() {
                if grouping == Grouping::Blocks || mask >> tap & 1 == 1 {
                    // a negative zero among weights that stay is zero, too
                    scheme.values.write(value + 0.0, &mut out);
                }
            }
        }
    }
    out
}

/// The tensor of this shape that `bytes` hold.
///
/// # Errors
/// Bytes that are not what [`encode`] makes of a tensor of this shape by this scheme.
pub fn decode(shape: &[usize], scheme: &Scheme, bytes: &[u8]) -> TractResult<Tensor> {
    let view = View::new(shape, scheme)?;
    view.check(bytes.len())?;
    let (count, run) = scheme.values.scales(shape);
    let (scales, bytes) = split(bytes, size_of::<f32>() * count)?;
    let groups = view.groups();
    let all = if view.taps >= MASK { u16::MAX } else { (1 << view.taps) - 1 };
    let (masks, values): (Vec<u16>, &[u8]) = match scheme.grouping {
        Grouping::Blocks => {
            let (bitmap, values) = split(bytes, groups.div_ceil(8))?;
            let spare = bitmap.last().is_some_and(|last| groups % 8 != 0 && last >> (groups % 8) != 0);
            ensure!(!spare, "bits beyond the {groups} groups are set");
            ((0..groups).map(|g| if bitmap[g / 8] >> (g % 8) & 1 == 1 { all } else { 0 }).collect(), values)
        }
        Grouping::Patterns => {
            ensure!(view.taps <= MASK, "{} taps do not fit a mask", view.taps);
            let (count, rest) = split(bytes, 2)?;
            let count = usize::from(u16::from_le_bytes([count[0], count[1]]));
            let (palette, rest) = split(rest, 2 * count)?;
            let palette: Vec<u16> =
                palette.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
            let wrong = palette.iter().find(|mask| **mask & !all != 0);
            ensure!(wrong.is_none(), "mask {:#x} is of more than {} taps", wrong.unwrap_or(&0), view.taps);
            let (ids, values) = split(rest, groups)?;
            let mask = |id: &u8| palette.get(usize::from(*id)).copied();
            let masks = ids.iter().map(|id| mask(id).with_context(|| format!("no mask has number {id}")));
            (masks.collect::<TractResult<_>>()?, values)
        }
    };
    let per_kernel = |mask: u16| match scheme.grouping {
        Grouping::Blocks => usize::from(mask != 0) * view.taps,
        Grouping::Patterns => mask.count_ones() as usize,
    };
    let stored: usize = masks.iter().enumerate().map(|(g, m)| per_kernel(*m) * view.kernels(g).count()).sum();
    let bytes = scheme.values.bytes();
    ensure!(values.len() == bytes * stored, "{} bytes of values for {stored} weights", values.len());
    let mut values = values.chunks_exact(bytes).map(|bytes| scheme.values.read(bytes));
    let mut dense = vec![0f32; view.rows * view.cols * view.taps];
    for (group, mask) in masks.iter().enumerate().filter(|(_, mask)| **mask != 0) {
        for first in view.kernels(group) {
            let kernel = dense[first..first + view.taps].iter_mut().enumerate();
            let kept = kernel.filter(|(tap, _)| scheme.grouping == Grouping::Blocks || mask >> tap & 1 == 1);
            kept.zip(&mut values).for_each(|((_, weight), value)| *weight = value);
        }
    }
    if count > 0 {
        let scale = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let scales: Vec<f32> = scales.chunks_exact(size_of::<f32>()).map(scale).collect();
        dense.iter_mut().enumerate().for_each(|(at, weight)| *weight *= scales[at / run % count]);
    }
    let dense = Tensor::from_shape(shape, &dense)?;
    match scheme.values {
        Values::F16Tensor => Ok(dense.cast_to::<f16>()?.into_owned()),
        Values::Int8Tensor => Ok(dense.cast_to::<i8>()?.into_owned()),
        Values::F32 | Values::Bf16 | Values::F16 | Values::Int8Rows | Values::Int8Columns => Ok(dense),
    }
}

fn split(bytes: &[u8], at: usize) -> TractResult<(&[u8], &[u8])> {
    bytes.split_at_checked(at).with_context(|| format!("{} bytes, {at} are needed", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(shape: &[usize], keep: impl Fn(usize) -> bool) -> Tensor {
        let len = shape.iter().product();
        let values: Vec<f32> =
            (0..len).map(|i| if keep(i) { (i * 7919 % 1009) as f32 / 7.0 - 72.1 } else { 0.0 }).collect();
        Tensor::from_shape(shape, &values).unwrap()
    }

    const BLOCKS_OF_16: Scheme =
        Scheme { grouping: Grouping::Blocks, group: [4, 4], taps: 1, values: Values::F32 };
    const PATTERNS_OF_16: Scheme = Scheme { grouping: Grouping::Patterns, taps: 9, ..BLOCKS_OF_16 };

    fn round_trip(tensor: &Tensor) -> (Scheme, usize) {
        let (scheme, bytes) = encode(tensor).unwrap().unwrap();
        assert_eq!(&decode(tensor.shape(), &scheme, &bytes).unwrap(), tensor);
        // a byte too few, a byte too many
        assert!(decode(tensor.shape(), &scheme, &bytes[..bytes.len() - 1]).is_err());
        assert!(decode(tensor.shape(), &scheme, &[&bytes[..], &[0]].concat()).is_err());
        (scheme, bytes.len())
    }

    #[test]
    fn blocks_take_a_bit_for_sixteen_weights() {
        // every third 4x4 block of 64 x 32
        let kept = |i: usize| (i / 32 / 4 * 8 + i % 32 / 4).is_multiple_of(3);
        let (scheme, bytes) = round_trip(&ramp(&[64, 32, 1, 1], kept));
        assert_eq!(scheme, BLOCKS_OF_16);
        let blocks = (0..128).filter(|b| b % 3 == 0).count();
        assert_eq!(bytes, 128 / 8 + blocks * 64);
        // as a matrix with an axis in front, and transposed
        assert_eq!(round_trip(&ramp(&[1, 64, 32], kept)).0.group, [4, 4]);
        assert_eq!(round_trip(&ramp(&[64, 32], |i| i / 128 % 3 == 0)).0.group[0], 4);
    }

    #[test]
    fn patterns_are_stored_by_number() {
        let masks = [0b011_110_011u16, 0b110_011_110];
        let kept = |i: usize| masks[i / 9 / 16 % 2] >> (i % 9) & 1 == 1;
        let (scheme, bytes) = round_trip(&ramp(&[480, 1, 3, 3], kept));
        assert_eq!(scheme, Scheme { group: [16, 1], ..PATTERNS_OF_16 });
        assert_eq!(bytes, 2 + 2 * 2 + 30 + 480 * 6 * 4);
        // 5:9 shared by 4x4 kernels, some groups absent, ragged edges
        let masks = [0b000_011_011u16, 0, 0b110_011_000];
        let kept = |i: usize| {
            let (row, col) = (i / 9 / 10, i / 9 % 10);
            masks[(row / 4 + col / 4) % 3] >> (i % 9) & 1 == 1
        };
        let (scheme, _) = round_trip(&ramp(&[18, 10, 3, 3], kept));
        assert_eq!(scheme, PATTERNS_OF_16);
    }

    #[test]
    fn single_weights_and_odd_shapes_round_trip() {
        round_trip(&ramp(&[7, 5], |i| i % 5 == 0));
        round_trip(&ramp(&[7, 5, 3, 5], |i| i % 4 == 1));
        round_trip(&ramp(&[3, 2, 5, 5], |i| i / 50 != 1));
        let nothing = ramp(&[8, 8], |_| false);
        assert_eq!(round_trip(&nothing).1, 1);
    }

    #[test]
    fn rounded_weights_take_half() {
        for (shape, keep) in
            [(&[64, 32, 1, 1][..], 3), (&[64, 32], 1), (&[48, 1, 3, 3], 2), (&[9, 7, 3, 3], 5)]
        {
            let tensor = ramp(shape, |i| i % keep == 0);
            for to in [Values::Bf16, Values::F16] {
                let rounded = rounded(&tensor, to).unwrap().unwrap();
                let (scheme, bytes) = round_trip(&rounded);
                assert_eq!(scheme.values, to, "{shape:?}");
                let full = encode(&tensor).unwrap().map_or(4 * tensor.len(), |(_, bytes)| bytes.len());
                // what says where weights are takes no less
                assert!(2 * bytes <= full + tensor.len() / 4, "{shape:?}: {bytes} of {full}");
            }
            let narrow = tensor.cast_to::<f16>().unwrap();
            match encode(&narrow).unwrap() {
                Some(_) => assert_eq!(round_trip(&narrow).0.values, Values::F16Tensor, "{shape:?}"),
                None => assert_eq!(keep, 1, "{shape:?}"),
            }
        }
    }

    /// Numbers of i8 times a scale for each row, or for each column, rounded as a loader does it; a share of one in `keep`
    /// blocks of 4x4 is not zero.
    fn quantised(shape: &[usize], columns: bool, keep: usize) -> Tensor {
        let (len, cols) = (shape.iter().product::<usize>(), shape.iter().skip(1).product::<usize>());
        let value = |i: usize| {
            let (row, col) = (i / cols, i % cols);
            let line = if columns { i % shape[shape.len() - 1] } else { row };
            let scale = 1e-3 * (line as f32 + 1.0).sqrt();
            let kept = (row / 4 * cols.div_ceil(4) + col / 4).is_multiple_of(keep);
            if kept { f32::from((i * 31) as u8 as i8) * scale } else { 0.0 }
        };
        Tensor::from_shape(shape, &(0..len).map(value).collect::<Vec<f32>>()).unwrap()
    }

    #[test]
    fn quantised_weights_take_a_quarter() {
        for (shape, columns, keep) in [
            (&[64, 128, 1, 1][..], false, 2),
            (&[64, 128], false, 1),
            (&[128, 64], true, 5),
            (&[96, 1, 3, 3], false, 1),
            (&[16, 12, 3, 3], false, 3),
        ] {
            let tensor = quantised(shape, columns, keep);
            let (scheme, bytes) = round_trip(&tensor);
            let along = if columns { Values::Int8Columns } else { Values::Int8Rows };
            assert_eq!(scheme.values, along, "{shape:?}");
            let lines = if columns { shape[1] } else { shape[0] };
            let stored = tensor.len().div_ceil(keep);
            // a bit for each block, a scale for each line
            let allowed = stored + tensor.len() / 8 + 4 * lines + 64;
            assert!(bytes <= allowed, "{shape:?}: {bytes} of {allowed}");
        }
        // bytes themselves
        let value = |i: usize| if (i / 512).is_multiple_of(2) { (i * 31) as u8 as i8 } else { 0 };
        let bytes = Tensor::from_shape(&[64, 128], &(0..64 * 128).map(value).collect::<Vec<i8>>()).unwrap();
        let (scheme, stored) = round_trip(&bytes);
        assert_eq!(scheme.values, Values::Int8Tensor);
        assert!(stored <= 32 * 128 + 64 * 128 / 16, "{stored}");
        // one number is on no grid
        let mut values =
            quantised(&[64, 128], false, 2).try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        values[0] = 0.123_456_7;
        values[1] = 0.765_432_1;
        let odd = Tensor::from_shape(&[64, 128], &values).unwrap();
        assert_eq!(round_trip(&odd).0.values, Values::F32);
    }

    #[test]
    fn rounding_is_to_nearest_and_within_range() {
        let tensor = |value: f32| Tensor::from_shape(&[2, 1], &[value, 0.5]).unwrap();
        let first = |to: Values, value: f32| {
            rounded(&tensor(value), to)
                .unwrap()
                .map(|y| y.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap()[0])
        };
        assert_eq!(first(Values::Bf16, 1.0 + 3.0 / 512.0), Some(1.0 + 1.0 / 128.0));
        assert_eq!(first(Values::F16, 1.0 + 3.0 / 4096.0), Some(1.0 + 1.0 / 1024.0));
        assert_eq!(first(Values::F16, 65504.0), Some(65504.0));
        assert_eq!((first(Values::F16, 65520.0), first(Values::Bf16, 3.4e38)), (None, None));
        assert_eq!(first(Values::F16, f32::INFINITY), Some(f32::INFINITY));
        assert!(Values::named("f64").is_err());
        assert!(rounded(&tensor2(&[[1i64]]), Values::Bf16).is_err());
    }

    #[test]
    fn what_gains_nothing_is_left_alone() {
        assert_eq!(encode(&ramp(&[8, 8], |_| true)).unwrap(), None);
        assert_eq!(encode(&ramp(&[64], |i| i == 0)).unwrap(), None);
        assert_eq!(encode(&tensor2(&[[0i32, 0], [0, 1]])).unwrap(), None);
        // one zero of a thousand: a bitmap costs more
        assert_eq!(encode(&ramp(&[10, 100], |i| i != 3)).unwrap(), None);
    }

    #[test]
    fn what_is_written_can_be_read() {
        // Nothing but zeros, in kernels so long that a bit would stand for more than a reader believes.
        for shape in [&[64, 64, 3, 3][..], &[256, 256], &[8, 8, 64, 64]] {
            round_trip(&ramp(shape, |_| false));
            round_trip(&ramp(shape, |i| i == 5));
        }
    }

    #[test]
    fn negative_zeros_are_zeros() {
        let mut values = vec![-0.0f32; 64];
        values[0] = 1.0;
        let (scheme, bytes) = encode(&Tensor::from_shape(&[8, 8], &values).unwrap()).unwrap().unwrap();
        let back = decode(&[8, 8], &scheme, &bytes).unwrap();
        let back = back.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap();
        assert!(back[1..].iter().all(|v| v.to_bits() == 0));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let blocks = BLOCKS_OF_16;
        let patterns = Scheme { group: [4, 1], ..PATTERNS_OF_16 };
        let huge = [1 << 40, 1 << 40];
        for (shape, scheme, bytes, what) in [
            (&[4, 8][..], blocks, &[0b100][..], "beyond the 2 groups"),
            (&[4, 8], blocks, &[], "are needed"),
            (&[4, 8], blocks, &[1], "0 bytes of values for 16"),
            (&huge, blocks, &[], "shape"),
            (
                &[1 << 48, 1],
                Scheme { group: [1, 1], taps: 1 << 16, ..blocks },
                &[],
                "no kernels of 65536 taps",
            ),
            (
                &[1 << 20, 1 << 16],
                Scheme { group: [1, 1], taps: 1 << 16, ..blocks },
                &[0; 1 << 17],
                "justify",
            ),
            (&[4, 8], Scheme { group: [0, 4], ..blocks }, &[0], "group of 0x4"),
            (&[4, 8], Scheme { taps: 5, ..blocks }, &[0], "5 taps"),
            (&[4, 1 << 20], Scheme { group: [1 << 20, 1], ..blocks }, &[0], "group of"),
            (&[4, 1, 3, 3], patterns, &[1, 0, 255, 255, 0], "more than 9 taps"),
            (&[4, 1, 3, 3], patterns, &[1, 0, 1, 0, 7], "number 7"),
            (&[4, 8], Scheme { values: Values::Int8Rows, ..blocks }, &[0; 15], "16 are needed"),
            (&[4, 8], Scheme { values: Values::Int8Columns, ..blocks }, &[0; 31], "32 are needed"),
            (&[4, 1, 17], Scheme { taps: 17, ..patterns }, &[0, 0], "17 taps"),
        ] {
            let error = format!("{:#}", decode(shape, &scheme, bytes).unwrap_err());
            assert!(error.contains(what), "{error}");
        }
    }
}
