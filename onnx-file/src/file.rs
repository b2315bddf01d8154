//! Files that are written whole or not at all, and never over what a model reads.

use crate::external;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::{Builder, NamedTempFile, TempDir, TempPath};

/// Links that are followed from one name to the next before they are taken for a circle: as many as Linux
/// follows.
const LINKS: usize = 40;
/// Bytes of a file's name that its name aside repeats; file systems allow 255 in all.
const NAME: usize = 200;
const END: &str = ".part";
/// Attempts to remove a folder.
const ATTEMPTS: usize = 100;

/// Writes `bytes` to `path`, as a [`Draft`] does.
///
/// # Errors
/// As [`Draft::new`] and [`Draft::commit`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = || format!("cannot write {}", path.display());
    if let Target::Device(device) = Target::of(path).with_context(name)? {
        return device.put(&mut &*bytes).with_context(name);
    }
    let mut draft = Draft::new(path)?;
    draft.write_all(bytes).with_context(name)?;
    draft.commit()
}

/// A file in the making. Its content goes into a new file beside `path`, which takes that name when it is
/// complete: a reader never sees half a file, and what was there before stays until then. Dropped before, it
/// leaves nothing.
///
/// A file that is replaced keeps its mode and, as far as the system permits, its owner and group; where the
/// group cannot be kept, the new one gets no more rights than everybody. A link stays: the file that it names
/// is replaced. Devices and pipes get the content when it is complete.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    target: Target,
    file: BufWriter<File>,
    content: TempPath,
    aside: Aside,
}

impl Draft {
    /// Begins the file that is to be `path`.
    ///
    /// # Errors
    /// The folder is missing or not writable; `path` is a folder, a read-only file, or a file that a model
    /// beside it (or in a folder above) names as its external data. The message names the path.
    pub fn new(path: &Path) -> Result<Draft> {
        Draft::begin(path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn begin(path: &Path) -> Result<Draft> {
        let target = Target::of(path)?;
        let (folder, old) = match &target {
            Target::Device(_) => (std::env::temp_dir(), None),
            Target::File { path, old } => {
                if old.is_some() {
                    external::refuse_data(path)?;
                }
                (folder_of(path).to_path_buf(), old.as_ref())
            }
        };
        let name = path.file_name().context("the path has no file name")?.to_string_lossy();
        let make = |aside: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true);
            rights::begin(&mut options, old);
            options.open(aside)
        };
        let (file, aside) = Aside::make(
            || Builder::new().prefix(&prefix(&name)).suffix(END).make_in(&folder, make),
            NamedTempFile::path,
        )?;
        let (file, content) = file.into_parts();
        Ok(Draft { path: path.to_path_buf(), target, file: BufWriter::new(file), content, aside })
    }

    /// Writes out what is still in memory and returns the path under which the content can be read back until
    /// the draft is committed.
    ///
    /// # Errors
    /// The disk is full.
    pub fn content(&mut self) -> Result<&Path> {
        self.file.flush().with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(&self.content)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// The disk is full, the folder is read-only or gone. Nothing has changed then.
    pub fn commit(self) -> Result<()> {
        let path = self.path.clone();
        self.commit_behind(None).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Gives two files their names, `first` before this one, which reads it. Nothing may have the name of
    /// `first`.
    ///
    /// # Errors
    /// As [`Draft::commit`]; neither file has changed then.
    pub fn commit_after(self, first: Draft) -> Result<()> {
        let path = self.path.clone();
        self.commit_behind(Some(first)).with_context(|| format!("cannot write {}", path.display()))
    }

    fn commit_behind(mut self, first: Option<Draft>) -> Result<()> {
        let path = match &self.target {
            Target::Device(device) => {
                ensure!(first.is_none(), "it is no file");
                self.file.rewind()?;
                return device.put(self.file.get_mut());
            }
            Target::File { path, old } => {
                self.file.flush()?;
                let file = self.file.get_ref();
                if let Some(old) = old {
                    rights::keep(file, old)?;
                }
                file.sync_all()?;
                path.clone()
            }
        };
        let (first, _aside) = first.map(Draft::settled).transpose()?.unzip();
        // an interrupt waits from here on: both names change or neither does
        let _asides = asides();
        let mut new = None;
        if let Some((content, path)) = first {
            content.persist_noclobber(&path).map_err(|e| e.error)?;
            sync_folder(&path);
            new = Some(path);
        }
        if let Err(e) = self.content.persist(&path) {
            // nothing can have read it yet
            let _ = new.map(std::fs::remove_file);
            return Err(e.error.into());
        }
        sync_folder(&path);
        Ok(())
    }

    /// A new file, complete on the disk, and the name that it is to have.
    fn settled(mut self) -> Result<((TempPath, PathBuf), Aside)> {
        let Target::File { path, .. } = self.target else { bail!("{} is no file", self.path.display()) };
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(((self.content, path), self.aside))
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Makes the folder `path` with `fill`, which is given another name of it until it is complete.
///
/// # Errors
/// There is something already, the folder around it is missing or not writable, or what `fill` fails with.
/// Nothing is left then.
pub fn folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let make = || {
        let free = || std::fs::symlink_metadata(path).is_err();
        ensure!(free(), "there is something already");
        let name = path.file_name().context("the path has no name")?.to_string_lossy();
        let (around, _aside) = Aside::make(
            || Builder::new().prefix(&prefix(&name)).suffix(END).tempdir_in(folder_of(path)),
            TempDir::path,
        )?;
        let content = around.path().join("content");
        fill(&content)?;
        sync_all(&content)?;
        let _asides = asides();
        // on Unix an empty folder could be replaced
        ensure!(free(), "there is something already");
        std::fs::rename(content, path)?;
        sync_folder(path);
        Ok(())
    };
    make().with_context(|| format!("cannot write {}", path.display()))
}

/// Removes every file that this process is still making; threads that want to begin or complete one wait from
/// now on. For a process that ends at once, on a signal perhaps.
pub fn abandon() {
    let asides = asides();
    for path in asides.iter() {
        let gone = || std::fs::symlink_metadata(path).is_err();
        let remove =
            || if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        // a folder that another thread is filling may take a few attempts; what cannot be removed stays
        let _ = (0..ATTEMPTS).any(|_| remove().is_ok() || gone());
    }
    std::mem::forget(asides);
}

/// Where the files and folders are that are being made. Who has the lock may create and rename them.
static ASIDES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn asides() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // wherever a thread panics, the set is whole
    ASIDES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry of [`ASIDES`].
#[derive(Debug)]
struct Aside(PathBuf);

impl Aside {
    fn make<T>(
        make: impl FnOnce() -> io::Result<T>,
        path: impl FnOnce(&T) -> &Path,
    ) -> io::Result<(T, Aside)> {
        let mut asides = asides();
        let made = make()?;
        let aside = Aside(path(&made).to_path_buf());
        asides.insert(aside.0.clone());
        Ok((made, aside))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        asides().remove(&self.0);
    }
}

/// What names like `.model.onnx.k3Tz9B.part` begin with.
fn prefix(name: &str) -> String {
    format!(".{}.", &name[..name.floor_char_boundary(NAME)])
}

/// Where bytes go.
#[derive(Debug)]
enum Target {
    /// A file, links followed, and what is there now.
    File {
        path: PathBuf,
        old: Option<Metadata>,
    },
    Device(Device),
}

/// What has no content of its own that could be replaced.
#[derive(Debug)]
enum Device {
    Stdout,
    Path(PathBuf),
}

impl Target {
    fn of(path: &Path) -> Result<Target> {
        let stdout = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
        if cfg!(unix) && stdout.iter().any(|name| path == Path::new(name)) {
            // opened once more it would be written from its beginning
            return Ok(Target::Device(Device::Stdout));
        }
        match path.metadata() {
            Ok(meta) if meta.is_dir() => bail!("it is a folder"),
            Ok(meta) if meta.is_file() => {
                ensure!(!meta.permissions().readonly(), "it is read-only");
                Ok(Target::File { path: path.canonicalize()?, old: Some(meta) })
            }
            Ok(_) => Ok(Target::Device(Device::Path(path.to_path_buf()))),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // perhaps a link to what is not there yet
                let mut path = path.to_path_buf();
                for _ in 0..LINKS {
                    let Ok(link) = std::fs::read_link(&path) else { break };
                    path = folder_of(&path).join(link);
                }
                Ok(Target::File { path, old: None })
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl Device {
    fn put(&self, from: &mut dyn Read) -> Result<()> {
        match self {
            Device::Stdout => {
                let mut stdout = io::stdout().lock();
                io::copy(from, &mut stdout)?;
                stdout.flush()?;
            }
            Device::Path(path) => drop(io::copy(from, &mut OpenOptions::new().write(true).open(path)?)?),
        }
        Ok(())
    }
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes renamings of files in the folder of `path` last through a power cut, where the file system can do
/// that.
fn sync_folder(path: &Path) {
    if cfg!(unix) {
        // the file is complete either way
        let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    }
}

/// Makes a folder and what is in it last.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            File::open(path)?.sync_all()?;
        }
    }
    sync_folder(&folder.join("."));
    Ok(())
}

#[cfg(unix)]
mod rights {
    use std::fs::{File, Metadata, OpenOptions, Permissions};
    use std::io;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};

    /// For a new file: its owner's alone if it is to replace another, else what the umask leaves.
    pub(super) fn begin(options: &mut OpenOptions, old: Option<&Metadata>) {
        options.mode(if old.is_some() { 0o600 } else { 0o666 });
    }

    /// Gives a file the owner, group and mode of `old`.
    pub(super) fn keep(file: &File, old: &Metadata) -> io::Result<()> {
        let new = file.metadata()?;
        let mut mode = old.mode() & 0o7777;
        if new.gid() != old.gid() && fchown(file, None, Some(old.gid())).is_err() {
            // another group: no more for it than for everybody
            mode &= 0o5707 | (mode & 0o7) << 3;
        }
        if new.uid() != old.uid() && fchown(file, Some(old.uid()), None).is_err() {
            mode &= 0o3777;
        }
        // some file systems have one mode for all files and refuse to set it
        if file.metadata()?.mode() & 0o7777 == mode {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(mode))
    }
}

#[cfg(not(unix))]
mod rights {
    use std::fs::{File, Metadata, OpenOptions};
    use std::io;

    pub(super) fn begin(_: &mut OpenOptions, _: Option<&Metadata>) {}

    pub(super) fn keep(file: &File, old: &Metadata) -> io::Result<()> {
        file.set_permissions(old.permissions())
    }
}
