//! Predicted times: a small fitted table per instruction set and class of cores.
//!
//! A layer's time is a sum of parts, each proportional to something that can be counted from its shape and
//! weights. The constants are fitted to measurements by the tool `fit-costs` of the `benches` crate, which
//! writes the files beside this one; [`crate::fit`] makes one for the machine at hand. Absolute times belong
//! to the machine in the file's header; decisions use only the ratio of stock to sparse, which carries over
//! to other machines of a kind. Those of Arm cores are fitted to modelled cycles: their headers say so.

use crate::TRACT_VERSION;
use crate::analyse::LayerShape;
use sparse_kernels::doctor::machine::Machine;
use sparse_kernels::format::{FormatKind, Stats};
use sparse_kernels::table::KernelInfo;
use sparse_kernels::target::{Core, Isa, Target};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, OnceLock};
use tract_core::internal::*;

/// Pixels assumed where the shape is symbolic: a 14 x 14 map.
pub(crate) const ASSUMED_PIXELS: usize = 196;

/// What there is to do, counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Multiply-adds with stored weights, lanes beyond the last pixel included.
    pub macs: f64,
    /// Passes through the loop entry, bias, epilogue and store of a tile.
    pub rows: f64,
    /// Input values brought into kernel order.
    pub inputs: f64,
}

/// Nanoseconds per 1000 multiply-adds, per row, per 1000 inputs, and per call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost([f64; 4]);

impl Cost {
    /// Constants in the order of the file: `macs rows inputs call`.
    pub fn new(constants: [f64; 4]) -> Cost {
        Cost(constants)
    }

    /// Predicted nanoseconds.
    pub fn of(&self, work: &Work) -> f64 {
        self.0.iter().zip(work.features()).map(|(c, f)| c * f).sum()
    }
}

impl Work {
    /// What the four constants of a [`Cost`] are multiplied by.
    pub fn features(&self) -> [f64; 4] {
        [self.macs / 1e3, self.rows, self.inputs / 1e3, 1.0]
    }

    /// Our pointwise kernels. `vector` is the number of pixels of a vector.
    pub fn pointwise(kernel: &KernelInfo, vector: usize, shape: &LayerShape, stats: &Stats) -> Work {
        let pixels = shape.pixels.unwrap_or(ASSUMED_PIXELS);
        let lanes = if pixels == 1 { 1 } else { pixels.div_ceil(vector) * vector };
        let stored = stats.blocks * stats.kind.r() * stats.kind.c();
        Work {
            macs: (stored * lanes) as f64,
            rows: (shape.oc.div_ceil(stats.kind.r()) * lanes.div_ceil(kernel.pixels)) as f64,
            inputs: ((shape.ic - stats.dead_cols) * pixels) as f64,
        }
    }

    /// Our spatial kernels; tiles span output rows.
    pub fn spatial(kernel: &KernelInfo, vector: usize, shape: &LayerShape, stats: &Stats) -> Work {
        let pixels = shape.pixels.unwrap_or(ASSUMED_PIXELS);
        let width = width(shape);
        // Vectors end with a row, or run on into the next one over a column of padding.
        let rows = pixels / width;
        let lanes = (rows * width.div_ceil(vector)).min((rows * (width + 1)).div_ceil(vector)) * vector;
        Work {
            macs: (stats.blocks * stats.kind.r() * stats.kind.c() * lanes) as f64,
            rows: (shape.oc.div_ceil(stats.kind.r()) * lanes.div_ceil(kernel.pixels)) as f64,
            inputs: (shape.ic * shape.input_pixels(pixels)) as f64,
        }
    }

    /// Our depthwise kernels: `stored` taps over all channels.
    pub fn depthwise(vector: usize, shape: &LayerShape, stored: usize) -> Work {
        let pixels = shape.pixels.unwrap_or(ASSUMED_PIXELS);
        let width = width(shape);
        let height = pixels / width;
        Work {
            macs: stored as f64 * (height * width.div_ceil(vector) * vector) as f64,
            rows: (shape.oc * height) as f64,
            inputs: (shape.ic * shape.input_pixels(pixels)) as f64,
        }
    }

    /// Stock tract on the dense layer, whatever it is.
    pub fn stock(shape: &LayerShape) -> Work {
        let pixels = shape.pixels.unwrap_or(ASSUMED_PIXELS);
        Work {
            macs: (shape.weights() * pixels) as f64,
            rows: (shape.oc * pixels) as f64 / 16.0,
            inputs: (shape.ic * shape.input_pixels(pixels)) as f64,
        }
    }
}

/// Pixels of an output row, at least one; 14 where the shape is symbolic.
fn width(shape: &LayerShape) -> usize {
    shape.output.as_ref().and_then(|o| o.last().copied()).unwrap_or(14).max(1)
}

/// What a line of a table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Our pointwise kernels for a format; many pixels, or one.
    Pointwise(FormatKind, bool),
    /// Our spatial kernels for a format.
    Spatial(FormatKind),
    /// Our depthwise kernels, by their largest stride (1 or 2).
    Depthwise(usize),
    /// Stock matrix product: many pixels, or one.
    StockPointwise(bool),
    /// Stock convolution over all channels.
    StockSpatial,
    /// Stock depthwise convolution, by its largest stride (1 or 2).
    StockDepthwise(usize),
    /// Our pointwise kernels for pairs of channels, for blocks of single channels; many pixels, or one. A table need
    /// not have this line and the next ones.
    HalfPointwise(FormatKind, bool),
    /// Our spatial kernels for pairs of channels, for a format.
    HalfSpatial(FormatKind),
    /// Our depthwise kernels for pairs of channels, by their largest stride (1 or 2).
    HalfDepthwise(usize),
    /// Our pointwise kernels for quads of channels; many pixels, or one. A table need not have this line and the next ones.
    Int8Pointwise(FormatKind, bool),
    /// Our spatial kernels for quads of channels, for a format.
    Int8Spatial(FormatKind),
    /// Our depthwise kernels for quads of channels, by their largest stride (1 or 2).
    Int8Depthwise(usize),
}

impl Key {
    /// The key of our kernels for a format at this number of pixels.
    pub fn pointwise(format: FormatKind, shape: &LayerShape) -> Key {
        Key::Pointwise(format, shape.pixels == Some(1))
    }

    /// The name in the files.
    pub fn name(self) -> String {
        let single = |single| if single { "-single" } else { "" };
        match self {
            Key::Pointwise(format, one) => format!("pointwise/{format}{}", single(one)),
            Key::Spatial(format) => format!("spatial/{format}"),
            Key::Depthwise(stride) => format!("depthwise/s{stride}"),
            Key::StockPointwise(one) => format!("stock/pointwise{}", single(one)),
            Key::StockSpatial => "stock/spatial".into(),
            Key::StockDepthwise(stride) => format!("stock/depthwise-s{stride}"),
            Key::HalfPointwise(format, one) => format!("half/{}", Key::Pointwise(format, one).name()),
            Key::HalfSpatial(format) => format!("half/{}", Key::Spatial(format).name()),
            Key::HalfDepthwise(stride) => format!("half/{}", Key::Depthwise(stride).name()),
            Key::Int8Pointwise(format, one) => format!("int8/{}", Key::Pointwise(format, one).name()),
            Key::Int8Spatial(format) => format!("int8/{}", Key::Spatial(format).name()),
            Key::Int8Depthwise(stride) => format!("int8/{}", Key::Depthwise(stride).name()),
        }
    }

    /// Every key that a table must hold.
    pub fn all() -> Vec<Key> {
        let formats = FormatKind::POINTWISE;
        let mut keys: Vec<Key> = formats.map(|f| Key::Pointwise(f, false)).to_vec();
        keys.extend(formats.map(|f| Key::Pointwise(f, true)));
        keys.extend([FormatKind::ROWS_1, FormatKind::ROWS_2, FormatKind::ROWS_4].map(Key::Spatial));
        keys.extend([1, 2].map(Key::Depthwise));
        keys.extend([false, true].map(Key::StockPointwise));
        keys.push(Key::StockSpatial);
        keys.extend([1, 2].map(Key::StockDepthwise));
        keys
    }
}

/// The line of conversions between f32 and half precision, of which the constant per 1000 inputs counts.
const CONVERT: &str = "half/convert";

/// Nanoseconds for the conversion of a value where no line says more: what a core moves in a second or third
/// level cache.
const CONVERT_NS: f64 = 0.15;

/// Times of half precision over those of f32 where a table has no line of its own, for multiply-adds and for inputs: of
/// layers over all channels, where two multiply-adds are one instruction and inputs are half as large; and of
/// depthwise layers, whose products are f32, and whose maps are half as large (the lines of a Zen 4: 0.6 to 1 in all).
const HALF_OF_F32: [[f64; 2]; 2] = [[0.55, 0.6], [0.8, 0.9]];

/// The first of them where `vdpbf16ps` starts every other cycle only: on Intel's cores it does half of what f32
/// does (docs/performance.md), which leaves that work to AMX.
const PAIRS_ON_INTEL: f64 = 2.0;

/// Whether this is one of those.
static INTEL: LazyLock<bool> = LazyLock::new(|| Machine::detect().cpu.contains("Intel"));

/// The constants of one instruction set, or of one class of its cores.
#[derive(Debug, PartialEq)]
pub struct Table {
    /// Name of the target.
    target: String,
    /// The machine that it was fitted on.
    machine: String,
    /// The file; none if it is built in.
    file: Option<PathBuf>,
    costs: HashMap<String, Cost>,
}

/// A table and its target: what predictions are made with.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    target: Target,
    table: &'static Table,
}

impl Costs {
    /// Those that come with this crate.
    pub fn built_in(target: Target) -> Costs {
        Costs { target, table: Table::of(target.isa(), target.core()) }
    }

    /// Those of `table` if it is of this target, else those that come with this crate.
    pub(crate) fn new(target: Target, table: Option<&'static Table>) -> Costs {
        match table {
            Some(table) if table.target == target.name() => Costs { target, table },
            _ => Costs::built_in(target),
        }
    }

    /// Where the kernels run.
    pub fn target(self) -> Target {
        self.target
    }

    /// Predicted nanoseconds.
    pub(crate) fn predict(self, key: Key, work: &Work) -> f64 {
        self.table.predict(key, work)
    }

    /// Predicted nanoseconds in half precision, input and output in pairs of channels; where no table of the instruction set
    /// has a line for `key`, that of `f32` says what it is worth.
    pub(crate) fn predict_half(self, key: Key, f32: Key, work: &Work) -> f64 {
        self.table.predict_half(key, f32, work)
    }

    /// Predicted nanoseconds in int8, input and output in quads of channels; where no table of the instruction set has a line
    /// for `key`, as many as as much work takes in `f32`, which is too long, but tells formats apart.
    pub(crate) fn predict_int8(self, key: Key, f32: Key, work: &Work) -> f64 {
        self.table.predict_other(key, f32, work).unwrap_or_else(|| self.predict(f32, work))
    }

    /// Predicted nanoseconds for the conversion of a value from f32 to half precision or back.
    pub(crate) fn convert_ns(self) -> f64 {
        self.table.costs.get(CONVERT).map_or(CONVERT_NS, |cost| cost.0[2] / 1e3)
    }
}

impl fmt::Display for Costs {
    /// Where the table is from, and of which machine.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.table.file {
            Some(file) => write!(f, "{}, fitted on this machine", file.display()),
            None => write!(f, "built in, fitted on {}", self.table.machine),
        }
    }
}

impl Table {
    /// The table of an instruction set's cores of a class.
    pub fn of(isa: Isa, core: Core) -> &'static Table {
        static TABLES: OnceLock<HashMap<(Isa, Core), Table>> = OnceLock::new();
        let tables = TABLES.get_or_init(|| {
            let parse = |(isa, core)| {
                let table = Table::parse(text(isa, core), None);
                ((isa, core), table.unwrap_or_else(|e| panic!("costs of {isa}, {core:?}: {e}")))
            };
            all().map(parse).collect()
        });
        &tables[&(isa, core)]
    }

    /// The table in a file; read once in the life of a process.
    ///
    /// # Errors
    /// A file that cannot be read, is no table, or was fitted on another machine or for another version of
    /// tract.
    pub fn read(path: &Path) -> TractResult<&'static Table> {
        static READ: LazyLock<Mutex<HashMap<PathBuf, &'static Table>>> = LazyLock::new(Mutex::default);
        let mut read = READ.lock().map_err(|_| format_err!("reading a cost table panicked"))?;
        if let Some(table) = read.get(path) {
            return Ok(table);
        }
        let name = || format!("the cost table {}", path.display());
        let text = std::fs::read_to_string(path).with_context(name)?;
        let table = Table::parse(&text, Some(path)).map_err(|error| format_err!("{}: {error}", name()))?;
        let cpu = Machine::detect().cpu;
        ensure!(table.machine == cpu, "{} is of another machine: {}, this is {cpu}", name(), table.machine);
        ensure!(
            text.contains(&format!("Stock: tract {TRACT_VERSION}.")),
            "{} was fitted for another version of tract than {TRACT_VERSION}",
            name()
        );
        let table: &'static Table = Box::leak(Box::new(table));
        read.insert(path.into(), table);
        Ok(table)
    }

    /// Reads lines of a key, of which the first counts, and four constants; `#` begins a comment, of which the first ones name
    /// target and machine.
    fn parse(text: &str, file: Option<&Path>) -> Result<Table, String> {
        let between = |before: &str, after: &str| {
            let (_, rest) = text.split_once(before)?;
            Some(rest.split_once(after)?.0.to_string())
        };
        let target = between("# Cost table of ", ", fitted").ok_or("the first line names no target")?;
        let machine = between("# Machine: ", ". Stock: tract").ok_or("no line names the machine")?;
        let mut costs = HashMap::new();
        for line in text.lines().map(|l| l.split('#').next().unwrap_or("").trim()).filter(|l| !l.is_empty()) {
            let mut words = line.split_whitespace();
            let key = words.next().unwrap_or_default().to_string();
            let constants: Vec<f64> =
                words.filter_map(|w| w.parse().ok()).filter(|c: &f64| c.is_finite() && *c >= 0.0).collect();
            let constants = constants.try_into().map_err(|_| format!("line {line:?}"))?;
            costs.entry(key).or_insert(Cost(constants));
        }
        match Key::all().into_iter().find(|key| !costs.contains_key(&key.name())) {
            Some(key) => Err(format!("{} is missing", key.name())),
            None => Ok(Table { target, machine, file: file.map(Path::to_path_buf), costs }),
        }
    }

    /// Predicted nanoseconds.
    pub fn predict(&self, key: Key, work: &Work) -> f64 {
        self.costs[&key.name()].of(work)
    }

    /// Predicted nanoseconds by the line of a key that a table need not have.
    fn line(&self, key: Key, work: &Work) -> Option<f64> {
        Some(self.costs.get(&key.name())?.of(work))
    }

    /// Predicted nanoseconds of another type than f32: by a line of its own; else by that of the other class of cores,
    /// in proportion to what f32 takes on both, since a core that starts two vectors a cycle does so with every type.
    fn predict_other(&self, key: Key, f32: Key, work: &Work) -> Option<f64> {
        if let Some(time) = self.line(key, work) {
            return Some(time);
        }
        let other = Table::of(Isa::Avx512, Core::Any);
        if self.target.strip_suffix("-wide") != Some(&other.target) {
            return None;
        }
        let time = other.line(key, work)?;
        let of_f32 = other.predict(f32, work);
        Some(if of_f32 > 0.0 { time * (self.predict(f32, work) / of_f32) } else { time })
    }

    /// Predicted nanoseconds in half precision: by a line of its own or of the other class, else from that of f32.
    fn predict_half(&self, key: Key, f32: Key, work: &Work) -> f64 {
        let time = if *INTEL {
            // what others gain says nothing here
            self.line(key, work).filter(|_| self.file.is_some())
        } else {
            self.predict_other(key, f32, work)
        };
        if let Some(time) = time {
            return time;
        }
        let Cost([macs, rows, inputs, call]) = self.costs[&f32.name()];
        let [[computed, moved], depthwise] = HALF_OF_F32;
        let [computed, moved] = match f32 {
            Key::Depthwise(_) => depthwise,
            _ if *INTEL => [PAIRS_ON_INTEL, moved],
            _ => [computed, moved],
        };
        Cost([computed * macs, rows, moved * inputs, call]).of(work)
    }
}

/// Every instruction set with every class of its cores.
fn all() -> impl Iterator<Item = (Isa, Core)> {
    Isa::ALL.into_iter().flat_map(|isa| Core::of(isa).iter().map(move |core| (isa, *core)))
}

fn text(isa: Isa, core: Core) -> &'static str {
    match (isa, core) {
        (Isa::Scalar, _) => include_str!("scalar.txt"),
        (Isa::Wasm, _) => include_str!("wasm.txt"),
        // A page, which nothing else runs in, has no tables of other machines.
        _ if cfg!(target_arch = "wasm32") => include_str!("scalar.txt"),
        // Its own lines, and those of the kernels that it shares.
        (Isa::Avx2, Core::Vnni) => concat!(include_str!("avx-vnni.txt"), include_str!("avx2.txt")),
        (Isa::Avx2, _) => include_str!("avx2.txt"),
        (Isa::Avx512, Core::Wide) => include_str!("avx512-wide.txt"),
        (Isa::Avx512, _) => include_str!("avx512.txt"),
        (Isa::Neon, Core::A53) => include_str!("neon-a53.txt"),
        (Isa::Neon, Core::A55) => include_str!("neon-a55.txt"),
        // Kernels for no class of cores are only run where they are asked for by name.
        (Isa::Neon, _) => include_str!("neon-a76.txt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_complete_and_positive() {
        for (isa, core) in all() {
            let table = Table::of(isa, core);
            let work = Work { macs: 1e6, rows: 1e3, inputs: 1e5 };
            for key in Key::all() {
                assert!(table.predict(key, &work) > 0.0, "{isa}, {core:?}: {}", key.name());
            }
        }
    }

    /// What a type gains on cores that were not at hand is what it gains on others of the instruction set.
    #[test]
    fn classes_without_a_line_take_that_of_the_other() {
        let lines = text(Isa::Avx512, Core::Wide).lines();
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with("int8/")).collect();
        let (wide, any) = (Table::parse(&lines.join("\n"), None).unwrap(), Table::of(Isa::Avx512, Core::Any));
        let blocks = FormatKind::BLOCKS_4X4;
        for (key, f32) in [
            (Key::Int8Pointwise(blocks, false), Key::Pointwise(blocks, false)),
            (Key::Int8Spatial(FormatKind::ROWS_4), Key::Spatial(FormatKind::ROWS_4)),
            (Key::Int8Depthwise(2), Key::Depthwise(2)),
        ] {
            for (macs, rows, inputs) in [(1e6, 1e3, 1e5), (1e4, 1e2, 1e4), (1e7, 10.0, 0.0)] {
                let work = Work { macs, rows, inputs };
                let gain =
                    |table: &Table| table.predict_other(key, f32, &work).unwrap() / table.predict(f32, &work);
                assert!((gain(&wide) / gain(any) - 1.0).abs() < 1e-9, "{}: {work:?}", key.name());
                assert!(gain(any) < 1.0, "{}: {work:?}", key.name());
            }
            let none = Work { macs: 0.0, rows: 0.0, inputs: 0.0 };
            assert!(wide.predict_other(key, f32, &none).unwrap().is_finite());
        }
        let key = Key::Int8Pointwise(FormatKind::ROWS_1, false);
        assert_eq!(any.costs.get(&key.name()), None);
        assert_eq!(wide.predict_other(key, Key::Pointwise(FormatKind::ROWS_1, false), &ONE), None);
        let avx2 = Table::of(Isa::Avx2, Core::Any);
        let key = Key::HalfPointwise(blocks, false);
        assert_eq!(avx2.predict_other(key, Key::Pointwise(blocks, false), &ONE), None);
    }

    const ONE: Work = Work { macs: 1.0, rows: 1.0, inputs: 1.0 };

    #[test]
    fn broken_tables_are_refused() {
        let head = "# Cost table of avx2, fitted by hand.\n# Machine: one. Stock: tract 0.\n";
        let parse = |lines: &str| Table::parse(&format!("{head}{lines}"), None).unwrap_err();
        assert!(parse("pointwise/4x4 1 2 3").contains("4x4 1 2 3"));
        assert!(parse("pointwise/4x4 1 2 3 -1").contains("4x4 1 2 3 -1"));
        assert!(parse("").contains("missing"));
        assert!(Table::parse("", None).unwrap_err().contains("names no target"));
    }
}
