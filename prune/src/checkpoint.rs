//! What long steps have come to so far, kept in a file, so that a call that was interrupted can go on from
//! there.
//!
//! The file starts with words that tell it from others; behind them are the key of the call, a checksum, and
//! the stages by name. What a stage has come to is a [`Record`], which it reads back itself.

use crate::apply::Plan;
use crate::runtime::Array;
use anyhow::Result;
use onnx_file::file;
use prost::Message;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tract_onnx::pb::ModelProto;

/// What the files begin with.
const MAGIC: &[u8] = b"tract-sparse prune 1\n";
/// At most so much work is lost by an interrupt, where writing takes no time.
const EVERY: Duration = Duration::from_secs(1);
/// Writing takes at most one part in so many of the time.
const SHARE: u32 = 20;

/// Tells one call from another: by what it works on, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// That of a call that works on `model` with `inputs`; `options` says everything else that decides what
    /// it comes to.
    pub fn of<'a>(
        model: &ModelProto,
        inputs: impl IntoIterator<Item = &'a Vec<Array>>,
        options: &str,
    ) -> Key {
        let mut hasher = DefaultHasher::new();
        model.encode_to_vec().hash(&mut hasher);
        for array in inputs.into_iter().flatten() {
            array.shape.hash(&mut hasher);
            array.data.iter().for_each(|value| value.to_bits().hash(&mut hasher));
        }
        options.hash(&mut hasher);
        Key(hasher.finish())
    }
}

/// A file of results, or nothing where none are to be kept.
#[derive(Debug, Default)]
pub struct Checkpoint {
    file: Option<Place>,
    stages: BTreeMap<String, Vec<u8>>,
    resumed: Vec<String>,
    note: Option<String>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    key: Key,
    /// When the file was written last, or the call began, and how long writing took.
    last: Instant,
    took: Duration,
    /// Whether there is such a file, of this call or another.
    there: bool,
}

impl Checkpoint {
    /// Goes on with the file at `path` if it is of a call of the same key. One that is of another call, or
    /// damaged, counts for nothing and is replaced; one that is something else is left alone, and nothing
    /// is kept. [`Checkpoint::note`] says so.
    pub fn open(path: &Path, key: Key) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        let name = path.display();
        let mut there = false;
        if std::fs::symlink_metadata(path).is_ok() {
            let bytes = std::fs::read(path).unwrap_or_default();
            let Some(rest) = bytes.strip_prefix(MAGIC) else {
                checkpoint.note = Some(format!("{name} is no file of prune's: nothing is kept aside"));
                return checkpoint;
            };
            there = true;
            match stages(rest, key) {
                Ok(stages) => checkpoint.stages = stages,
                Err(why) => checkpoint.note = Some(format!("{name} {why}: not used")),
            }
        }
        let (last, took) = (Instant::now(), Duration::ZERO);
        checkpoint.file = Some(Place { path: path.to_path_buf(), key, last, took, there });
        checkpoint
    }

    /// What a stage had come to.
    pub fn get(&self, stage: &str) -> Option<Reader<'_>> {
        self.stages.get(stage).map(|bytes| Reader(bytes))
    }

    /// Keeps what a stage has come to, in place of what was kept of it before; `record` is called only if
    /// anything is kept. The file is written once in a
    /// while; if it cannot be, nothing is kept from then on, and [`Checkpoint::note`] says why.
    pub fn put(&mut self, stage: &str, record: impl FnOnce() -> Record) {
        let Some(place) = &mut self.file else { return };
        self.stages.insert(stage.into(), record().0);
        if place.last.elapsed() < EVERY.max(SHARE * place.took) {
            return;
        }
        let start = Instant::now();
        match file::write(&place.path, &bytes(place.key, &self.stages)) {
            Ok(()) => {
                place.there = true;
                (place.last, place.took) = (Instant::now(), start.elapsed());
            }
            Err(error) => {
                self.note = Some(format!("nothing is kept aside: {error:#}"));
                self.file = None;
            }
        }
    }

    /// Notes a step that need not be done again.
    pub fn resume(&mut self, step: String) {
        self.resumed.push(step);
    }

    /// The steps that were taken from the file.
    pub fn resumed(&self) -> &[String] {
        &self.resumed
    }

    /// Why a file that was there is not used, or none could be written.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Removes the file: the call has come to its end.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&mut self) -> Result<()> {
        match self.file.take() {
            Some(place) if place.there => Ok(std::fs::remove_file(&place.path)?),
            _ => Ok(()),
        }
    }
}

/// Who is told how far a long computation is, and where what it comes to is kept.
pub struct Steps<'a> {
    /// Called before every step with its number, from 0, and the number of all.
    pub say: &'a mut dyn FnMut(usize, usize),
    /// What has been done before, and is done now.
    pub kept: &'a mut Checkpoint,
}

fn checksum(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

fn bytes(key: Key, stages: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut body = Record::default();
    for (stage, bytes) in stages {
        body.text(stage);
        body.bytes(bytes);
    }
    [MAGIC, &key.0.to_le_bytes(), &checksum(&body.0).to_le_bytes(), &body.0].concat()
}

/// What is behind [`MAGIC`], or what is wrong with it.
fn stages(rest: &[u8], key: Key) -> Result<BTreeMap<String, Vec<u8>>, &'static str> {
    let damaged = "is damaged";
    let (found, rest) = rest.split_first_chunk::<8>().ok_or(damaged)?;
    let (sum, body) = rest.split_first_chunk::<8>().ok_or(damaged)?;
    if u64::from_le_bytes(*sum) != checksum(body) {
        return Err(damaged);
    }
    if u64::from_le_bytes(*found) != key.0 {
        return Err("is of another call");
    }
    let (mut reader, mut stages) = (Reader(body), BTreeMap::new());
    while !reader.0.is_empty() {
        let stage = reader.text().ok_or(damaged)?;
        stages.insert(stage, reader.bytes().ok_or(damaged)?.to_vec());
    }
    Ok(stages)
}

/// What a stage has come to: numbers, words and bytes in the order in which a [`Reader`] gets them back.
#[derive(Debug, Default)]
pub struct Record(Vec<u8>);

impl Record {
    /// Adds a count.
    pub fn count(&mut self, count: usize) {
        self.0.extend((count as u64).to_le_bytes());
    }

    /// Adds a number, to the last bit.
    pub fn number(&mut self, number: f64) {
        self.0.extend(number.to_le_bytes());
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend(bytes);
    }

    /// Adds words.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Adds a model.
    pub fn model(&mut self, model: &ModelProto) {
        self.bytes(&model.encode_to_vec());
    }

    /// Adds what is going to happen to each layer of a plan.
    pub fn plan(&mut self, plan: &Plan) {
        self.count(plan.layers.len());
        for entry in &plan.layers {
            self.count(usize::from(entry.is_ok()));
            match entry {
                Ok(planned) => self.number(planned.wish.ratio),
                Err(skip) => self.text(&skip.reason),
            }
        }
    }
}

/// Reads a [`Record`] from its beginning; `None` where it does not go on as expected.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn word(&mut self) -> Option<[u8; 8]> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*word)
    }

    /// The next count.
    pub fn count(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.word()?)).ok()
    }

    /// The next number.
    pub fn number(&mut self) -> Option<f64> {
        Some(f64::from_le_bytes(self.word()?))
    }

    /// The next bytes.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next words.
    pub fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    /// The next model.
    pub fn model(&mut self) -> Option<ModelProto> {
        ModelProto::decode(self.bytes()?).ok()
    }

    /// The next plan: `plan` with its ratios, and with the layers left alone that it left alone.
    pub fn plan(&mut self, plan: &Plan) -> Option<Plan> {
        let mut plan = plan.clone();
        (self.count()? == plan.layers.len()).then_some(())?;
        for entry in &mut plan.layers {
            let kept = self.count()? == 1;
            let (ratio, reason) = if kept { (self.number()?, String::new()) } else { (0.0, self.text()?) };
            match entry {
                Ok(planned) if kept => planned.wish.ratio = ratio,
                Ok(planned) => *entry = Err(planned.left(&reason)),
                Err(_) if kept => return None,
                Err(_) => {}
            }
        }
        Some(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key(7);

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("checkpoint-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A checkpoint that has written a stage.
    fn written(path: &Path) -> Checkpoint {
        let mut checkpoint = Checkpoint::open(path, KEY);
        checkpoint.file.as_mut().unwrap().last = Instant::now().checked_sub(EVERY).unwrap();
        let mut record = Record::default();
        record.count(3);
        record.number(0.1);
        record.text("pw1");
        checkpoint.put("stage", || record);
        assert!(path.is_file(), "{:?}", checkpoint.note());
        checkpoint
    }

    #[test]
    fn what_was_put_comes_back_until_it_is_removed() {
        let folder = folder("back");
        let path = folder.join("p.resume");
        drop(written(&path));
        let mut again = Checkpoint::open(&path, KEY);
        let mut reader = again.get("stage").unwrap();
        assert_eq!(
            (reader.count(), reader.number(), reader.text().as_deref()),
            (Some(3), Some(0.1), Some("pw1"))
        );
        assert_eq!((reader.count(), again.get("other").is_none(), again.note()), (None, true, None));
        again.remove().unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Work of less than a second leaves no file.
    #[test]
    fn short_work_writes_nothing() {
        let folder = folder("short");
        let mut checkpoint = Checkpoint::open(&folder.join("p.resume"), KEY);
        checkpoint.put("stage", Record::default);
        assert!(checkpoint.get("stage").is_some());
        checkpoint.remove().unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn files_of_others_and_damaged_ones_count_for_nothing() {
        let folder = folder("foreign");
        let path = folder.join("p.resume");
        drop(written(&path));
        let other = Checkpoint::open(&path, Key(8));
        assert!(
            other.get("stage").is_none() && other.note().unwrap().ends_with("is of another call: not used")
        );
        let whole = std::fs::read(&path).unwrap();
        for at in MAGIC.len() + 8..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let damaged = Checkpoint::open(&path, KEY);
            assert!(damaged.get("stage").is_none() && damaged.note().unwrap().contains("damaged"), "{at}");
        }
        for len in MAGIC.len()..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(Checkpoint::open(&path, KEY).note().unwrap().contains("damaged"), "{len}");
        }
        // a damaged one is written over
        drop(written(&path));
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        // what is something else stays, whatever becomes of the call
        std::fs::write(&path, "mine").unwrap();
        let mut mine = Checkpoint::open(&path, KEY);
        assert!(mine.note().unwrap().contains("no file of prune's"));
        mine.put("stage", Record::default);
        mine.remove().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn keys_tell_models_inputs_and_options_apart() {
        let model = ModelProto { ir_version: 7, ..ModelProto::default() };
        let inputs = |value| vec![vec![Array { shape: vec![1], data: vec![value] }]];
        let key = Key::of(&model, &inputs(1.0), "a");
        assert_eq!(key, Key::of(&model.clone(), &inputs(1.0), "a"));
        assert_ne!(key, Key::of(&ModelProto::default(), &inputs(1.0), "a"));
        assert_ne!(key, Key::of(&model, &inputs(2.0), "a"));
        assert_ne!(key, Key::of(&model, &inputs(1.0), "b"));
    }
}
