//! Files that are written whole or not at all.

use anyhow::{Context, Result};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`: into a new file beside it, which then takes its name. A reader never sees half a file, and
/// what was there before stays until the new content is complete. Devices and pipes are written in place.
///
/// # Errors
/// The folder is missing or not writable, the disk is full, or `path` is a folder; the message names the path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_inner(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn write_inner(path: &Path, bytes: &[u8]) -> Result<()> {
    // follow links, so that the file they name is replaced and not the link
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => path.to_path_buf(),
        Err(e) => return Err(e.into()),
    };
    if let Ok(meta) = target.metadata() {
        anyhow::ensure!(!meta.is_dir(), "it is a folder");
        if !meta.is_file() {
            std::fs::OpenOptions::new().write(true).open(&target)?.write_all(bytes)?;
            return Ok(());
        }
        anyhow::ensure!(!meta.permissions().readonly(), "it is read-only");
    }
    let aside = aside(&target)?;
    let written = std::fs::File::create_new(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, &target)
    });
    if let Err(e) = written {
        if e.kind() != std::io::ErrorKind::AlreadyExists {
            // the write has failed already, and for a better reason than this could give
            let _ = std::fs::remove_file(&aside);
        }
        return Err(e.into());
    }
    Ok(())
}

fn aside(path: &Path) -> Result<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name().context("the path has no file name")?);
    name.push(format!(".{}.part", std::process::id()));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("prune-file-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn replaces_and_leaves_nothing_aside() {
        let dir = folder("replace");
        let path = dir.join("a.bin");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn refuses_folders_and_missing_parents_by_name() {
        let dir = folder("refuse");
        for path in [dir.clone(), dir.join("missing").join("a.bin")] {
            let error = format!("{:#}", write(&path, b"x").unwrap_err());
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
