//! Channels that are one, channels that must stay, and the lists that constants are indexed by.

use super::Channels;
use crate::layer::{Constants, Place, captured_names};
use crate::onnx::tensor;
use crate::rearrange::labels::{Label, Labels};
use anyhow::{Result, ensure};
use std::collections::{BTreeMap, HashMap, HashSet};
use tract_onnx::pb::{GraphProto, NodeProto};

/// What is known of the channels of a graph, while its nodes are gone through.
pub(super) struct Tracker<'a> {
    pub(super) graph: &'a GraphProto,
    pub(super) constants: Constants,
    pub(super) shapes: HashMap<String, Vec<usize>>,
    parent: Vec<u32>,
    pinned: Vec<bool>,
    pub(super) values: HashMap<String, Labels>,
    lists: Vec<(Place, usize, Vec<Label>)>,
    list_of: HashMap<(Place, usize), usize>,
    /// Lists that must hold the same channels afterwards without being those of a constant.
    pub(super) closed: Vec<Vec<Label>>,
    /// Constants that must not change at all.
    pub(super) fixed: HashSet<Place>,
    /// Tensors that somebody reads.
    read: HashSet<String>,
}

impl<'a> Tracker<'a> {
    /// Nothing followed yet in a graph whose tensors have these shapes.
    pub(super) fn new(graph: &'a GraphProto, shapes: HashMap<String, Vec<usize>>) -> Tracker<'a> {
        let read = graph.node.iter().flat_map(|n| n.input.iter().cloned().chain(captured_names(n)));
        let outputs = graph.output.iter().map(|o| o.name.clone());
        Tracker {
            graph,
            constants: Constants::of(graph),
            shapes,
            parent: vec![],
            pinned: vec![],
            values: HashMap::new(),
            lists: vec![],
            list_of: HashMap::new(),
            closed: vec![],
            fixed: HashSet::new(),
            read: read.chain(outputs).collect(),
        }
    }

    /// Whether somebody reads an output that no rule has followed: indices of maxima and statistics of a
    /// batch, say, depend on the places of channels in ways of their own.
    pub(super) fn has_unfollowed_output(&self, node: &NodeProto) -> bool {
        let plain = ["Constant", "Shape", "Size"].contains(&&*node.op_type);
        let unfollowed = |o: &&String| {
            !o.is_empty()
                && self.read.contains(*o)
                && !self.values.contains_key(*o)
                && self.constants.place(o).is_none()
        };
        !plain && node.output.iter().any(|o| unfollowed(&o))
    }

    pub(super) fn set(&mut self, name: &str, labels: Labels) -> Option<()> {
        if self.shapes.get(name)? != &labels.shape {
            return None;
        }
        self.values.insert(name.to_string(), labels);
        Some(())
    }

    pub(super) fn fresh(&mut self, n: usize, pinned: bool) -> Vec<Label> {
        let first = self.parent.len() as u32;
        self.parent.extend(first..first + n as u32);
        self.pinned.resize(self.pinned.len() + n, pinned);
        (first..first + n as u32).map(|atom| Label { atom, tag: 0 }).collect()
    }

    fn root(&mut self, mut atom: u32) -> u32 {
        while self.parent[atom as usize] != atom {
            let up = self.parent[self.parent[atom as usize] as usize];
            self.parent[atom as usize] = up;
            atom = up;
        }
        atom
    }

    pub(super) fn pin(&mut self, labels: &[Label]) {
        for label in labels {
            let root = self.root(label.atom);
            self.pinned[root as usize] = true;
        }
    }

    pub(super) fn unify(&mut self, a: &[Label], b: &[Label]) {
        for (a, b) in a.iter().zip(b) {
            if a.tag != b.tag {
                self.pin(&[*a, *b]);
                continue;
            }
            let (a, b) = (self.root(a.atom), self.root(b.atom));
            self.parent[b as usize] = a;
            self.pinned[a as usize] |= self.pinned[b as usize];
        }
    }

    pub(super) fn pin_value(&mut self, name: &str) {
        if let Some(labels) = self.values.get(name) {
            let data = labels.data.clone();
            self.pin(&data);
        }
        self.fixed.extend(self.constants.place(name));
    }

    pub(super) fn dims(&self, place: Place) -> Option<Vec<usize>> {
        tensor::shape(&place.get(self.graph)?.dims).ok()
    }

    /// The channels along an axis of a constant.
    pub(super) fn axis(&mut self, place: Place, axis: usize) -> Option<Vec<Label>> {
        if let Some(at) = self.list_of.get(&(place, axis)) {
            return Some(self.lists[*at].2.clone());
        }
        let n = *self.dims(place)?.get(axis)?;
        let list = self.fresh(n, false);
        self.list_of.insert((place, axis), self.lists.len());
        self.lists.push((place, axis, list.clone()));
        Some(list)
    }

    /// Says which channels a constant is indexed by; they stay in place if nobody knows.
    pub(super) fn bind(&mut self, place: Place, axis: usize, channels: Option<&[Label]>) -> Option<()> {
        let list = self.axis(place, axis)?;
        match channels {
            Some(channels) if channels.len() == list.len() => self.unify(&list, channels),
            _ => {
                self.pin(&list);
                self.pin(channels.unwrap_or(&[]));
            }
        }
        Some(())
    }

    /// The channels of an activation along an axis; pins them if they are not in one list.
    pub(super) fn channels_of(&mut self, name: &str, axis: usize) -> Option<Vec<Label>> {
        let list = self.values.get(name).and_then(|l| l.list(axis)).map(<[Label]>::to_vec);
        if list.is_none() {
            self.pin_value(name);
        }
        list
    }

    /// The lists of channels of all constants, and which channels may be exchanged.
    pub(super) fn finish(mut self) -> Result<Channels> {
        for output in &self.graph.output {
            self.pin_value(&output.name);
        }
        let lists = std::mem::take(&mut self.lists);
        for (place, _, list) in &lists {
            // read by a subgraph, by an operator without a rule, or given to the outside
            if self.fixed.contains(place) || self.constants.is_captured(*place) {
                self.pin(list);
            }
        }
        let canonical = |tracker: &mut Self, list: &[Label]| -> Vec<Label> {
            list.iter().map(|l| Label { atom: tracker.root(l.atom), tag: l.tag }).collect()
        };
        let lists: Vec<(Place, usize, Vec<Label>)> =
            lists.into_iter().map(|(p, a, list)| (p, a, canonical(&mut self, &list))).collect();
        let closed: Vec<Vec<Label>> =
            std::mem::take(&mut self.closed).iter().map(|l| canonical(&mut self, l)).collect();
        // where each channel occurs: list, tag and how often
        let mut sites: BTreeMap<u32, BTreeMap<(usize, u32), usize>> = BTreeMap::new();
        for (site, list) in lists.iter().map(|l| &l.2).chain(&closed).enumerate() {
            for label in list {
                *sites.entry(label.atom).or_default().entry((site, label.tag)).or_default() += 1;
            }
        }
        let mut classes: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for (atom, sites) in sites {
            if !self.pinned[atom as usize] {
                classes.entry(sites).or_default().push(atom);
            }
        }
        let mut classes: Vec<Vec<u32>> = classes.into_values().filter(|c| c.len() > 1).collect();
        classes.sort();
        ensure!(self.parent.len() < u32::MAX as usize, "too many channels");
        Ok(Channels { lists, classes })
    }
}
