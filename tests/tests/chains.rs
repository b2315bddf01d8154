//! Layers with large maps between them run band by band, and their answers are those of the layers alone.

use anyhow::Result;
use tests::graph::{Graph, pruned};
use tests::{agree, count, noise, op_names, skipped, values};
use tract_sparse::Report;
use tract_sparse::pb::ModelProto;
use tract_sparse::prelude::*;
use zoo::proto::{int, ints};

const WIDE: usize = 32;

/// An expansion, a depthwise layer and a projection, as inverted residuals have them.
#[derive(Clone, Copy)]
struct Block {
    /// Pixels of a side of the map between.
    side: usize,
    stride: usize,
    residual: bool,
    /// The expansion is wanted, too.
    also_output: bool,
}

impl Block {
    fn model(self, batch: &str) -> ModelProto {
        let mut graph = Graph::default();
        let x = graph.input(&format!("{batch},16,{0},{0}", self.side));
        let w = graph.constant(&[WIDE, 16, 1, 1], &pruned(WIDE, 16, (4, 4), 0.5, 1));
        let b = graph.constant(&[WIDE], &values(WIDE, 2));
        let wide = graph.op("Conv", &[&x, &w, &b], vec![]);
        let wide = graph.op("Relu", &[&wide], vec![]);
        let w = graph.constant(&[WIDE, 1, 3, 3], &values(WIDE * 9, 3));
        let (pads, strides) = (ints("pads", &[1; 4]), ints("strides", &[self.stride; 2]));
        let deep = graph.op("Conv", &[&wide, &w], vec![int("group", WIDE), pads, strides]);
        let deep = graph.op("HardSwish", &[&deep], vec![]);
        let w = graph.constant(&[16, WIDE, 1, 1], &pruned(16, WIDE, (4, 4), 0.5, 4));
        let mut y = graph.op("Conv", &[&deep, &w], vec![]);
        if self.residual {
            y = graph.op("Add", &[&y, &x], vec![]);
        }
        graph.model(&if self.also_output { vec![y.as_str(), wide.as_str()] } else { vec![y.as_str()] })
    }

    fn input(self, batch: usize) -> Vec<Tensor> {
        vec![noise(&[batch, 16, self.side, self.side], 5)]
    }
}

/// A block whose map between is as large as it takes here; none where layers always run one by one.
fn block(test: &str) -> Option<Block> {
    let Some(large) = sparse_kernels::chain::large_map() else {
        skipped(test, "no second-level cache is known here");
        return None;
    };
    let side = (1..).find(|side| WIDE * side * side >= large)?;
    Some(Block { side, stride: 1, residual: true, also_output: false })
}

#[test]
fn large_maps_are_never_written_as_a_whole() -> Result<()> {
    let Some(block) = block("chains") else { return Ok(()) };
    for block in [block, Block { stride: 2, residual: false, ..block }] {
        let model = agree(&block.model("1"), &block.input(1))?;
        assert_eq!(count(&model, "OptSparseChain"), 1, "{:?}", op_names(&model));
        assert_eq!(count(&model, "OptSparseConv"), if block.stride == 1 { 0 } else { 1 });
        let report = Report::of(&model)?;
        assert_eq!((report.layers.len(), report.sparse_layers()), (3, 3));
        let together = report.layers.iter().filter(|layer| layer.chain.is_some()).count();
        assert_eq!(together, if block.stride == 1 { 3 } else { 2 });
        assert!(report.to_string().contains("band by band"), "{report}");
    }
    Ok(())
}

#[test]
fn any_number_of_images() -> Result<()> {
    let Some(block) = block("chains of any number of images") else { return Ok(()) };
    for images in [1, 3] {
        let model = agree(&block.model("N"), &block.input(images))?;
        assert_eq!(count(&model, "OptSparseChain"), 1, "{:?}", op_names(&model));
    }
    Ok(())
}

#[test]
fn small_maps_and_maps_that_are_wanted_are_written() -> Result<()> {
    let Some(block) = block("layers that are no chain") else { return Ok(()) };
    let wanted = agree(&Block { also_output: true, ..block }.model("1"), &block.input(1))?;
    let expansion = wanted.nodes().iter().find(|node| node.op_is::<tract_sparse::OptSparseConv>());
    assert!(expansion.is_some(), "{:?}", op_names(&wanted));
    let small = Block { side: block.side / 2, ..block };
    let small = agree(&small.model("1"), &small.input(1))?;
    assert_eq!((count(&small, "OptSparseChain"), count(&small, "OptSparseConv")), (0, 3));
    Ok(())
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn threads_share_the_rows() -> Result<()> {
    use tract_linalg::multithread::{Executor, multithread_tract_scope};
    let Some(block) = block("threads of chains") else { return Ok(()) };
    for images in [1, 2] {
        multithread_tract_scope(Executor::multithread(3), || agree(&block.model("N"), &block.input(images)))?;
    }
    Ok(())
}
