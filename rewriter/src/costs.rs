//! Predicted times: a small fitted table per target.
//!
//! A layer's time is a sum of four parts, each proportional to something that can be counted from its shape and its
//! weights. Constants are nanoseconds per unit, fitted by the `fit-costs` tool of the `benches` crate on one machine;
//! only ratios between stock and sparse are used for decisions, and those carry over to other machines of a kind.

use sparse_kernels::format::FormatKind;
use sparse_kernels::target::Isa;

/// Nanoseconds per unit of work of one kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Per 1000 multiply-adds with a stored weight, tail lanes included.
    pub mac: f64,
    /// Per block row and tile: loop entry, bias, epilogue, store.
    pub row: f64,
    /// Per 1000 input values brought into kernel order.
    pub pack: f64,
    /// Per call.
    pub call: f64,
}

/// What a pointwise layer has to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PointwiseWork {
    /// Stored weights, zeros inside blocks included.
    pub stored: usize,
    /// Rows of blocks.
    pub block_rows: usize,
    /// Input channels that have any weight.
    pub ic: usize,
    /// Output pixels of all images.
    pub pixels: usize,
    /// Pixels of a vector and of a tile of the kernel.
    pub vector: usize,
    /// Pixels of a tile.
    pub tile: usize,
}

impl Cost {
    /// Predicted nanoseconds of a pointwise layer.
    pub fn pointwise(&self, work: &PointwiseWork) -> f64 {
        let lanes = work.pixels.div_ceil(work.vector) * work.vector;
        let tiles = lanes.div_ceil(work.tile);
        let macs = if work.pixels == 1 { work.stored } else { work.stored * lanes };
        self.call
            + self.mac * macs as f64 / 1e3
            + self.row * (work.block_rows * tiles) as f64
            + self.pack * (work.ic * work.pixels) as f64 / 1e3
    }
}

/// Stock tract's matrix product and its packing: per 1000 multiply-adds, per output row and tile, per 1000 inputs, per call.
pub fn stock_matmul(isa: Isa) -> Cost {
    match isa {
        Isa::Avx512 | Isa::Avx2 => Cost { mac: 23.5, row: 3.0, pack: 250.0, call: 2000.0 },
        Isa::Neon => Cost { mac: 60.0, row: 6.0, pack: 500.0, call: 2000.0 },
        Isa::Wasm => Cost { mac: 120.0, row: 12.0, pack: 800.0, call: 2000.0 },
        Isa::Scalar => Cost { mac: 23.5, row: 3.0, pack: 250.0, call: 2000.0 },
    }
}

/// Our pointwise kernels.
pub fn pointwise(isa: Isa, format: FormatKind) -> Cost {
    let scale = match isa {
        Isa::Avx512 | Isa::Avx2 => 1.0,
        Isa::Neon => 2.5,
        Isa::Wasm => 5.0,
        Isa::Scalar => 8.0,
    };
    let (mac, row) = match format {
        FormatKind::ROWS_1 => (26.0, 12.0),
        FormatKind::ROWS_2 => (22.0, 14.0),
        FormatKind::ROWS_4 => (20.0, 18.0),
        FormatKind::ROWS_8 => (24.0, 20.0),
        _ => (19.0, 18.0),
    };
    Cost { mac: mac * scale, row: row * scale, pack: 120.0 * scale, call: 1000.0 }
}
