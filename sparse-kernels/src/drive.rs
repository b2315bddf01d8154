//! What every operation does around its kernels: checks, a plan for the geometry, threads, and the functions
//! that kernels do not fuse.

use crate::epilogue::{Clamps, Epilogue, Finish};
use crate::error::KernelError;
use crate::geometry::{ConvGeometry, ConvShape};
use crate::pairs;
use crate::parallel::{self, Parallel, share};
use crate::quads;
use crate::table::{Element, KernelInfo};
use crate::target::Target;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Weights that are ready for one kernel.
///
/// All that can be decided before pixels are there is decided in a plan, which is kept for the next run of
/// the same geometry.
pub(crate) trait Packed: Sync {
    /// How a geometry is computed.
    type Plan: Send + Sync;

    /// The kernel.
    fn info(&self) -> &'static KernelInfo;

    /// Refuses what these weights or their operation cannot compute; `shape` counts channels, of pairs, too.
    fn check(&self, shape: &ConvShape) -> Result<(), KernelError>;

    /// What stands in the place of padding.
    fn padding(&self) -> f32 {
        0.0
    }

    /// Where the latest plan is kept.
    fn latest(&self) -> &Latest<Self::Plan>;

    /// The plan for a geometry that [`Packed::check`] accepts and that has inputs and outputs.
    ///
    /// # Errors
    /// What the plan needs cannot be addressed.
    fn plan(&self, geometry: &ConvGeometry, threads: usize) -> Result<Self::Plan, KernelError>;

    /// How the work can be cut.
    fn cut(&self, job: &Job<Self::Plan>) -> Cut;

    /// Computes groups of output channels, as [`Cut`] counts both, at some places. Disjoint calls write
    /// disjoint outputs.
    fn compute(&self, job: &Job<Self::Plan>, places: Range<usize>, channels: Range<usize>);
}

/// The parts that work can be cut into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Parts of the outputs: tiles, strips or bands of all images.
    pub places: usize,
    /// Fewest places for every thread; with fewer, channels are cut.
    pub least: usize,
    /// Groups of output channels.
    pub channels: usize,
}

/// One run.
pub(crate) struct Job<'a, P> {
    pub geometry: &'a ConvGeometry,
    pub plan: &'a P,
    pub x: &'a [f32],
    pub clamps: Clamps,
    y: Shared,
    residual: Option<&'a [f32]>,
    finish: Option<Finish>,
    target: Target,
}

/// The output tensor, written by several threads in disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub *mut f32);
// SAFETY: tasks write disjoint elements (`Packed::compute`).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl<P> Job<'_, P> {
    /// Output element `at`; kernels write only those of their part.
    pub fn y(&self, at: usize) -> *mut f32 {
        self.y.0.wrapping_add(at)
    }

    /// Element `at` of the residual; null if there is none.
    pub fn residual(&self, at: usize) -> *const f32 {
        self.residual.map_or(std::ptr::null(), |r| r[at..].as_ptr())
    }

    /// The residual, whether kernels add it or not.
    pub fn all_residual(&self) -> Option<&[f32]> {
        self.residual
    }

    /// What is left to do after kernels.
    pub fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    /// Some outputs.
    ///
    /// # Safety
    /// They are inside the tensor and of the caller's part, which holds no other slice of them.
    #[expect(clippy::mut_from_ref, reason = "what `Shared` is for")]
    pub unsafe fn outputs(&self, range: Range<usize>) -> &mut [f32] {
        // SAFETY: `ConvGeometry::check` has compared the lengths; passed on from the caller.
        unsafe { std::slice::from_raw_parts_mut(self.y(range.start), range.len()) }
    }

    /// Completes `len` outputs from `first` on and every `stride` from there, `rows` times.
    ///
    /// # Safety
    /// As [`Job::outputs`].
    pub unsafe fn complete(&self, first: usize, rows: usize, stride: usize, len: usize) {
        let Some(finish) = &self.finish else { return };
        // neighbours, as those of a single pixel are
        let (rows, len) = if stride == len { (1, rows * len) } else { (rows, len) };
        let row = |row: usize| {
            let places = first + row * stride..first + row * stride + len;
            // SAFETY: passed on from the caller; the row before is let go.
            (unsafe { self.outputs(places.clone()) }, self.residual.map(|r| &r[places]))
        };
        finish.on(self.target, (0..rows).map(row));
    }
}

/// The plan of the latest run of whole images, since one geometry is the rule, and those of the latest bands,
/// which come by in turn. Clones begin without any.
#[derive(Debug)]
pub(crate) struct Latest<P>(Mutex<Plans<P>>);

#[derive(Debug)]
struct Plans<P> {
    whole: Option<Arc<Planned<P>>>,
    bands: Vec<Arc<Planned<P>>>,
}

/// Plans of bands that are kept: one for the first band of an image, one for the last, and those between.
const BANDS: usize = 8;

#[derive(Debug)]
struct Planned<P> {
    geometry: ConvGeometry,
    threads: usize,
    plan: P,
}

impl<P> Default for Latest<P> {
    fn default() -> Latest<P> {
        Latest(Mutex::new(Plans { whole: None, bands: vec![] }))
    }
}

impl<P> Clone for Latest<P> {
    fn clone(&self) -> Latest<P> {
        Latest::default()
    }
}

impl<P> Latest<P> {
    fn get(
        &self,
        geometry: &ConvGeometry,
        threads: usize,
        plan: impl FnOnce() -> Result<P, KernelError>,
    ) -> Result<Arc<Planned<P>>, KernelError> {
        // A panic of another thread cannot leave half a plan behind: it is replaced as a whole.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |p: &&Arc<Planned<P>>| p.geometry == *geometry && p.threads == threads;
        if let Some(planned) = latest.whole.iter().chain(&latest.bands).find(fits) {
            return Ok(planned.clone());
        }
        let planned = Arc::new(Planned { geometry: *geometry, threads, plan: plan()? });
        if geometry.is_band() {
            if latest.bands.len() == BANDS {
                latest.bands.remove(0);
            }
            latest.bands.push(planned.clone());
        } else {
            latest.whole = Some(planned.clone());
        }
        Ok(planned)
    }
}

/// Refuses a geometry in which one of these numbers differs: what, in the weights, in the geometry.
pub(crate) fn equal<const N: usize>(numbers: [(&'static str, usize, usize); N]) -> Result<(), KernelError> {
    match numbers.into_iter().find(|(_, weights, geometry)| weights != geometry) {
        Some((what, weights, geometry)) => Err(KernelError::Shape { what, weights, geometry }),
        None => Ok(()),
    }
}

/// Computes `y = epilogue(weights * x + bias)`, with `residual` added inside the epilogue.
///
/// # Errors
/// Slices of another length than those of `geometry`, and what [`Packed::check`] and [`Packed::plan`] refuse.
pub(crate) fn run<W: Packed>(
    weights: &W,
    geometry: &ConvGeometry,
    x: &[f32],
    y: &mut [f32],
    residual: Option<&[f32]>,
    epilogue: &Epilogue,
    parallel: &dyn Parallel,
) -> Result<(), KernelError> {
    weights.info().runs(1)?;
    weights.check(geometry.shape())?;
    run_lanes(weights, geometry, x, y, residual, epilogue, parallel)
}

/// [`run`] for weights that were packed for a kernel of pairs: `x`, `y` and `residual` are
/// `[batch][ceil(channels / 2)][pixel]` lanes ([`crate::pairs`]). `geometry` counts channels.
///
/// # Errors
/// As there; a layout that is not planar.
pub(crate) fn run_pairs<W: Packed>(
    weights: &W,
    geometry: &ConvGeometry,
    x: &[u32],
    y: &mut [u32],
    residual: Option<&[u32]>,
    epilogue: &Epilogue,
    parallel: &dyn Parallel,
) -> Result<(), KernelError> {
    weights.info().runs(2)?;
    weights.check(geometry.shape())?;
    let geometry = geometry.in_lanes(Element::Bf16)?;
    let (x, y, residual) = (pairs::as_floats(x), pairs::as_floats_mut(y), residual.map(pairs::as_floats));
    run_lanes(weights, &geometry, x, y, residual, epilogue, parallel)
}

/// [`run`] for weights that were packed for a kernel of quads, which know what follows the sums: `x` and `y` are
/// `[batch][ceil(channels / 4)][pixel]` lanes ([`crate::quads`]). `geometry` counts channels.
///
/// # Errors
/// As there; a layout that is not planar.
pub(crate) fn run_quads<W: Packed>(
    weights: &W,
    geometry: &ConvGeometry,
    x: &[u32],
    y: &mut [u32],
    parallel: &dyn Parallel,
) -> Result<(), KernelError> {
    weights.info().runs(quads::CHANNELS)?;
    weights.check(geometry.shape())?;
    let geometry = geometry.in_lanes(Element::Int8)?;
    let (x, y) = (pairs::as_floats(x), pairs::as_floats_mut(y));
    run_lanes(weights, &geometry, x, y, None, &Epilogue::default(), parallel)
}

fn run_lanes<W: Packed>(
    weights: &W,
    geometry: &ConvGeometry,
    x: &[f32],
    y: &mut [f32],
    residual: Option<&[f32]>,
    epilogue: &Epilogue,
    parallel: &dyn Parallel,
) -> Result<(), KernelError> {
    geometry.check_input(x)?;
    geometry.check_output(y, residual)?;
    // SAFETY: the slices have the lengths that were just checked; the callers have checked the shape.
    unsafe { run_at(weights, geometry, x, y.as_mut_ptr(), residual, epilogue, parallel) }
}

/// As [`run`], for outputs at `y` and in the planes from there; `geometry` counts lanes.
///
/// # Safety
/// [`Packed::check`] accepts the shape, or that of which this is the one in pairs, or of which it is some rows. `x`,
/// and `residual` if there is one, have the lengths of `geometry`. The outputs of `geometry` can be written at `y`,
/// and nothing else reads or writes them during the call.
pub(crate) unsafe fn run_at<W: Packed>(
    weights: &W,
    geometry: &ConvGeometry,
    x: &[f32],
    y: *mut f32,
    residual: Option<&[f32]>,
    epilogue: &Epilogue,
    parallel: &dyn Parallel,
) -> Result<(), KernelError> {
    if geometry.y_len() == 0 {
        return Ok(());
    }
    if let Some((geometry, padding)) = geometry.on_padding(weights.padding()) {
        // SAFETY: outputs are the same, and there is as much padding as this geometry reads.
        return unsafe { run_at(weights, &geometry, &padding, y, residual, epilogue, parallel) };
    }
    let threads = parallel::threads(parallel);
    let planned = weights.latest().get(geometry, threads, || weights.plan(geometry, threads))?;
    let (clamps, finish) = epilogue.split(residual.is_some());
    let y = Shared(y);
    let target = weights.info().target();
    let job = Job { geometry, plan: &planned.plan, x, clamps, y, residual, finish, target };
    let Cut { places, least, channels } = weights.cut(&job);
    if threads == 1 {
        weights.compute(&job, 0..places, 0..channels);
        Ok(())
    } else if places >= least * threads {
        let parts = places.min(4 * threads);
        let part = |part| weights.compute(&job, share(places, parts, part), 0..channels);
        parallel::for_each(parallel, parts, part)
    } else {
        // Few places: every thread prepares all of them and takes some of the output channels.
        let parts = channels.min(threads);
        let part = |part| weights.compute(&job, 0..places, share(channels, parts, part));
        parallel::for_each(parallel, parts, part)
    }
}
