//! tract's whole-sequence GRU with a sparse recurrent matrix.

use crate::choice::{Choice, Dense, Packed};
use crate::executor::{of_products, with_threads};
use crate::konst::{dense_fma, f32s, konst_of};
use sparse_kernels::prelude::*;
use sparse_kernels::recurrent::gru_cell;
use tract_core::internal::*;
use tract_core::ops::gru_seq::GruSeq;

/// tract's `GruSeq` behind its input-side product, marked to multiply by its recurrent matrix on a sparse
/// kernel.
///
/// Inputs as those of the stock operator: the input-side product `[batch, steps, 3 * hidden]`, the recurrent
/// matrix `[3 * hidden, hidden]` (a constant), the biases `[1, 6 * hidden]` if there are any (a constant),
/// the initial state. Facts and evaluation are those of the stock operator inside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SparseGruSeq {
    seq: GruSeq,
    choice: Choice,
}

impl SparseGruSeq {
    /// Marks `seq`.
    ///
    /// # Errors
    /// An operator that takes the input-side product itself, or whose recurrent matrix has been packed.
    pub fn new(seq: GruSeq, choice: Choice) -> TractResult<SparseGruSeq> {
        ensure!(seq.projected, "the input-side product must stand before the operator");
        ensure!(seq.packed_r.is_none(), "the recurrent matrix has been packed");
        Ok(SparseGruSeq { seq, choice })
    }

    /// The stock operator.
    pub fn seq(&self) -> &GruSeq {
        &self.seq
    }

    /// The decision that made this layer sparse.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The stock operator in place of this one.
    pub fn unwrap(&self, model: &TypedModel, node: &TypedNode) -> TractResult<TypedModelPatch> {
        TypedModelPatch::replace_single_op(model, node, &node.inputs, self.seq.clone())
    }
}

impl Op for SparseGruSeq {
    fn name(&self) -> StaticName {
        named!("SparseGruSeq")
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let mut info = self.seq.info()?;
        info.push(format!("Recurrent weights {}: {}", self.choice.packing, self.choice));
        Ok(info)
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for SparseGruSeq {
    not_out_of_plan!();

    fn state(&self, ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        let Some(stock) = self.seq.state(ctx)? else { return Ok(None) };
        Ok(Some(Box::new(StockState(stock))))
    }
}

/// The state of the stock operator inside.
#[derive(Debug, Clone)]
struct StockState(Box<dyn OpState>);

impl OpState for StockState {
    fn eval(&mut self, ctx: &EvalContext, op: &dyn Op, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let op = op.downcast_ref::<SparseGruSeq>().context("the state of another operator")?;
        self.0.eval(ctx, &op.seq, inputs)
    }

    fn reset_lanes(&mut self, lanes: &[LaneId]) -> TractResult<()> {
        self.0.reset_lanes(lanes)
    }
}

impl TypedOp for SparseGruSeq {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 3 + self.seq.has_bias as usize, "got {} inputs", inputs.len());
        self.seq.output_facts(inputs)
    }

    fn declutter(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        // Cast to another type by a transform: the stock operator says what it thinks of it.
        let facts = model.node_input_facts(node.id)?;
        rule_if!(facts.iter().any(|fact| fact.datum_type != f32::datum_type()));
        Ok(Some(self.unwrap(model, node)?))
    }

    fn codegen(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        let hidden = self.seq.hidden;
        let Some(weights) = konst_of(model, node.inputs[1])? else {
            return Ok(Some(self.unwrap(model, node)?));
        };
        let bias = if self.seq.has_bias {
            let Some(bias) = konst_of(model, node.inputs[2])? else {
                return Ok(Some(self.unwrap(model, node)?));
            };
            // the first half belongs to the input-side product, which has been added up before
            let bias = f32s(&bias)?;
            ensure!(bias.len() == 6 * hidden, "{} biases for a hidden size of {hidden}", bias.len());
            bias[3 * hidden..].to_vec()
        } else {
            vec![0.0; 3 * hidden]
        };
        let dense = Dense {
            oc: 3 * hidden,
            ic: hidden,
            group: 1,
            kernel: [1, 1],
            pixels: model.outlet_fact(node.inputs[0])?.shape[0].to_usize().ok(),
            weights: f32s(&weights)?,
            bias: &bias,
        };
        let packed = self
            .choice
            .packing
            .pack(self.choice.target, &dense)
            .with_context(|| format!("packing the recurrent weights of {node}"))?;
        let op = OptSparseGru {
            hidden,
            backward: self.seq.chunk < 0,
            emit_y: self.seq.emit_y,
            reset_every_turn: self.seq.reset_every_turn,
            packed: Arc::new(packed),
            choice: self.choice,
        };
        let inputs = [node.inputs[0], node.inputs[node.inputs.len() - 1]];
        Ok(Some(TypedModelPatch::replace_single_op(model, node, &inputs, op)?))
    }

    as_op!();
}

/// A whole-sequence GRU whose recurrent matrix is packed for a sparse kernel.
///
/// Inputs: the input-side product `[batch, steps, 3 * hidden]`, gates in the order z, r, h, and the initial
/// state `[batch, 1, hidden]`. Outputs: the states `[batch, steps, hidden]` (none of them unless they are
/// asked for) and the last state `[batch, 1, hidden]`. As in the stock operator, the last state is that with
/// which the next turn begins, unless every turn begins with the initial one.
#[derive(Debug, Clone)]
pub struct OptSparseGru {
    hidden: usize,
    backward: bool,
    emit_y: bool,
    reset_every_turn: bool,
    /// The recurrent matrix and its biases.
    packed: Arc<Packed>,
    choice: Choice,
}

impl PartialEq for OptSparseGru {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.packed, &other.packed)
            && (self.backward, self.emit_y, self.reset_every_turn)
                == (other.backward, other.emit_y, other.reset_every_turn)
    }
}

impl Eq for OptSparseGru {}

impl OptSparseGru {
    /// The decision that made this layer sparse.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The packed recurrent matrix.
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// Size of the state.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Runs a sequence; leaves the last state in `state`, `[batch, hidden]`.
    fn run(&self, inputs: &[TValue], state: &mut Vec<f32>) -> TractResult<TVec<TValue>> {
        let hidden = self.hidden;
        let (product, initial) = (&inputs[0], &inputs[1]);
        let &[batch, steps, gates] = product.shape() else { bail!("input of rank {}", product.rank()) };
        ensure!(gates == 3 * hidden, "input has {gates} channels, expected {}", 3 * hidden);
        let product = f32s(product)?;
        if state.is_empty() || self.reset_every_turn {
            *state = f32s(initial)?.to_vec();
        }
        let cells = batch * hidden;
        ensure!(state.len() == cells, "the state holds {} values, expected {batch} x {hidden}", state.len());
        let geometry = ConvGeometry::new(ConvShape {
            input: [1, batch],
            x_layout: Layout::Interleaved,
            y_layout: Layout::Interleaved,
            ..ConvShape::square(hidden, 3 * hidden, 1, 1, 1, 0)
        })?;
        let mut recurrent = vec![0f32; batch * gates];
        let mut y = Tensor::zero::<f32>(&[batch, if self.emit_y { steps } else { 0 }, hidden])?;
        let mut states = y.try_as_plain_ram_mut()?;
        let states = states.as_slice_mut::<f32>()?;
        let work = geometry.y_len().max(of_products(self.packed.stored() * batch));
        with_threads(work, |parallel| -> TractResult<()> {
            for step in 0..steps {
                let at = if self.backward { steps - 1 - step } else { step };
                let epilogue = Epilogue::default();
                self.packed.run(&geometry, state, &mut recurrent, None, &epilogue, parallel)?;
                for (image, state) in state.chunks_exact_mut(hidden.max(1)).enumerate() {
                    let at = image * steps + at;
                    let (input, recurrent) =
                        (&product[at * gates..][..gates], &recurrent[image * gates..][..gates]);
                    gru_cell(self.choice.target, input, recurrent, state)?;
                    if self.emit_y {
                        states[at * hidden..][..hidden].copy_from_slice(state);
                    }
                }
            }
            Ok(())
        })
        .with_context(|| format!("in {}", self.choice.kernel().name))?;
        let last = Tensor::from_shape(&[batch, 1, hidden], state)?;
        Ok(tvec!(y.into_tvalue(), last.into_tvalue()))
    }
}

impl Op for OptSparseGru {
    fn name(&self) -> StaticName {
        "OptSparseGru".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let (stored, nnz) = (self.packed.stored(), self.packed.nnz());
        let dense = 3 * self.hidden * self.hidden;
        Ok(vec![
            self.choice.to_string(),
            format!(
                "hidden={} backward={} emit_y={} reset_every_turn={}",
                self.hidden, self.backward, self.emit_y, self.reset_every_turn
            ),
            format!(
                "{nnz} of {dense} recurrent weights are not zero ({:.1} %), {stored} stored",
                100.0 * nnz as f64 / dense as f64
            ),
        ])
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for OptSparseGru {
    not_out_of_plan!();

    fn state(&self, _ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(Some(Box::<GruState>::default()))
    }
}

/// The last state of the turn before; empty before the first.
#[derive(Debug, Clone, Default)]
struct GruState(Vec<f32>);

impl OpState for GruState {
    fn eval(&mut self, _ctx: &EvalContext, op: &dyn Op, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        op.downcast_ref::<OptSparseGru>().context("the state of another operator")?.run(&inputs, &mut self.0)
    }

    fn reset_lanes(&mut self, _lanes: &[LaneId]) -> TractResult<()> {
        bail!("OptSparseGru carries a single state, not one for each lane")
    }
}

impl TypedOp for OptSparseGru {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 2, "got {} inputs", inputs.len());
        let (batch, steps) = (inputs[0].shape[0].clone(), inputs[0].shape[1].clone());
        let steps = if self.emit_y { steps } else { 0.to_dim() };
        let hidden = self.hidden.to_dim();
        Ok(tvec!(f32::fact([batch.clone(), steps, hidden.clone()]), f32::fact([batch, 1.to_dim(), hidden])))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let uses = inputs[0].shape[0].clone() * &inputs[0].shape[1];
        let nnz = self.packed.nnz();
        Ok(tvec!(
            (Cost::FMA(f32::datum_type()), uses.clone() * nnz),
            (dense_fma(), uses * (3 * self.hidden * self.hidden)),
            (Cost::Params(f32::datum_type()), nnz.to_dim())
        ))
    }

    as_op!();
}
