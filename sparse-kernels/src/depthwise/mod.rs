//! Depthwise convolution of planar tensors: one small kernel per channel, patterns of zeros shared by groups
//! of channels.
//!
//! The loops of `body` read the planes where they are and know the borders themselves: nothing is copied or
//! padded. A large plane is computed in strips of rows that the first-level cache holds. Each output value is
//! summed by one thread in the order of the taps, so that the split into strips and threads never changes a
//! result.
//!
//! In half precision a plane holds a pair of channels ([`crate::pairs`]), which are summed beside each other as
//! floats. Quads of bytes ([`crate::quads`]) have a loop of their own, over the same strips of planes.

mod across;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod body;
mod loops;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod quads;
mod rolled;
pub(crate) mod scalar;
mod values;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

use crate::drive::{self, Cut, Job, Latest, Packed};
use crate::epilogue::{Epilogue, FinishPairs};
use crate::error::{FormatError, KernelError};
use crate::format::{DepthwisePattern, DepthwisePatterns};
use crate::geometry::{ConvGeometry, ConvShape, Layout};
use crate::pairs::{self, Numbers, f16};
use crate::parallel::Parallel;
use crate::quads::{CHANNELS, Quantised, Requantise, check_weights};
use crate::scratch::{self, LINE};
use crate::table::{Element, KernelInfo};
use crate::target::Target;
use body::{UpTo3, UpTo5};
use loops::Loops;
use quads::{Quads, Taps};
use std::ops::Range;

/// Floats of input rows that a strip should not exceed: they and as many output rows fit a first-level cache
/// of 32 KiB.
const STRIP: usize = 3072;

/// Output rows of the shortest strip: each reads some rows of its neighbours.
const MIN_ROWS: usize = 8;

type RowsFn = unsafe fn(&RowsArgs);

/// One row of the kernel table: obtained from [`crate::table`], which hands out only what this machine can
/// run.
#[derive(Debug)]
pub struct DepthwiseKernel {
    info: KernelInfo,
    /// Kernel height and width in taps; `None` for any.
    kernel: Option<[usize; 2]>,
    /// Pixels of a vector register.
    vector: usize,
    /// Whether `rows` take two neighbouring taps in one step.
    duos: bool,
    /// Whether loops take 128 from every activation of quads.
    signed: bool,
    /// By pattern; for horizontal stride 1 and 2. Absent where `any` has to do.
    rows: [[Option<RowsFn>; 2]; DepthwisePattern::COUNT],
    /// Any kernel, for horizontal stride 1 and 2.
    any: [RowsFn; 2],
}

impl DepthwiseKernel {
    /// Name, target and tile.
    pub fn info(&self) -> &KernelInfo {
        &self.info
    }

    /// The target that it was obtained for, or one with the same instructions.
    pub fn target(&self) -> Target {
        self.info.target()
    }

    /// The kernel size it is made for, or `None` if it takes any.
    pub fn kernel(&self) -> Option<[usize; 2]> {
        self.kernel
    }

    /// Whether it computes kernels of this size.
    pub fn accepts(&self, kernel: [usize; 2]) -> bool {
        self.kernel.is_none_or(|k| k == kernel)
    }

    /// Pixels of one vector register.
    pub fn vector(&self) -> usize {
        self.vector
    }

    /// Refuses weights of another size.
    fn fits(&self, weights: &DepthwisePatterns) -> Result<(), KernelError> {
        for (axis, what) in ["kernel height", "kernel width"].into_iter().enumerate() {
            let size = weights.kernel()[axis];
            let made_for = self.kernel.map_or(size, |kernel| kernel[axis]);
            if made_for != size {
                return Err(KernelError::Shape { what, weights: size, geometry: made_for });
            }
        }
        Ok(())
    }
}

/// A row of the table, for [`crate::table::kernel`]: kernels of `KH` x `KW` taps, or of any number if these
/// are 0.
pub(crate) const fn kernel<L: Loops, const KH: usize, const KW: usize, const PIXELS: usize>(
    info: KernelInfo,
    _: (),
) -> DepthwiseKernel {
    const ALL: usize = DepthwisePattern::COUNT - 1;
    let mut rows: [[Option<RowsFn>; 2]; DepthwisePattern::COUNT] = [[None; 2]; DepthwisePattern::COUNT];
    macro_rules! three_by_three {
        ($($id:literal)*) => {{
            $(rows[$id] = [
                Some(L::rows::<UpTo3, 3, 3, 1, { DepthwisePattern::MASKS[$id] }>),
                Some(L::rows::<UpTo3, 3, 3, 2, { DepthwisePattern::MASKS[$id] }>),
            ];)*
        }};
    }
    match (KH, KW) {
        (0, 0) => {}
        // one loop for all patterns
        (3, 3) if L::ELEMENT as u8 == Element::Int8 as u8 => {
            rows[ALL] = [Some(L::large::<3, 1>), Some(L::large::<3, 2>)]
        }
        (5, 5) if L::ELEMENT as u8 == Element::Int8 as u8 => {
            rows[ALL] = [Some(L::large::<5, 1>), Some(L::large::<5, 2>)]
        }
        (3, 3) => three_by_three!(0 1 2 3 4 5 6 7 8),
        // Unrolled, it wants megabytes of the stack where nothing is optimised, and is up to a tenth faster elsewhere.
        (5, 5) if cfg!(debug_assertions) => rows[ALL] = [Some(L::large::<5, 1>), Some(L::large::<5, 2>)],
        (5, 5) => {
            rows[ALL] =
                [Some(L::rows::<UpTo5, 5, 5, 1, 0x1FF_FFFF>), Some(L::rows::<UpTo5, 5, 5, 2, 0x1FF_FFFF>)]
        }
        (7, 7) => rows[ALL] = [Some(L::large::<7, 1>), Some(L::large::<7, 2>)],
        _ => panic!("there are loops for 3x3, 5x5 and 7x7 taps, and for any"),
    }
    assert!(PIXELS.is_multiple_of(L::LANES), "a tile is whole vectors");
    assert!(info.element.per_lane() == L::ELEMENT.per_lane(), "the loops are for lanes of the element");
    DepthwiseKernel {
        info,
        kernel: if KH == 0 { None } else { Some([KH, KW]) },
        vector: L::LANES,
        duos: L::DUOS,
        signed: L::SIGNED,
        rows,
        any: [L::any::<1>, L::any::<2>],
    }
}

/// Whether the kernels of this module compute a convolution of this shape.
///
/// # Errors
/// The reason why not.
pub fn supports(shape: &ConvShape) -> Result<(), &'static str> {
    if shape.x_layout != Layout::Planar || shape.y_layout != Layout::Planar {
        Err("depthwise kernels are planar")
    } else if shape.group != shape.ic || shape.group != shape.oc {
        Err("not depthwise: groups, input channels and output channels differ")
    } else if shape.dilation != [1, 1] {
        Err("depthwise kernels have no dilation")
    } else if shape.stride.iter().any(|s| *s > 2) {
        Err("depthwise kernels have strides of 1 and 2")
    } else {
        Ok(())
    }
}

/// Depthwise weights and bias of one layer, ready for one kernel.
///
/// Invariants: `bias` has one value for every channel of every plane, of f16 as `in_lanes` has them; the kernel accepts the
/// size of the weights; `runs` follow each other and cover all planes, of which `run` names one for each; `reads` says something
/// of every channel; there are `lanes` if the kernel is one of pairs or quads, and only then, and a `requantise`, of as many
/// channels as `bias`, if it is one of quads.
#[derive(Debug, Clone)]
pub struct PackedDepthwise {
    kernel: &'static DepthwiseKernel,
    weights: DepthwisePatterns,
    /// Taps of pairs or quads; others are those of the weights.
    lanes: Option<Vec<f32>>,
    runs: Vec<Run>,
    /// The run of every plane.
    run: Vec<u32>,
    requantise: Option<Requantise>,
    bias: Vec<f32>,
    /// Channels that are computed.
    reads: Vec<bool>,
    latest: Latest<Plan>,
}

/// The taps of pairs or quads of channels, and runs of planes of lanes.
///
/// Channels of a pair that have different patterns store all taps, zeros among them, and those of quads always do.
///
/// Invariants: runs follow each other and cover all planes. Floats of a plane are, of pairs, two, one for each channel, for every
/// step of the loops that run the pattern of the run, in the order of the kernel. A step is a tap, or, if the kernel has
/// `duos`, two neighbours, as a lane of bf16. Of f16 both floats are the lane of both channels. Of quads they are
/// [`Taps::pack`]ed. A channel that does not exist has zeros.
struct LaneTaps {
    runs: Vec<Run>,
    taps: Vec<f32>,
}

/// The values of two channels, rounded to f16, as kernels read them: both in each of two lanes.
fn in_lanes([first, second]: [f32; 2]) -> [f32; 2] {
    [f32::from_bits(f16::pair(first, second)); 2]
}

/// Neighbouring planes of one pattern, which loops compute together.
#[derive(Debug, Clone)]
struct Run {
    planes: Range<usize>,
    pattern: DepthwisePattern,
    /// Where its taps begin.
    taps: usize,
    /// Floats of the taps of a plane.
    of_plane: usize,
}

impl Run {
    /// Runs of channels.
    fn of_channels(weights: &DepthwisePatterns) -> Vec<Run> {
        let (mut runs, mut taps) = (vec![], 0);
        for group in weights.groups() {
            let (planes, pattern) = (group.channels(), group.pattern());
            let of_plane = pattern.kept(weights.kernel().iter().product());
            let (end, stored) = (planes.end, planes.len() * of_plane);
            match runs.last_mut() {
                Some(Run { planes, pattern: same, .. }) if *same == pattern => planes.end = end,
                _ => runs.push(Run { planes, pattern, taps, of_plane }),
            }
            taps += stored;
        }
        runs
    }
}

impl LaneTaps {
    /// Of quads; the weights are whole numbers from -128 to 127.
    fn of_quads(weights: &DepthwisePatterns) -> LaneTaps {
        let (dense, taps) = (weights.to_dense(), Taps::new(weights.kernel()));
        let [kh, kw] = weights.kernel();
        let lanes = dense.chunks(CHANNELS * kh * kw).flat_map(|quad| taps.pack(quad)).collect();
        let run = Run {
            planes: 0..Element::Int8.lanes(weights.channels()),
            pattern: DepthwisePattern::ALL_ONES,
            taps: 0,
            of_plane: taps.count(),
        };
        LaneTaps { runs: vec![run], taps: lanes }
    }

    /// Of pairs.
    fn of_pairs(weights: &DepthwisePatterns, kernel: &DepthwiseKernel) -> LaneTaps {
        let (dense, [kh, kw]) = (weights.to_dense(), weights.kernel());
        let taps = kh * kw;
        let mut patterns = Vec::with_capacity(weights.channels());
        for group in weights.groups() {
            patterns.extend(group.channels().map(|_| group.pattern()));
        }
        let halves = kernel.info.element == Element::F16;
        let mut all = LaneTaps { runs: vec![], taps: vec![] };
        for (pair, (kernels, patterns)) in dense.chunks(2 * taps).zip(patterns.chunks(2)).enumerate() {
            let same = patterns.iter().all(|pattern| *pattern == patterns[0]);
            let pattern = if same { patterns[0] } else { DepthwisePattern::ALL_ONES };
            match all.runs.last_mut() {
                Some(run) if run.pattern == pattern => run.planes.end += 1,
                _ => {
                    let taps = all.taps.len();
                    all.runs.push(Run { planes: pair..pair + 1, pattern, taps, of_plane: 0 });
                }
            }
            let (before, duos) = (all.taps.len(), kernel.duos && kernel.rows[pattern.id()][0].is_some());
            for tap in (0..taps).filter(|tap| pattern.keeps(*tap)) {
                let kept = |column: &usize| pattern.keeps(tap / kw * kw + column);
                let step = match duos {
                    // rows of these kernels are few taps
                    true => {
                        let row = (0..kw).filter(kept).fold(0, |row, column| row | 1 << column);
                        body::step_of_row(row, tap % kw, true)
                    }
                    false => 1,
                };
                let of_both = |tap: usize| [kernels[tap], kernels.get(taps + tap).copied().unwrap_or(0.0)];
                match step {
                    0 => {}
                    1 if halves => all.taps.extend(in_lanes(of_both(tap))),
                    1 => all.taps.extend(of_both(tap)),
                    _ => {
                        let ([a, b], [c, d]) = (of_both(tap), of_both(tap + 1));
                        all.taps
                            .extend([(a, c), (b, d)].map(|(v, next)| f32::from_bits(pairs::pair(v, next))));
                    }
                }
            }
            if let Some(run) = all.runs.last_mut() {
                run.of_plane = all.taps.len() - before;
            }
        }
        all
    }
}

/// How a geometry is computed.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Places `[ky, kx]` of the kept taps in the order of the kernel, by pattern, for the patterns that no
    /// loop is made for.
    places: [Vec<[usize; 2]>; DepthwisePattern::COUNT],
    /// Output rows of a strip; the last one of a plane may have fewer.
    strip: usize,
    /// Strips of a plane.
    strips: usize,
}

/// One call of a kernel: some rows of output pixels in each of `planes` consecutive channels of one pattern.
///
/// Invariants, where `S` is the horizontal stride:
/// * the `x` of a plane is readable for `x_height` rows of `x_width` floats;
/// * tap `ky, kx` of output `row, ox` meets input row `first + row * step + ky` and column `ox * S + kx -
///   left`; those outside of the map are padding;
/// * a plane has a value in `taps` per stored tap, whose `[ky, kx]` are in `places` (which specialised
///   kernels do not read), and one in `bias`; of pairs two of each, next to each other, and those of specialised
///   kernels per step (`LaneTaps`); of quads four in `bias`, and taps as `Taps` says;
/// * the `y` of a plane is writable for `rows` rows of `y_width` floats, which are not 0; nothing else writes
///   there during the call; so is what is `apart` from there, which only kernels of pairs use.
pub(crate) struct RowsArgs<'a> {
    origin: Plane,
    planes: usize,
    /// Floats from one plane to the next.
    strides: Strides,
    x_height: usize,
    x_width: usize,
    first: isize,
    step: usize,
    left: usize,
    places: &'a [[usize; 2]],
    rows: usize,
    y_width: usize,
    /// If not 0: kernels of pairs store sums, those of the second channel this number of floats behind those of the
    /// first.
    apart: usize,
    clamp: (f32, f32),
    /// What only kernels of quads have, but they always.
    quads: Option<Quads<'a>>,
}

/// Where a call finds one of its planes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plane {
    x: *const f32,
    y: *mut f32,
    taps: *const f32,
    bias: *const f32,
}

/// Floats from one plane to the next.
#[derive(Debug, Clone, Copy)]
struct Strides {
    x: usize,
    y: usize,
    taps: usize,
    bias: usize,
}

impl RowsArgs<'_> {
    /// What kernels of quads have.
    #[inline(always)]
    fn quads(&self) -> &Quads<'_> {
        match &self.quads {
            Some(quads) => quads,
            None => unreachable!("kernels of quads have weights of quads (invariant of PackedDepthwise)"),
        }
    }

    #[inline(always)]
    fn plane(&self, plane: usize) -> Plane {
        Plane {
            x: self.origin.x.wrapping_add(plane * self.strides.x),
            y: self.origin.y.wrapping_add(plane * self.strides.y),
            taps: self.origin.taps.wrapping_add(plane * self.strides.taps),
            bias: self.origin.bias.wrapping_add(plane * self.strides.bias),
        }
    }
}

impl PackedDepthwise {
    /// Prepares `weights` and `bias` (one value per channel, zeros if `None`) for `kernel`. For a kernel of pairs weights
    /// are rounded to its type.
    ///
    /// # Errors
    /// The kernel is made for another size, or the bias has another length; weights that are too large for
    /// the type of the kernel.
    pub fn pack(
        mut weights: DepthwisePatterns,
        bias: Option<&[f32]>,
        kernel: &'static DepthwiseKernel,
    ) -> Result<PackedDepthwise, KernelError> {
        kernel.fits(&weights)?;
        let channels = weights.channels();
        let lanes = match kernel.info.element {
            Element::F32 => None,
            Element::Bf16 | Element::F16 => {
                weights = weights.rounded(kernel.info.element)?;
                Some(LaneTaps::of_pairs(&weights, kernel))
            }
            Element::Int8 => {
                let asked = "weights of floats";
                return Err(KernelError::ElementMismatch { kernel: kernel.info.name, asked });
            }
        };
        let mut bias = match bias {
            Some(bias) if bias.len() != channels => {
                let (expected, got) = (channels, bias.len());
                return Err(FormatError::Length { what: "bias", expected, got }.into());
            }
            Some(bias) => bias.to_vec(),
            None => vec![0.0; channels],
        };
        bias.resize(channels.next_multiple_of(kernel.info.element.per_lane()), 0.0);
        if kernel.info.element == Element::F16 {
            pairs::check_range(Element::F16, "bias", &bias)?;
            bias.as_chunks_mut().0.iter_mut().for_each(|both| *both = in_lanes(*both));
        }
        Ok(PackedDepthwise::of_parts(kernel, weights, lanes, bias, None))
    }

    /// Prepares weights, which are whole numbers from -128 to 127, and what follows their sums for a kernel of quads.
    ///
    /// # Errors
    /// The kernel is not one of quads or made for another size, a weight is no such number, `quantised` has another
    /// number of channels, or the sums of a channel might be too large for 32 bits.
    pub fn pack_int8(
        weights: DepthwisePatterns,
        quantised: &Quantised,
        kernel: &'static DepthwiseKernel,
    ) -> Result<PackedDepthwise, KernelError> {
        kernel.info.runs(CHANNELS)?;
        kernel.fits(&weights)?;
        if quantised.channels() != weights.channels() {
            let (expected, got) = (weights.channels(), quantised.channels());
            return Err(FormatError::Length { what: "biases and scales", expected, got }.into());
        }
        let dense = weights.to_dense();
        check_weights(&dense)?;
        let (bias, requantise) = quantised.prepare(&dense, kernel.signed)?;
        let lanes = Some(LaneTaps::of_quads(&weights));
        Ok(PackedDepthwise::of_parts(kernel, weights, lanes, bias, Some(requantise)))
    }

    fn of_parts(
        kernel: &'static DepthwiseKernel,
        weights: DepthwisePatterns,
        lanes: Option<LaneTaps>,
        bias: Vec<f32>,
        requantise: Option<Requantise>,
    ) -> PackedDepthwise {
        let (runs, lanes) = match lanes {
            None => (Run::of_channels(&weights), None),
            Some(LaneTaps { runs, taps }) => (runs, Some(taps)),
        };
        let run = runs.iter().zip(0..).flat_map(|(run, i)| run.planes.clone().map(move |_| i)).collect();
        let (reads, latest) = (vec![true; weights.channels()], Latest::default());
        PackedDepthwise { kernel, weights, lanes, runs, run, requantise, bias, reads, latest }
    }

    /// Finds the patterns of dense weights `[channel][kh][kw]` and packs them.
    ///
    /// # Errors
    /// As [`DepthwisePatterns::from_dense`] and [`PackedDepthwise::pack`].
    pub fn from_dense(
        channels: usize,
        kernel_size: [usize; 2],
        weights: &[f32],
        bias: Option<&[f32]>,
        kernel: &'static DepthwiseKernel,
    ) -> Result<PackedDepthwise, KernelError> {
        PackedDepthwise::pack(DepthwisePatterns::from_dense(channels, kernel_size, weights)?, bias, kernel)
    }

    /// Finds the patterns of dense weights `[channel][kh][kw]` and packs them for a kernel of quads.
    ///
    /// # Errors
    /// As [`DepthwisePatterns::from_dense`] and [`PackedDepthwise::pack_int8`].
    pub fn from_dense_int8(
        channels: usize,
        kernel_size: [usize; 2],
        weights: &[f32],
        quantised: &Quantised,
        kernel: &'static DepthwiseKernel,
    ) -> Result<PackedDepthwise, KernelError> {
        let weights = DepthwisePatterns::from_dense(channels, kernel_size, weights)?;
        PackedDepthwise::pack_int8(weights, quantised, kernel)
    }

    /// The same layer where nothing reads the output channels that are not `read`: they become zeros,
    /// whatever their bias, and their inputs are not looked at. Of pairs and quads only if no channel of a lane is read;
    /// the other ones stay.
    ///
    /// # Errors
    /// Another number of channels.
    pub fn with_only(mut self, read: &[bool]) -> Result<PackedDepthwise, KernelError> {
        if read.len() != self.channels() {
            return Err(KernelError::Shape {
                what: "channels",
                weights: self.channels(),
                geometry: read.len(),
            });
        }
        self.reads = read.to_vec();
        Ok(self)
    }

    /// Which input channels are looked at.
    pub fn reads(&self) -> &[bool] {
        &self.reads
    }

    /// The kernel these weights were packed for.
    pub fn kernel(&self) -> &'static DepthwiseKernel {
        self.kernel
    }

    /// The weights: groups, their patterns and taps; rounded, for a kernel of pairs.
    pub fn weights(&self) -> &DepthwisePatterns {
        &self.weights
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.weights.channels()
    }

    /// Kept taps of all channels: multiply-adds per output pixel of all planes.
    pub fn stored(&self) -> usize {
        self.weights.stored()
    }

    /// Kept taps that are not zero.
    pub fn nnz(&self) -> usize {
        self.weights.nnz()
    }

    /// Memory of the packed weights.
    pub fn bytes(&self) -> usize {
        let lanes = self.lanes.as_ref().map_or(0, |taps| size_of_val(taps.as_slice()))
            + self.requantise.as_ref().map_or(0, Requantise::bytes);
        let runs = size_of_val(self.runs.as_slice()) + size_of_val(self.run.as_slice());
        self.weights.bytes() + lanes + runs + 4 * self.bias.len() + self.reads.len()
    }

    /// Computes `y = epilogue(weights * x + bias)`, with `residual` (shape of `y`) added inside the epilogue.
    ///
    /// # Errors
    /// A geometry that [`supports`] refuses or that does not fit the weights; slices of another length.
    pub fn run(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        y: &mut [f32],
        residual: Option<&[f32]>,
        epilogue: &Epilogue,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        drive::run(self, geometry, x, y, residual, epilogue, parallel)
    }

    /// [`PackedDepthwise::run`] for weights that were packed for a kernel of pairs: `x`, `y` and `residual` are
    /// `[batch][ceil(channels / 2)][pixel]` lanes ([`crate::pairs`]). `geometry` counts channels.
    ///
    /// # Errors
    /// As there.
    pub fn run_pairs(
        &self,
        geometry: &ConvGeometry,
        x: &[u32],
        y: &mut [u32],
        residual: Option<&[u32]>,
        epilogue: &Epilogue,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        drive::run_pairs(self, geometry, x, y, residual, epilogue, parallel)
    }

    /// [`PackedDepthwise::run`] for weights that were packed for a kernel of quads: `x` and `y` are
    /// `[batch][ceil(channels / 4)][pixel]` lanes ([`crate::quads`]). `geometry` counts channels.
    ///
    /// # Errors
    /// As there.
    pub fn run_quads(
        &self,
        geometry: &ConvGeometry,
        x: &[u32],
        y: &mut [u32],
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        drive::run_quads(self, geometry, x, y, parallel)
    }

    /// Whether a plane is computed: one of its channels is read.
    fn computes(&self, plane: usize) -> bool {
        let per_lane = self.kernel.info.element.per_lane();
        self.reads.iter().skip(plane * per_lane).take(per_lane).any(|read| *read)
    }

    /// The run of a plane, and the taps from this plane on.
    fn run_of(&self, plane: usize) -> (&Run, &[f32]) {
        let run = &self.runs[self.run[plane] as usize];
        let taps = self.lanes.as_deref().unwrap_or(self.weights.all_taps());
        let first = run.taps + (plane - run.planes.start) * run.of_plane;
        (run, &taps[first..][..(run.planes.end - plane) * run.of_plane])
    }

    /// Places `[ky, kx]` of the kept taps in the order of the kernel, by pattern, for the patterns that no
    /// loop is made for.
    fn places(&self, s: &ConvShape) -> [Vec<[usize; 2]>; DepthwisePattern::COUNT] {
        let [kh, kw] = s.kernel;
        let mut places = [const { vec![] }; DepthwisePattern::COUNT];
        for pattern in DepthwisePattern::all() {
            let id = pattern.id();
            let used = self.runs.iter().any(|run| run.pattern == pattern);
            if used && self.kernel.rows[id][s.stride[1] - 1].is_none() {
                let taps = (0..kh * kw).filter(|tap| pattern.keeps(*tap));
                places[id] = taps.map(|tap| [tap / kw, tap % kw]).collect();
            }
        }
        places
    }
}

impl Packed for PackedDepthwise {
    type Plan = Plan;

    fn info(&self) -> &'static KernelInfo {
        self.kernel.info()
    }

    fn check(&self, s: &ConvShape) -> Result<(), KernelError> {
        supports(s).map_err(|reason| KernelError::Geometry(reason.into()))?;
        let [kh, kw] = self.weights.kernel();
        drive::equal([
            ("channels", self.channels(), s.ic),
            ("kernel height", kh, s.kernel[0]),
            ("kernel width", kw, s.kernel[1]),
        ])
    }

    fn padding(&self) -> f32 {
        self.requantise.as_ref().map_or(0.0, |requantise| requantise.x_zeros)
    }

    fn latest(&self) -> &Latest<Plan> {
        &self.latest
    }

    fn plan(&self, geometry: &ConvGeometry, _: usize) -> Result<Plan, KernelError> {
        let (s, [oh, _]) = (geometry.shape(), geometry.output());
        // As many rows as a strip should have, and strips of the same height.
        let fit = (STRIP / s.input[1] / s.stride[0]).max(MIN_ROWS);
        let strip = oh.div_ceil(oh.div_ceil(fit));
        Ok(Plan { places: self.places(s), strip, strips: oh.div_ceil(strip) })
    }

    fn cut(&self, job: &Job<Plan>) -> Cut {
        let s = job.geometry.shape();
        Cut { places: s.batch * s.ic * job.plan.strips, least: 0, channels: 1 }
    }

    /// Places are strips, which count through all channels of all images.
    fn compute(&self, job: &Job<Plan>, places: Range<usize>, _: Range<usize>) {
        Part { weights: self, job }.strips(places);
    }
}

struct Part<'a> {
    weights: &'a PackedDepthwise,
    job: &'a Job<'a, Plan>,
}

impl Part<'_> {
    /// Computes strips, which count through all channels of all images.
    fn strips(&self, items: Range<usize>) {
        let (oh, strips) = (self.job.geometry.output()[0], self.job.plan.strips);
        let mut start = items.start;
        while start < items.end {
            let first = start % strips * self.job.plan.strip;
            let planes = start / strips..if strips == 1 { items.end } else { start / strips + 1 };
            start += planes.len();
            self.compute(planes, first..(first + self.job.plan.strip).min(oh));
        }
    }

    /// Computes output rows `out` of planes.
    fn compute(&self, planes: Range<usize>, out: Range<usize>) {
        let (job, w) = (self.job, self.weights);
        let finishes = job.clamps.residual || job.finish().is_some();
        if finishes && w.kernel.info.element.in_pairs() {
            // The sums of a plane, which are rounded once they are finished.
            let apart = (out.len() * job.geometry.output()[1]).next_multiple_of(LINE);
            return scratch::with(2 * apart, |sums| {
                for plane in planes {
                    self.sums(plane..plane + 1, out.clone(), Some((&mut *sums, apart)));
                    if w.computes(plane % job.geometry.shape().ic) {
                        self.complete_pair(plane, &out, sums.split_at_mut(apart));
                    }
                }
            });
        }
        self.sums(planes.clone(), out.clone(), None);
        if finishes {
            for plane in planes.filter(|plane| w.reads[plane % job.geometry.shape().ic]) {
                self.complete(plane, &out);
            }
        }
    }

    /// Computes output rows `out` of planes, as far as kernels do. If there is a buffer for sums of pairs, and how far
    /// those of the second channel are behind those of the first, bare sums of the one plane go there.
    fn sums(&self, planes: Range<usize>, out: Range<usize>, mut buffer: Option<(&mut [f32], usize)>) {
        let (job, w) = (self.job, self.weights);
        let (s, [_, y_width]) = (job.geometry.shape(), job.geometry.output());
        let ([x_height, x_width], x_plane) = (s.input, job.geometry.x_plane());
        let per_lane = w.kernel.info.element.per_lane();
        let apart = buffer.as_ref().map_or(0, |(_, apart)| *apart);
        let clamp = if apart == 0 { job.clamps.before } else { (f32::NEG_INFINITY, f32::INFINITY) };
        let mut plane = planes.start;
        while plane < planes.end {
            // The planes of a run are computed together, as far as they are read.
            let channel = plane % s.ic;
            let (run, taps) = w.run_of(channel);
            let count = (run.planes.end - channel).min(planes.end - plane);
            let computes = w.computes(channel);
            let count = (channel..channel + count).take_while(|c| w.computes(*c) == computes).count();
            if !computes {
                for plane in plane..plane + count {
                    // SAFETY: these rows are this part's, which holds no slice of the output.
                    unsafe { job.outputs(self.place(plane, &out)) }.fill(0.0);
                }
                plane += count;
                continue;
            }
            let pattern = run.pattern.id();
            let special = w.kernel.rows[pattern][s.stride[1] - 1];
            let x = &job.x[plane * x_plane..][..(count - 1) * x_plane + x_height * x_width];
            // Specialised kernels walk down the rows with their horizontal stride.
            let alone = special.is_some() && s.stride[0] != s.stride[1];
            let rows = if alone { 1 } else { out.len() };
            for row in out.clone().step_by(rows) {
                let y = match &mut buffer {
                    Some((sums, _)) => sums[(row - out.start) * y_width..].as_mut_ptr(),
                    _ => job.y(self.place(plane, &(row..row)).start),
                };
                let quads = w.requantise.as_ref().map(|requantise| Quads {
                    taps: Taps::new(s.kernel),
                    less: if w.kernel.signed { 128 } else { 0 },
                    requantise,
                    scales: requantise.scales[channel * per_lane..].as_ptr(),
                });
                let args = RowsArgs {
                    origin: Plane {
                        x: x.as_ptr(),
                        y,
                        taps: taps.as_ptr(),
                        bias: w.bias[channel * per_lane..].as_ptr(),
                    },
                    planes: count,
                    strides: Strides {
                        x: x_plane,
                        y: job.geometry.y_plane(),
                        taps: run.of_plane,
                        bias: per_lane,
                    },
                    x_height,
                    x_width,
                    first: (row * s.stride[0]) as isize - s.pad_before[0] as isize,
                    step: s.stride[0],
                    left: s.pad_before[1],
                    places: &job.plan.places[pattern],
                    rows,
                    y_width,
                    apart,
                    clamp,
                    quads,
                };
                // SAFETY: the kernel came from the table, which hands out only kernels whose target was
                // detected; the input planes were sliced above, and the taps and biases of
                // the channels of a run follow each other; the rows are this part's, or those of the buffer, which
                // is for both channels of the one plane.
                unsafe { special.unwrap_or(w.kernel.any[s.stride[1] - 1])(&args) };
            }
            if let Some(requantise) = &w.requantise {
                for plane in plane..plane + count {
                    // SAFETY: these rows are this part's, which holds no other slice of the output.
                    requantise.look_up(unsafe { job.outputs(self.place(plane, &out)) });
                }
            }
            plane += count;
            if apart == 0 && self.is_half_empty(channel + count - 1) {
                // SAFETY: these rows are this part's, which holds no slice of the output.
                let lanes = unsafe { job.outputs(self.place(plane - 1, &out)) };
                lanes.iter_mut().for_each(|lane| *lane = f32::from_bits(lane.to_bits() & 0xffff));
            }
        }
    }

    /// Whether a plane of pairs has one channel only: the upper halves of its lanes are zero, whatever the clamps say.
    fn is_half_empty(&self, plane: usize) -> bool {
        let element = self.weights.kernel.info.element;
        element.in_pairs() && (plane + 1) * element.per_lane() > self.weights.channels()
    }

    /// What kernels of pairs do not do: residual and functions other than clamps, for the sums of both channels.
    fn complete_pair(&self, plane: usize, rows: &Range<usize>, sums: (&mut [f32], &mut [f32])) {
        let place = self.place(plane, rows);
        let second = if self.is_half_empty(plane % self.job.geometry.shape().ic) { 0 } else { place.len() };
        let residual = self.job.all_residual().map(|residual| pairs::as_lanes(&residual[place.clone()]));
        // SAFETY: these rows are this part's, which holds no other slice of the output.
        let y = unsafe { self.job.outputs(place.clone()) };
        FinishPairs {
            finish: self.job.finish(),
            clamps: &self.job.clamps,
            sums: [&mut sums.0[..place.len()], &mut sums.1[..second]],
            residual,
            y: pairs::as_lanes_mut(y),
        }
        .on(Numbers::of_kernel(self.weights.kernel.info()));
    }

    /// Where rows of an output plane are in the tensor.
    fn place(&self, plane: usize, rows: &Range<usize>) -> Range<usize> {
        let (first, width) = (plane * self.job.geometry.y_plane(), self.job.geometry.output()[1]);
        first + rows.start * width..first + rows.end * width
    }

    /// What the kernels do not do: residual and functions other than clamps.
    fn complete(&self, plane: usize, rows: &Range<usize>) {
        let place = self.place(plane, rows);
        if let Some(residual) = self.job.all_residual().filter(|_| self.job.clamps.residual) {
            let (lo, hi) = self.job.clamps.after;
            // SAFETY: these rows are this part's, which holds no other slice of the output.
            let y = unsafe { self.job.outputs(place.clone()) };
            for (v, r) in y.iter_mut().zip(&residual[place.clone()]) {
                let sum = *v + r;
                let sum = if sum < lo { lo } else { sum };
                *v = if sum > hi { hi } else { sum };
            }
        }
        // SAFETY: as above.
        unsafe { self.job.complete(place.start, 1, 0, place.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_given() {
        let good = ConvShape { group: 8, ..ConvShape::square(8, 8, 5, 3, 1, 1) };
        assert_eq!(supports(&good), Ok(()));
        for bad in [
            ConvShape { group: 1, ..good },
            ConvShape { oc: 16, ..good },
            ConvShape { dilation: [1, 2], ..good },
            ConvShape { stride: [3, 1], ..good },
            ConvShape { x_layout: Layout::Interleaved, ..good },
            ConvShape { y_layout: Layout::Interleaved, ..good },
        ] {
            assert!(supports(&bad).is_err_and(|reason| !reason.is_empty()), "{bad:?}");
        }
    }
}
