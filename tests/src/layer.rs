//! Models of one convolution of any kind, pruned in any structure.

use crate::graph::{Graph, pruned};
use crate::{noise, values};
use tract_sparse::pb::ModelProto;
use tract_sparse::prelude::Tensor;
use zoo::proto::{int, ints, string};

/// How the borders of the input are padded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pads {
    /// Rows before every axis, then behind every axis.
    Explicit(Vec<usize>),
    /// The output is as large as the input, divided by the stride.
    SameUpper,
    /// The same, with the odd row before the axis.
    SameLower,
}

/// A convolution, or a transposed one, of one image; every list has one entry per spatial axis.
#[derive(Debug, Clone)]
pub struct ConvLayer {
    /// Output channels.
    pub oc: usize,
    /// Input channels.
    pub ic: usize,
    /// Channel groups.
    pub group: usize,
    /// Input pixels.
    pub input: Vec<usize>,
    /// Taps.
    pub kernel: Vec<usize>,
    /// Step of the output (of the input, if transposed).
    pub stride: Vec<usize>,
    /// Distance of neighbouring taps.
    pub dilation: Vec<usize>,
    /// Padding.
    pub pads: Pads,
    /// Rows and columns of the groups of weights that are kept together, in the matrix `[oc][ic / group *
    /// taps]`.
    pub block: (usize, usize),
    /// Share of weights that are left.
    pub density: f64,
    /// Channels stand last, before and behind.
    pub channels_last: bool,
    /// `ConvTranspose`; its blocks are those of `[ic][oc / group * taps]`, in the order of its weights.
    pub transposed: bool,
}

impl ConvLayer {
    /// A dense layer without groups, of stride one and without padding.
    pub fn new(oc: usize, ic: usize, input: &[usize], kernel: &[usize]) -> ConvLayer {
        ConvLayer {
            oc,
            ic,
            group: 1,
            input: input.to_vec(),
            kernel: kernel.to_vec(),
            stride: vec![1; kernel.len()],
            dilation: vec![1; kernel.len()],
            pads: Pads::Explicit(vec![0; 2 * kernel.len()]),
            block: (1, 1),
            density: 1.0,
            channels_last: false,
            transposed: false,
        }
    }

    /// Shape of the input tensor.
    pub fn input_shape(&self) -> Vec<usize> {
        match self.channels_last {
            false => [&[1, self.ic], &*self.input].concat(),
            true => [&[1], &*self.input, &[self.ic]].concat(),
        }
    }

    /// A seeded input.
    pub fn noise(&self, seed: u64) -> Tensor {
        noise(&self.input_shape(), seed)
    }

    /// Input, the layer with a bias, and a `Relu`; the layer is the node that is called after its operator.
    pub fn model(&self, seed: u64) -> ModelProto {
        let rank = self.kernel.len();
        let mut graph = Graph::default();
        let shape: Vec<String> = self.input_shape().iter().map(usize::to_string).collect();
        let mut wire = graph.input(&shape.join(","));
        if self.channels_last {
            let order: Vec<usize> = [0, rank + 1].into_iter().chain(1..=rank).collect();
            wire = graph.op("Transpose", &[&wire], vec![ints("perm", &order)]);
        }
        let taps: usize = self.kernel.iter().product();
        let (rows, depth, op) = match self.transposed {
            false => (self.oc, self.ic / self.group, "Conv"),
            true => (self.ic, self.oc / self.group, "ConvTranspose"),
        };
        let weights = pruned(rows, depth * taps, self.block, self.density, seed);
        let w = graph.constant(&[&[rows, depth], &*self.kernel].concat(), &weights);
        let bias = graph.constant(&[self.oc], &values(self.oc, seed + 1));
        let mut attributes = vec![
            int("group", self.group),
            ints("strides", &self.stride),
            ints("dilations", &self.dilation),
            ints("kernel_shape", &self.kernel),
        ];
        attributes.push(match &self.pads {
            Pads::Explicit(pads) => ints("pads", pads),
            Pads::SameUpper => string("auto_pad", "SAME_UPPER"),
            Pads::SameLower => string("auto_pad", "SAME_LOWER"),
        });
        wire = graph.op(op, &[&wire, &w, &bias], attributes);
        wire = graph.op("Relu", &[&wire], vec![]);
        if self.channels_last {
            let order: Vec<usize> = [0].into_iter().chain(2..rank + 2).chain([1]).collect();
            wire = graph.op("Transpose", &[&wire], vec![ints("perm", &order)]);
        }
        graph.model(&[&wire])
    }
}
