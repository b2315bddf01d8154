//! Writes an edited message over the bytes that it was read from: what has not been edited is copied byte by
//! byte, fields that this version of the format does not know included.

use anyhow::{Context, Result, ensure};
use prost::Message;
use std::collections::HashMap;
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, ValueInfoProto,
};

/// One field of an encoded message: its number, the bytes of the whole field, and of its content if it has a
/// length.
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
    // everything but graph, functions and metadata, to see whether the rest was edited
    let rest = |model: &ModelProto| ModelProto {
        graph: None,
        metadata_props: vec![],
        functions: vec![],
        ir_version: 0,
        ..model.clone_shell()
    };
    ensure!(
        rest(was) == rest(now),
        "only the graph, the functions, the metadata and the IR version can be edited"
    );
    let fields = fields(bytes)?;
    // a message may come in pieces, which readers put together
    let graphs = fields.iter().filter(|field| field.number == 7).count();
    ensure!(graphs <= 1, "the graph of the file is in {graphs} pieces");
    let none = Lost::new();
    let mut graph = Items::new(&fields, 7, was.graph.as_slice(), now.graph.as_slice(), &none);
    let mut metadata = Items::new(&fields, 14, &was.metadata_props, &now.metadata_props, &none);
    let mut functions = Items::new(&fields, 25, &was.functions, &now.functions, &none);
    let mut out = vec![];
    for field in &fields {
        match field.number {
            1 if was.ir_version != now.ir_version => {}
            7 => graph.next(&mut out)?,
            14 => metadata.next(&mut out)?,
            25 => functions.next(&mut out)?,
            _ => out.extend_from_slice(field.whole),
        }
    }
    graph.rest(&mut out)?;
    metadata.rest(&mut out)?;
    functions.rest(&mut out)?;
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
    /// A copy without graph and functions.
    fn clone_shell(&self) -> ModelProto {
        ModelProto {
            opset_import: self.opset_import.clone(),
            producer_name: self.producer_name.clone(),
            producer_version: self.producer_version.clone(),
            domain: self.domain.clone(),
            model_version: self.model_version,
            doc_string: self.doc_string.clone(),
            training_info: self.training_info.clone(),
            ..Default::default()
        }
    }
}

/// Fields that decoding has lost of tensors that are no longer where they were, by name.
type Lost = HashMap<String, Vec<u8>>;

/// A message that can be edited, with the others that are in it.
trait Item: Message + PartialEq + Default {
    /// What tells it from its neighbours.
    fn key(&self) -> &str;

    /// Its encoding in place of `bytes`, which decode to `was`.
    fn over(&self, bytes: &[u8], _was: &Self) -> Result<Vec<u8>> {
        let mut out = self.encode_to_vec();
        out.extend(lost::<Self>(&fields(bytes)?));
        Ok(out)
    }

    /// Its encoding where there was none of its name, with fields that a tensor of the name had elsewhere.
    fn added(&self, _lost: &[u8]) -> Vec<u8> {
        self.encode_to_vec()
    }
}

impl Item for StringStringEntryProto {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Item for ValueInfoProto {
    fn key(&self) -> &str {
        &self.name
    }
}

impl Item for TensorProto {
    fn key(&self) -> &str {
        &self.name
    }

    fn added(&self, lost: &[u8]) -> Vec<u8> {
        [&self.encode_to_vec(), lost].concat()
    }
}

impl Item for SparseTensorProto {
    fn key(&self) -> &str {
        self.values.as_ref().map_or("", |values| &values.name)
    }

    fn over(&self, bytes: &[u8], was: &Self) -> Result<Vec<u8>> {
        let (fields, none) = (fields(bytes)?, Lost::new());
        let mut out = SparseTensorProto { dims: self.dims.clone(), ..Default::default() }.encode_to_vec();
        out.extend(lost::<Self>(&fields));
        Items::new(&fields, 1, was.values.as_slice(), self.values.as_slice(), &none).rest(&mut out)?;
        Items::new(&fields, 2, was.indices.as_slice(), self.indices.as_slice(), &none).rest(&mut out)?;
        Ok(out)
    }

    fn added(&self, lost: &[u8]) -> Vec<u8> {
        let mut out = SparseTensorProto { values: None, ..self.clone() }.encode_to_vec();
        self.values.iter().for_each(|values| put(&mut out, 1, &values.added(lost)));
        out
    }
}

impl Item for AttributeProto {
    fn key(&self) -> &str {
        &self.name
    }

    fn over(&self, bytes: &[u8], was: &Self) -> Result<Vec<u8>> {
        let (fields, none) = (fields(bytes)?, Lost::new());
        let mut shell = self.clone();
        (shell.t, shell.g, shell.sparse_tensor) = (None, None, None);
        (shell.tensors, shell.graphs, shell.sparse_tensors) = (vec![], vec![], vec![]);
        let mut out = shell.encode_to_vec();
        out.extend(lost::<Self>(&fields));
        Items::new(&fields, 5, was.t.as_slice(), self.t.as_slice(), &none).rest(&mut out)?;
        Items::new(&fields, 6, was.g.as_slice(), self.g.as_slice(), &none).rest(&mut out)?;
        Items::new(&fields, 10, &was.tensors, &self.tensors, &none).rest(&mut out)?;
        Items::new(&fields, 11, &was.graphs, &self.graphs, &none).rest(&mut out)?;
        let (old, new) = (was.sparse_tensor.as_slice(), self.sparse_tensor.as_slice());
        Items::new(&fields, 22, old, new, &none).rest(&mut out)?;
        Items::new(&fields, 23, &was.sparse_tensors, &self.sparse_tensors, &none).rest(&mut out)?;
        Ok(out)
    }
}

impl Item for NodeProto {
    fn key(&self) -> &str {
        self.output.first().unwrap_or(&self.name)
    }

    fn over(&self, bytes: &[u8], was: &Self) -> Result<Vec<u8>> {
        let fields = fields(bytes)?;
        let mut out = NodeProto { attribute: vec![], ..self.clone() }.encode_to_vec();
        out.extend(lost::<Self>(&fields));
        Items::new(&fields, 5, &was.attribute, &self.attribute, &Lost::new()).rest(&mut out)?;
        Ok(out)
    }
}

impl Item for FunctionProto {
    fn key(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn over(&self, bytes: &[u8], was: &Self) -> Result<Vec<u8>> {
        let fields = fields(bytes)?;
        let mut out = FunctionProto { node: vec![], ..self.clone() }.encode_to_vec();
        out.extend(lost::<Self>(&fields));
        Items::new(&fields, 7, &was.node, &self.node, &Lost::new()).rest(&mut out)?;
        Ok(out)
    }
}

impl Item for GraphProto {
    fn key(&self) -> &str {
        &self.name
    }

    fn over(&self, bytes: &[u8], was: &Self) -> Result<Vec<u8>> {
        ensure!(
            was.input == self.input && was.output == self.output && was.name == self.name,
            "names, inputs and outputs of a graph cannot be edited"
        );
        let fields = fields(bytes)?;
        let none = Lost::new();
        let mut nodes = Items::new(&fields, 1, &was.node, &self.node, &none);
        let mut infos = Items::new(&fields, 13, &was.value_info, &self.value_info, &none);
        // a tensor that becomes sparse, or dense, takes its fields along
        let mut moved = Lost::new();
        let dense = Items::new(&fields, 5, &was.initializer, &self.initializer, &none);
        for (content, tensor) in dense.removed() {
            moved.insert(tensor.name.clone(), lost::<TensorProto>(&self::fields(content)?));
        }
        let sparse = Items::new(&fields, 15, &was.sparse_initializer, &self.sparse_initializer, &none);
        for (content, tensor) in sparse.removed() {
            let inner = self::fields(content)?;
            if let Some(values) = inner.iter().find(|field| field.number == 1) {
                moved.insert(tensor.key().into(), lost::<TensorProto>(&self::fields(values.content)?));
            }
        }
        let mut dense = Items { moved: &moved, ..dense };
        let mut sparse = Items { moved: &moved, ..sparse };
        let mut out = vec![];
        for field in &fields {
            match field.number {
                1 => nodes.next(&mut out)?,
                5 => dense.next(&mut out)?,
                13 => infos.next(&mut out)?,
                15 => sparse.next(&mut out)?,
                _ => out.extend_from_slice(field.whole),
            }
        }
        nodes.rest(&mut out)?;
        dense.rest(&mut out)?;
        infos.rest(&mut out)?;
        sparse.rest(&mut out)?;
        Ok(out)
    }
}

/// A field that may be repeated: what was in it, and what is to be. An item is the one that it was if it has
/// its key, or where several have that key, if it is equal. It is copied if it is equal, and else written
/// over it.
struct Items<'a, M> {
    number: u64,
    was: Vec<(&'a Field<'a>, &'a M)>,
    now: &'a [M],
    /// For every item of `now`, its place in `was`, and the other way round.
    from: Vec<Option<usize>>,
    to: Vec<Option<usize>>,
    /// How many of `was` have been passed, and of `now` written.
    passed: usize,
    written: usize,
    moved: &'a Lost,
}

impl<'a, M: Item> Items<'a, M> {
    fn new(fields: &'a [Field], number: u64, was: &'a [M], now: &'a [M], moved: &'a Lost) -> Self {
        let mut was: Vec<_> = fields.iter().filter(|field| field.number == number).zip(was).collect();
        // one message in several parts is none of them
        if fields.iter().filter(|field| field.number == number).count() != was.len() {
            was.clear();
        }
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        was.iter().enumerate().for_each(|(i, (_, item))| places.entry(item.key()).or_default().push(i));
        let mut keys: HashMap<&str, usize> = HashMap::new();
        now.iter().for_each(|item| *keys.entry(item.key()).or_default() += 1);
        let mut to = vec![None; was.len()];
        let from = now.iter().enumerate().map(|(at, item)| {
            let places = places.get(item.key())?;
            let unique = places.len() == 1 && keys.get(item.key()) == Some(&1);
            let found = places.iter().find(|i| to[**i].is_none() && (unique || was[**i].1 == item))?;
            to[*found] = Some(at);
            Some(*found)
        });
        let from = from.collect();
        Items { number, was, now, from, to, passed: 0, written: 0, moved }
    }

    /// The content and the value of what is in no place any more.
    fn removed(&self) -> impl Iterator<Item = (&'a [u8], &'a M)> {
        let removed = self.was.iter().zip(&self.to).filter(|(_, to)| to.is_none());
        removed.map(|((field, item), _)| (field.content, *item))
    }

    /// Passes a field of the original, and writes the items up to the one that was in it.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let place = self.passed;
        self.passed += 1;
        match self.to.get(place) {
            Some(Some(last)) => self.until(out, last + 1),
            _ => Ok(()),
        }
    }

    /// Writes the items that are left.
    fn rest(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.until(out, self.now.len())
    }

    fn until(&mut self, out: &mut Vec<u8>, end: usize) -> Result<()> {
        while self.written < end {
            let item = &self.now[self.written];
            match self.from[self.written].map(|i| self.was[i]) {
                Some((field, was)) if was == item => out.extend_from_slice(field.whole),
                Some((field, was)) => put(out, self.number, &item.over(field.content, was)?),
                None => {
                    let lost = self.moved.get(item.key()).map_or(&[][..], |lost| lost);
                    put(out, self.number, &item.added(lost));
                }
            }
            self.written += 1;
        }
        Ok(())
    }
}

/// The fields that decoding loses: alone, such a field decodes to the empty message, and yet it holds
/// something.
fn lost<M: Message + PartialEq + Default>(fields: &[Field]) -> Vec<u8> {
    let is_lost = |field: &&Field| {
        let mut payload = 0;
        let holds =
            varint(field.whole, &mut payload).is_ok() && field.whole[payload..].iter().any(|b| *b != 0);
        holds && M::decode(field.whole).is_ok_and(|m| m == M::default())
    };
    fields.iter().filter(is_lost).flat_map(|field| field.whole.iter().copied()).collect()
}
