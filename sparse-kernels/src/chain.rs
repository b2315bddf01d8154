//! Layers one after the other, band by band: maps that are larger than a cache never leave it.
//!
//! In the first layers of a network maps are large and weights are few. Written as a whole, a map leaves the
//! second-level cache before the next layer reads it, and the layer waits for memory. Here some rows of the last
//! layer are computed at a time, with those rows of the maps between that they need. Each map between has a
//! buffer for a few rows: what the next band reads again is moved to its top, new rows go below. So nothing is
//! computed twice but what two threads both need at the border of their parts.
//!
//! A band of a layer is a convolution of its own, of fewer rows and other padding, in planes that are further
//! apart than its pixels: the kernels are those of whole images. What ends at another pixel than before is the
//! tile, so that single pixels at the end of tiles, which are summed in another order, are others than in a
//! run layer by layer: the last bit of a value may differ, as it may with another number of threads.
//!
//! Of layers on pairs of channels ([`crate::pairs`]) rows are lanes, of which each holds two channels: nothing else
//! is different.

use crate::cores::second_level_cache;
use crate::depthwise::PackedDepthwise;
use crate::drive::{self, Packed, Shared, run_at};
use crate::epilogue::Epilogue;
use crate::error::KernelError;
use crate::geometry::{ConvGeometry, Layout};
use crate::pairs;
use crate::parallel::{self, Parallel, Serial, share};
use crate::pointwise::PackedPointwise;
use crate::quads;
use crate::scratch::{self, LINE};
use crate::spatial::PackedSpatial;
use crate::table::{Element, KernelInfo};
use std::ops::Range;

/// Bytes of the maps between the layers that should be there at a time, in a second-level cache of `cache` bytes: half of
/// it, while weights, input and output stream through the rest. Where that is less than half a megabyte, all of it: smaller
/// bands cost more in rows that are moved and in calls than they spare.
fn band_bytes(cache: usize) -> usize {
    (cache / 2).max(cache.min(512 << 10))
}

/// Floats of the maps between the layers of a chain that should be there at a time on this machine; none where
/// nobody has measured that chains pay.
pub fn room() -> Option<usize> {
    second_level_cache().map(|bytes| band_bytes(bytes) / size_of::<f32>())
}

/// Floats of a map that leaves the second-level cache before the next layer reads it; none as in [`room`]. Those that are
/// hardly larger than half of the cache gain nothing by bands.
pub fn large_map() -> Option<usize> {
    second_level_cache().map(|bytes| bytes / 8 * 5 / size_of::<f32>())
}

/// A layer of a chain.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// Its weights.
    pub layer: Layer<'a>,
    /// Whole images.
    pub geometry: ConvGeometry,
    /// What is done to its sums. A residual is added by the last layer alone.
    pub epilogue: Epilogue,
}

/// The weights of a stage.
#[derive(Debug, Clone, Copy)]
pub enum Layer<'a> {
    /// 1x1.
    Pointwise(&'a PackedPointwise),
    /// A kernel for every channel.
    Depthwise(&'a PackedDepthwise),
    /// Any kernel.
    Spatial(&'a PackedSpatial),
}

/// Evaluates an expression for the weights of whatever family.
macro_rules! each {
    ($layer:expr, $weights:ident => $value:expr) => {
        match $layer {
            Layer::Pointwise($weights) => $value,
            Layer::Depthwise($weights) => $value,
            Layer::Spatial($weights) => $value,
        }
    };
}

impl Stage<'_> {
    /// Computes the layer alone, as whole images.
    ///
    /// # Errors
    /// Slices of another length than those of the geometry, and what the layer refuses, such as weights for pairs.
    pub fn run(
        &self,
        x: &[f32],
        y: &mut [f32],
        residual: Option<&[f32]>,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        let Stage { layer, geometry, epilogue } = self;
        each!(layer, w => w.run(geometry, x, y, residual, epilogue, parallel))
    }

    /// Multiply-adds of a run.
    pub fn products(&self) -> usize {
        self.stored() * self.geometry.output_pixels() * self.geometry.shape().batch
    }

    /// Weights that a run reads.
    pub fn stored(&self) -> usize {
        each!(self.layer, w => w.stored())
    }

    /// [`Stage::run`] for weights that were packed for pairs: of lanes, as those of [`PackedPointwise::run_pairs`].
    ///
    /// # Errors
    /// As there.
    pub fn run_pairs(
        &self,
        x: &[u32],
        y: &mut [u32],
        residual: Option<&[u32]>,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        let Stage { layer, geometry, epilogue } = self;
        each!(layer, w => drive::run_pairs(*w, geometry, x, y, residual, epilogue, parallel))
    }

    /// [`Stage::run`] for weights that were packed for quads, which know what follows the sums: of lanes, as those of
    /// [`PackedPointwise::run_quads`].
    ///
    /// # Errors
    /// As there; an epilogue.
    pub fn run_quads(&self, x: &[u32], y: &mut [u32], parallel: &dyn Parallel) -> Result<(), KernelError> {
        let Stage { layer, geometry, epilogue } = self;
        bare(epilogue)?;
        each!(layer, w => drive::run_quads(*w, geometry, x, y, parallel))
    }
}

/// Refuses an epilogue of a layer on quads.
fn bare(epilogue: &Epilogue) -> Result<(), KernelError> {
    if *epilogue == Epilogue::default() {
        Ok(())
    } else {
        Err(KernelError::Geometry("an epilogue of a layer on quads, which has its own".into()))
    }
}

impl Layer<'_> {
    /// What its activations are.
    pub fn element(&self) -> Element {
        self.info().element
    }

    fn info(&self) -> &'static KernelInfo {
        each!(self, w => w.kernel().info())
    }

    /// As [`run_at`], on one thread.
    ///
    /// # Safety
    /// As [`run_at`].
    unsafe fn run_at(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        y: *mut f32,
        residual: Option<&[f32]>,
        epilogue: &Epilogue,
    ) -> Result<(), KernelError> {
        // SAFETY: passed on from the caller.
        unsafe { each!(self, w => run_at(*w, geometry, x, y, residual, epilogue, &Serial)) }
    }

    fn check(&self, geometry: &ConvGeometry) -> Result<(), KernelError> {
        each!(self, w => w.check(geometry.shape()))
    }
}

/// How the maps between the layers of a chain are cut.
///
/// Invariant: stages fit together: each reads what the one before writes, of as many images and of the same type, in
/// planes.
#[derive(Debug)]
pub struct Chain<'a> {
    /// Their geometries count lanes.
    stages: Vec<Stage<'a>>,
    /// Rows of the last layer that are computed at a time.
    band: usize,
    /// Rows of each map between that are there at a time.
    rows: Vec<usize>,
}

impl<'a> Chain<'a> {
    /// Layers of which each reads what the one before writes, with at most `floats` of the maps between at a
    /// time, or as many lanes of pairs, if a single row of the output does not take more.
    ///
    /// # Errors
    /// No layers, layers that do not fit their geometry or each other, layers of floats beside layers of pairs, or
    /// tensors that are not planar.
    pub fn new(stages: &[Stage<'a>], floats: usize) -> Result<Chain<'a>, KernelError> {
        let Some(last) = stages.last() else { return Err(KernelError::Geometry("no layers".into())) };
        let element = last.layer.element();
        for stage in stages {
            let other = stage.layer.element();
            if other != element {
                let [a, b] = [other, element].map(Element::values);
                return Err(KernelError::Geometry(format!("layers of {a} and of {b} in one chain")));
            }
            let s = stage.geometry.shape();
            if [s.x_layout, s.y_layout] != [Layout::Planar; 2] || stage.geometry.is_band() {
                return Err(KernelError::Geometry(format!("a chain is of whole planes, not {s:?}")));
            }
            stage.layer.check(&stage.geometry)?;
            if element == Element::Int8 {
                bare(&stage.epilogue)?;
            }
        }
        for pair in stages.windows(2) {
            let (a, b) = (&pair[0].geometry, pair[1].geometry.shape());
            if (a.shape().batch, a.shape().oc, a.output()) != (b.batch, b.ic, b.input) {
                let what = format!("a layer of {b:?} behind one of {:?}", a.shape());
                return Err(KernelError::Geometry(what));
            }
        }
        let height = last.geometry.output()[0].max(1);
        let in_lanes =
            |stage: &Stage<'a>| Ok(Stage { geometry: stage.geometry.in_lanes(element)?, ..*stage });
        let stages = stages.iter().map(in_lanes).collect::<Result<_, KernelError>>()?;
        let mut chain = Chain { stages, band: height, rows: vec![] };
        // bands of the same height, as few as possible
        for bands in 1..=height {
            chain.band = height.div_ceil(bands);
            chain.rows = chain.rows_between();
            let taken: usize = chain.maps().map(|[channels, rows, width]| channels * rows * width).sum();
            if taken <= floats || chain.band == 1 {
                break;
            }
        }
        Ok(chain)
    }

    /// The fewest pixels that a layer computes at a time, but for the ends of an image: few are slow, as small
    /// images are. None if all of an image is one band.
    pub fn pixels(&self) -> Option<usize> {
        let last = &self.stages.last()?.geometry;
        if self.band >= last.output()[0] {
            return None;
        }
        let (mut rows, mut fewest) = (self.band, usize::MAX);
        for stage in self.stages.iter().rev() {
            fewest = fewest.min(rows * stage.geometry.output()[1]);
            rows *= stage.geometry.shape().stride[0];
        }
        Some(fewest)
    }

    /// Rows of the maps between that a band needs at most.
    fn rows_between(&self) -> Vec<usize> {
        let mut rows = vec![0; self.stages.len() - 1];
        let mut next = self.band;
        for (rows, stage) in rows.iter_mut().zip(&self.stages[1..]).rev() {
            next = stage.geometry.rows_spanned(next).min(stage.geometry.shape().input[0]);
            *rows = next;
        }
        rows
    }

    /// Lanes of channels, rows that are there, and columns of the maps between.
    fn maps(&self) -> impl Iterator<Item = [usize; 3]> {
        let map = |(stage, rows): (&Stage, &usize)| {
            let s = stage.geometry.shape();
            [s.ic, *rows, s.input[1]]
        };
        self.stages[1..].iter().zip(&self.rows).map(map)
    }

    /// Computes the last layer's output from the first one's input; `residual`, of the shape of the output, is
    /// added inside the last epilogue.
    ///
    /// # Errors
    /// Slices of another length, and what the layers refuse, such as weights for pairs.
    pub fn run(
        &self,
        x: &[f32],
        y: &mut [f32],
        residual: Option<&[f32]>,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        self.runs(1)?;
        self.run_lanes(x, y, residual, parallel)
    }

    /// [`Chain::run`] for weights that were packed for pairs: of lanes, as those of [`PackedPointwise::run_pairs`].
    ///
    /// # Errors
    /// As there.
    pub fn run_pairs(
        &self,
        x: &[u32],
        y: &mut [u32],
        residual: Option<&[u32]>,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        self.runs(2)?;
        let residual = residual.map(pairs::as_floats);
        self.run_lanes(pairs::as_floats(x), pairs::as_floats_mut(y), residual, parallel)
    }

    /// [`Chain::run`] for weights that were packed for quads: of lanes, as those of [`PackedPointwise::run_quads`].
    ///
    /// # Errors
    /// As there.
    pub fn run_quads(&self, x: &[u32], y: &mut [u32], parallel: &dyn Parallel) -> Result<(), KernelError> {
        self.runs(quads::CHANNELS)?;
        self.run_lanes(pairs::as_floats(x), pairs::as_floats_mut(y), None, parallel)
    }

    /// Refuses activations in other lanes than the layers were packed for.
    fn runs(&self, per_lane: usize) -> Result<(), KernelError> {
        self.stages[0].layer.info().runs(per_lane)
    }

    fn run_lanes(
        &self,
        x: &[f32],
        y: &mut [f32],
        residual: Option<&[f32]>,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        let (first, last) = (&self.stages[0].geometry, &self.stages[self.stages.len() - 1].geometry);
        first.check_input(x)?;
        last.check_output(y, residual)?;
        if y.is_empty() {
            return Ok(());
        }
        let (height, batch) = (last.output()[0], last.shape().batch);
        let threads = parallel::threads(parallel);
        let parts = if threads == 1 { 1 } else { threads.div_ceil(batch).min(height) };
        let y = Shared(y.as_mut_ptr());
        let failed = std::sync::OnceLock::new();
        let task = |task: usize| {
            let part = Part { chain: self, x, y: &y, residual, image: task / parts };
            if let Err(error) = part.run(share(height, parts, task % parts)) {
                failed.get_or_init(|| error);
            }
        };
        if threads == 1 {
            (0..batch * parts).for_each(task);
        } else {
            parallel::for_each(parallel, batch * parts, task)?;
        }
        failed.into_inner().map_or(Ok(()), Err)
    }
}

/// Some rows of the output of an image.
struct Part<'a> {
    chain: &'a Chain<'a>,
    x: &'a [f32],
    y: &'a Shared,
    residual: Option<&'a [f32]>,
    image: usize,
}

/// The rows of a map between that are in its buffer.
struct Map<'a> {
    floats: &'a mut [f32],
    /// Floats from one plane to the next, and from one row to the next.
    plane: usize,
    width: usize,
    rows: Range<usize>,
}

impl Map<'_> {
    /// Moves the rows from `first` on to the top.
    fn begin_at(&mut self, first: usize) {
        let kept = self.rows.end.saturating_sub(first) * self.width;
        let dropped = (first.min(self.rows.end) - self.rows.start) * self.width;
        if dropped > 0 && kept > 0 {
            for plane in self.floats.chunks_mut(self.plane) {
                plane.copy_within(dropped..dropped + kept, 0);
            }
        }
        self.rows = first..self.rows.end.max(first);
    }
}

impl Part<'_> {
    /// Computes output rows, which no other part does.
    fn run(&self, rows: Range<usize>) -> Result<(), KernelError> {
        // an odd number of lines, so that planes are not all in the same few places of a cache
        let plane = |rows: usize, width: usize| ((rows * width).div_ceil(LINE) | 1) * LINE;
        let floats = |[channels, rows, width]: [usize; 3]| channels * plane(rows, width);
        scratch::with(self.chain.maps().map(floats).sum(), |mut buffer| {
            let mut maps = vec![];
            for map in self.chain.maps() {
                let (floats, rest) = buffer.split_at_mut(floats(map));
                let [_, rows, width] = map;
                let plane = plane(rows, width);
                maps.push(Map { floats, plane, width, rows: 0..0 });
                buffer = rest;
            }
            for start in rows.clone().step_by(self.chain.band) {
                self.band(start..rows.end.min(start + self.chain.band), &mut maps)?;
            }
            Ok(())
        })
    }

    /// Computes a band of output rows.
    fn band(&self, rows: Range<usize>, maps: &mut [Map]) -> Result<(), KernelError> {
        // From the last layer to the first: which rows it computes now, and where the rows begin that it reads.
        let stages = &self.chain.stages;
        let mut new = vec![rows; stages.len()];
        for (at, map) in maps.iter_mut().enumerate().rev() {
            let read = stages[at + 1].geometry.rows_read(&new[at + 1]);
            map.begin_at(read.start.max(map.rows.start));
            new[at] = map.rows.end..read.end.max(map.rows.end);
        }
        for (at, (stage, rows)) in stages.iter().zip(new).enumerate() {
            if !rows.is_empty() {
                self.stage(at, stage, rows, maps)?;
            }
        }
        Ok(())
    }

    /// Computes new rows of the output of one layer.
    fn stage(
        &self,
        at: usize,
        stage: &Stage,
        rows: Range<usize>,
        maps: &mut [Map],
    ) -> Result<(), KernelError> {
        let geometry = &stage.geometry;
        let read = geometry.rows_read(&rows);
        let (before, behind) = maps.split_at_mut(at);
        let (x, x_plane) = match before.last() {
            None => {
                let image = &self.x[geometry.x_image(self.image)];
                (&image[read.start * geometry.shape().input[1]..], geometry.x_plane())
            }
            Some(map) => (&map.floats[(read.start - map.rows.start) * map.width..], map.plane),
        };
        match behind.first_mut() {
            Some(map) => {
                let band = geometry.rows(&rows, [x_plane, map.plane])?;
                let y = &mut map.floats[(rows.start - map.rows.start) * map.width..][..band.y_len()];
                // SAFETY: the slice has the length of the outputs; `Chain::new` has checked the shape of which these
                // are some rows.
                unsafe {
                    stage.layer.run_at(&band, &x[..band.x_len()], y.as_mut_ptr(), None, &stage.epilogue)?;
                }
                map.rows.end = rows.end;
            }
            None => {
                let first = self.image * geometry.shape().oc * geometry.y_plane();
                let first = first + rows.start * geometry.output()[1];
                let band = geometry.rows(&rows, [x_plane, geometry.y_plane()])?;
                let residual = self.residual.map(|residual| &residual[first..][..band.y_len()]);
                let y = self.y.0.wrapping_add(first);
                // SAFETY: these rows are inside of the output, whose length `Chain::run_lanes` has compared, and this
                // part's alone; `Chain::new` has checked the shape.
                unsafe { stage.layer.run_at(&band, &x[..band.x_len()], y, residual, &stage.epilogue)? };
            }
        }
        Ok(())
    }
}
