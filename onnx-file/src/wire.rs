//! Writes an edited message over the bytes that it was read from: what has not been edited is copied byte by byte, fields
//! that this version of the format does not know included.

use anyhow::{Context, Result, ensure};
use prost::Message;
use std::collections::VecDeque;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};

/// One field of an encoded message: its number, the bytes of the whole field, and of its content if it has a length.
struct Field<'a> {
    number: u64,
    whole: &'a [u8],
    content: &'a [u8],
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).context("the message ends within a number")?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    anyhow::bail!("a number of more than ten bytes")
}

fn fields(bytes: &[u8]) -> Result<Vec<Field<'_>>> {
    let (mut fields, mut at) = (vec![], 0);
    while at < bytes.len() {
        let start = at;
        let key = varint(bytes, &mut at)?;
        let mut content = at..at;
        match key & 7 {
            0 => drop(varint(bytes, &mut at)?),
            1 => at += 8,
            5 => at += 4,
            2 => {
                let length = usize::try_from(varint(bytes, &mut at)?)?;
                let end = at.checked_add(length).context("a field of absurd length")?;
                content = at..end;
                at = end;
            }
            other => anyhow::bail!("wire type {other} is not supported"),
        }
        ensure!(at <= bytes.len(), "the message ends within a field");
        fields.push(Field { number: key >> 3, whole: &bytes[start..at], content: &bytes[content] });
    }
    Ok(fields)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Encodes `now` so that it replaces `bytes`, which decode to `was`.
///
/// # Errors
/// `bytes` are not a message that this can take apart.
pub fn model(bytes: &[u8], was: &ModelProto, now: &ModelProto) -> Result<Vec<u8>> {
    // everything but graph and metadata, to see whether the rest was edited
    let rest = |model: &ModelProto| ModelProto {
        graph: None,
        metadata_props: vec![],
        ir_version: 0,
        ..model.clone_shell()
    };
    let (Some(old_graph), Some(new_graph)) = (&was.graph, &now.graph) else { return Ok(now.encode_to_vec()) };
    ensure!(rest(was) == rest(now), "only the graph, the metadata and the IR version can be edited");
    let mut metadata = Items::new(14, &was.metadata_props, &now.metadata_props);
    let (fields, mut out) = (fields(bytes)?, vec![]);
    let graphs = fields.iter().filter(|field| field.number == 7).count();
    // a message may come in pieces, which readers put together
    ensure!(graphs == 1, "the graph of the file is in {graphs} pieces");
    for field in fields {
        match field.number {
            1 if was.ir_version != now.ir_version => {}
            7 => put(&mut out, 7, &graph(field.content, old_graph, new_graph)?),
            14 => metadata.next(&mut out, &field, false)?,
            _ => out.extend_from_slice(field.whole),
        }
    }
    metadata.rest(&mut out);
    if was.ir_version != now.ir_version {
        put_varint(&mut out, 1 << 3);
        put_varint(&mut out, now.ir_version as u64);
    }
    Ok(out)
}

trait Shell {
    fn clone_shell(&self) -> Self;
}

impl Shell for ModelProto {
    /// A copy without the graph.
    fn clone_shell(&self) -> ModelProto {
        ModelProto {
            opset_import: self.opset_import.clone(),
            producer_name: self.producer_name.clone(),
            producer_version: self.producer_version.clone(),
            domain: self.domain.clone(),
            model_version: self.model_version,
            doc_string: self.doc_string.clone(),
            functions: self.functions.clone(),
            training_info: self.training_info.clone(),
            ..Default::default()
        }
    }
}

fn graph(bytes: &[u8], was: &GraphProto, now: &GraphProto) -> Result<Vec<u8>> {
    let mut nodes = Items::<NodeProto>::new(1, &was.node, &now.node);
    let mut initializers = Items::<TensorProto>::new(5, &was.initializer, &now.initializer);
    let mut sparse = Items::<SparseTensorProto>::new(15, &was.sparse_initializer, &now.sparse_initializer);
    let mut infos = Items::new(13, &was.value_info, &now.value_info);
    ensure!(
        was.input == now.input && was.output == now.output && was.name == now.name,
        "names, inputs and outputs of the graph cannot be edited"
    );
    let mut out = vec![];
    for field in fields(bytes)? {
        match field.number {
            1 => nodes.next(&mut out, &field, true)?,
            5 => initializers.next(&mut out, &field, true)?,
            13 => infos.next(&mut out, &field, true)?,
            15 => sparse.next(&mut out, &field, true)?,
            _ => out.extend_from_slice(field.whole),
        }
    }
    nodes.rest(&mut out);
    initializers.rest(&mut out);
    infos.rest(&mut out);
    sparse.rest(&mut out);
    Ok(out)
}

/// A repeated field. An item that equals one of the original's, at or after the current place, is copied from there.
struct Items<'a, M> {
    number: u64,
    was: VecDeque<&'a M>,
    now: VecDeque<&'a M>,
}

impl<'a, M: Message + PartialEq + Default> Items<'a, M> {
    fn new(number: u64, was: &'a [M], now: &'a [M]) -> Self {
        Items { number, was: was.iter().collect(), now: now.iter().collect() }
    }

    /// The field of the original in this place: copied if its item stays, replaced if it was edited, left out if it
    /// was removed.
    fn next(&mut self, out: &mut Vec<u8>, field: &Field, unknown: bool) -> Result<()> {
        let was = self.was.pop_front().context("more fields than were decoded")?;
        match self.now.front() {
            Some(now) if *now == was => {
                out.extend_from_slice(field.whole);
                self.now.pop_front();
            }
            // removed: what comes now is what came next
            Some(now) if self.was.front() == Some(now) => {}
            Some(now) => {
                let mut content = now.encode_to_vec();
                if unknown {
                    let lost = fields(field.content)?.into_iter().filter(lost::<M>);
                    lost.for_each(|field| content.extend_from_slice(field.whole));
                }
                put(out, self.number, &content);
                self.now.pop_front();
            }
            None => {}
        }
        Ok(())
    }

    /// Items added at the end.
    fn rest(&mut self, out: &mut Vec<u8>) {
        self.now.drain(..).for_each(|item| put(out, self.number, &item.encode_to_vec()));
    }
}

/// Whether decoding loses this field: alone it decodes to the empty message, and yet it holds something.
fn lost<M: Message + PartialEq + Default>(field: &Field) -> bool {
    let mut payload = 0;
    let holds = varint(field.whole, &mut payload).is_ok() && field.whole[payload..].iter().any(|b| *b != 0);
    holds && M::decode(field.whole).is_ok_and(|m| m == M::default())
}
