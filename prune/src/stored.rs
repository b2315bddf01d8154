//! Constants as constant operators make weights of them: read, and written back so that the computed weights
//! become what they should be.

use crate::layer::{Constants, Place, attribute, int, name_of};
use crate::onnx::tensor;
use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::tract_core::internal::f16;

/// Operators that make a constant of a constant, each element of one.
const DERIVING: [&str; 9] = [
    "Identity",
    "Transpose",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
];

/// Whether each element of a node's output is one element of its first input.
pub(crate) fn derives(node: &NodeProto) -> bool {
    node.domain.is_empty() && DERIVING.contains(&&*node.op_type)
}

/// What a stored number means: `(number - zero) * scale`.
#[derive(Clone, Copy)]
struct Code {
    scale: f64,
    zero: f64,
}

/// A constant, or what operators make of it.
pub(crate) struct Stored {
    /// Type of the elements now.
    data_type: DataType,
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Vec<f32>,
    /// Where each element is stored.
    from: Vec<u32>,
    /// Of each element, if it is stored quantised.
    codes: Option<Vec<Code>>,
    /// Whether an operator has quantised elements that are stored as floats: what they stand for is what is stored, rounded.
    rounded: bool,
}

impl Stored {
    /// What the nodes `chain` (numbers of nodes, in order) make of the constant at `place`.
    ///
    /// # Errors
    /// An element type that is not read, a shape or a scale that is not constant, something that is none of
    /// f32.
    pub(crate) fn of(graph: &GraphProto, place: Place, chain: &[usize]) -> Result<Stored> {
        let tensor = place.get(graph).context("the weights are gone")?;
        let dims = tensor::shape(&tensor.dims)?;
        let data_type = tensor::data_type(tensor)?;
        if chain.is_empty() {
            ensure!(data_type == DataType::Float, "elements are {}, not f32", name(data_type));
        }
        let values: Vec<f32> = numbers(tensor)?.into_iter().map(|v| v as f32).collect();
        let from = (0..u32::try_from(values.len()).context("too many weights")?).collect();
        let mut stored = Stored { data_type, dims, values, from, codes: None, rounded: false };
        let constants = if chain.is_empty() { None } else { Some(Constants::of(graph)) };
        for id in chain {
            let node = graph.node.get(*id).context("a node is gone")?;
            let constants = constants.as_ref().context("no constants")?;
            stored
                .step(graph, constants, node)
                .with_context(|| format!("{} {}", node.op_type, name_of(node)))?;
        }
        ensure!(stored.data_type == DataType::Float, "elements are {}, not f32", name(stored.data_type));
        Ok(stored)
    }

    fn step(&mut self, graph: &GraphProto, constants: &Constants, node: &NodeProto) -> Result<()> {
        let constant = |slot: usize| -> Result<Option<&TensorProto>> {
            let Some(name) = node.input.get(slot).filter(|i| !i.is_empty()) else { return Ok(None) };
            let place = constants.place(name).with_context(|| format!("{name} is computed at run time"))?;
            Ok(place.get(graph))
        };
        let ints = |name: &str| -> Result<Option<Vec<i64>>> {
            if let Some(attribute) = attribute(node, name) {
                return Ok(Some(attribute.ints.clone()));
            }
            constant(1)?.map(tensor::ints).transpose()
        };
        let rank = self.dims.len();
        match &*node.op_type {
            "Transpose" => {
                let perm: Vec<usize> = match attribute(node, "perm") {
                    Some(perm) => perm.ints.iter().map(|p| position(*p, rank)).collect::<Result<_>>()?,
                    None => (0..rank).rev().collect(),
                };
                self.transpose(&perm)?;
            }
            "Reshape" => {
                let wanted = ints("shape")?.context("it has no shape")?;
                let zero_is_zero = int(node, "allowzero", 0) != 0;
                let mut dims = vec![];
                for (axis, dim) in wanted.iter().enumerate() {
                    dims.push(match dim {
                        0 if !zero_is_zero => *self.dims.get(axis).context("a 0 without an axis")?,
                        -1 => 0,
                        _ => usize::try_from(*dim).context("a negative size")?,
                    });
                }
                if let Some(open) = wanted.iter().position(|d| *d == -1) {
                    dims[open] = 1;
                    dims[open] = self.values.len() / tensor::elements(&dims)?.max(1);
                }
                ensure!(tensor::elements(&dims)? == self.values.len(), "shape {wanted:?} does not fit");
                self.dims = dims;
            }
            "Flatten" => {
                let axis = int(node, "axis", 1);
                let axis = if axis == rank as i64 { rank } else { position(axis, rank)? };
                let size = |dims: &[usize]| dims.iter().product();
                self.dims = vec![size(&self.dims[..axis]), size(&self.dims[axis..])];
            }
            "Squeeze" => {
                let axes = match ints("axes")? {
                    Some(axes) => axes.iter().map(|a| position(*a, rank)).collect::<Result<Vec<_>>>()?,
                    None => (0..rank).filter(|a| self.dims[*a] == 1).collect(),
                };
                ensure!(axes.iter().all(|a| self.dims[*a] == 1), "an axis of more than one");
                let kept = self.dims.iter().enumerate().filter(|(a, _)| !axes.contains(a));
                self.dims = kept.map(|(_, d)| *d).collect();
            }
            "Unsqueeze" => {
                let axes = ints("axes")?.context("it has no axes")?;
                let rank = rank + axes.len();
                let mut axes = axes.iter().map(|a| position(*a, rank)).collect::<Result<Vec<_>>>()?;
                axes.sort_unstable();
                axes.iter().for_each(|a| self.dims.insert(*a, 1));
            }
            "Cast" => {
                let to = DataType::try_from(i32::try_from(int(node, "to", 0))?)?;
                ensure!(
                    [DataType::Float, DataType::Float16, DataType::Double].contains(&to),
                    "it makes {} of its input",
                    name(to)
                );
                self.data_type = to;
            }
            "QuantizeLinear" => {
                let floats = [DataType::Float, DataType::Float16, DataType::Double];
                ensure!(self.codes.is_none() && !self.rounded, "it is quantised twice");
                ensure!(floats.contains(&self.data_type), "it quantises {}", name(self.data_type));
                let (scale, zero) = (constant(1)?.context("it has no scale")?, constant(2)?);
                let codes = self.codes_of(node, scale, zero)?;
                self.data_type = match (zero, int(node, "output_dtype", 0)) {
                    (Some(zero), _) => tensor::data_type(zero)?,
                    (None, 0) => DataType::Uint8,
                    (None, dt) => DataType::try_from(i32::try_from(dt)?)?,
                };
                let [lo, hi] = match self.data_type {
                    DataType::Uint8 => [0.0, 255.0],
                    DataType::Int8 => [-128.0, 127.0],
                    other => bail!("it makes {} of its input", name(other)),
                };
                for (value, code) in self.values.iter_mut().zip(&codes) {
                    ensure!(code.scale > 0.0, "a scale of {}", code.scale);
                    let steps = (*value / code.scale as f32).round_ties_even();
                    *value = (f64::from(steps) + code.zero).clamp(lo, hi) as f32;
                }
                self.rounded = true;
            }
            "DequantizeLinear" => {
                ensure!(self.codes.is_none(), "it is quantised twice");
                let scale = constant(1)?.context("it has no scale")?;
                let codes = self.codes_of(node, scale, constant(2)?)?;
                for (value, code) in self.values.iter_mut().zip(&codes) {
                    *value = ((f64::from(*value) - code.zero) * code.scale) as f32;
                }
                self.codes = (!self.rounded).then_some(codes);
                self.data_type = tensor::data_type(scale)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What a number of each element means to an operator that quantises or dequantises.
    fn codes_of(
        &self,
        node: &NodeProto,
        scale: &TensorProto,
        zero: Option<&TensorProto>,
    ) -> Result<Vec<Code>> {
        ensure!(int(node, "block_size", 0) == 0, "scales of blocks are not read");
        let scales = numbers(scale)?;
        let zeros = zero.map(numbers).transpose()?.unwrap_or_else(|| vec![0.0; scales.len()]);
        ensure!(scales.len() == zeros.len(), "{} scales, {} zeros", scales.len(), zeros.len());
        let (step, n) = match scales.len() {
            1 => (1, 1),
            n => {
                let axis = position(int(node, "axis", 1), self.dims.len())?;
                ensure!(self.dims[axis] == n, "{n} scales for an axis of {}", self.dims[axis]);
                (self.dims[axis + 1..].iter().product(), n)
            }
        };
        let code = |i: usize| Code { scale: scales[i / step % n], zero: zeros[i / step % n] };
        Ok((0..self.values.len()).map(code).collect())
    }

    fn transpose(&mut self, perm: &[usize]) -> Result<()> {
        let rank = self.dims.len();
        let mut strides = vec![1; rank];
        (1..rank).rev().for_each(|a| strides[a - 1] = strides[a] * self.dims[a]);
        ensure!(perm.len() == rank && (0..rank).all(|a| perm.contains(&a)), "no permutation: {perm:?}");
        let dims: Vec<usize> = perm.iter().map(|p| self.dims[*p]).collect();
        let order = crate::index::indices(&dims)
            .map(|at| at.iter().zip(perm).map(|(i, p)| i * strides[*p]).sum())
            .collect::<Vec<usize>>();
        self.pick(&order);
        self.dims = dims;
        Ok(())
    }

    /// Puts the elements in another order.
    pub(crate) fn pick(&mut self, order: &[usize]) {
        self.values = order.iter().map(|i| self.values[*i]).collect();
        self.from = order.iter().map(|i| self.from[*i]).collect();
        if let Some(codes) = &mut self.codes {
            *codes = order.iter().map(|i| codes[*i]).collect();
        }
    }

    /// Writes the elements that are to have another value; the others keep every bit.
    ///
    /// # Errors
    /// Another number of values, an element type that is not written.
    pub(crate) fn write(&self, graph: &mut GraphProto, place: Place, values: &[f32]) -> Result<()> {
        ensure!(
            values.len() == self.values.len(),
            "{} weights, expected {}",
            values.len(),
            self.values.len()
        );
        let tensor = place.get_mut(graph).context("the weights are gone")?;
        let data_type = tensor::data_type(tensor)?;
        let (mut bytes, size) = tensor::bytes(tensor)?;
        let changed = values.iter().zip(&self.values).enumerate().filter(|(_, (new, old))| new != old);
        for (at, (new, _)) in changed {
            let number = match &self.codes {
                Some(codes) if codes[at].scale != 0.0 => f64::from(*new) / codes[at].scale + codes[at].zero,
                Some(codes) => codes[at].zero,
                None => f64::from(*new),
            };
            let stored = self.from[at] as usize * size;
            encode(number, data_type, &mut bytes[stored..stored + size])?;
        }
        if data_type == DataType::Float && !tensor.float_data.is_empty() {
            tensor.float_data =
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        } else {
            tensor::set_bytes(tensor, bytes);
        }
        Ok(())
    }
}

fn position(i: i64, n: usize) -> Result<usize> {
    let i = if i < 0 { i + n as i64 } else { i };
    usize::try_from(i).ok().filter(|i| *i < n).with_context(|| format!("there is no axis {i}"))
}

fn name(data_type: DataType) -> String {
    data_type.as_str_name().to_lowercase()
}

/// The elements of a tensor of floats or of integers.
fn numbers(tensor: &TensorProto) -> Result<Vec<f64>> {
    use DataType::*;
    let data_type = tensor::data_type(tensor)?;
    let (bytes, size) = tensor::bytes(tensor)?;
    let all = bytes.chunks_exact(size);
    Ok(match data_type {
        Float => all.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect(),
        Double => all.map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])).collect(),
        Float16 => all.map(|b| f16::from_le_bytes([b[0], b[1]]).into()).collect(),
        Uint8 => all.map(|b| b[0].into()).collect(),
        Int8 => all.map(|b| i8::from_le_bytes([b[0]]).into()).collect(),
        Uint16 => all.map(|b| u16::from_le_bytes([b[0], b[1]]).into()).collect(),
        Int16 => all.map(|b| i16::from_le_bytes([b[0], b[1]]).into()).collect(),
        Int32 => all.map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect(),
        other => bail!("elements are {}, not f32", name(other)),
    })
}

/// Writes a number as an element; integers are rounded and held to their range.
fn encode(number: f64, data_type: DataType, to: &mut [u8]) -> Result<()> {
    use DataType::*;
    match data_type {
        Float => to.copy_from_slice(&(number as f32).to_le_bytes()),
        Double => to.copy_from_slice(&number.to_le_bytes()),
        Float16 => to.copy_from_slice(&f16::from_f64(number).to_le_bytes()),
        Uint8 => to.copy_from_slice(&(number.round() as u8).to_le_bytes()),
        Int8 => to.copy_from_slice(&(number.round() as i8).to_le_bytes()),
        Uint16 => to.copy_from_slice(&(number.round() as u16).to_le_bytes()),
        Int16 => to.copy_from_slice(&(number.round() as i16).to_le_bytes()),
        Int32 => to.copy_from_slice(&(number.round() as i32).to_le_bytes()),
        other => bail!("elements are {}: they are not written", name(other)),
    }
    Ok(())
}
