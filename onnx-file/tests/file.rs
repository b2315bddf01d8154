//! Files are whole or not there, and keep what is theirs.

use onnx_file::file::{Draft, folder, write};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

fn dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("onnx-file-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn replaces_and_leaves_nothing_aside() {
    let dir = dir("replace");
    let path = dir.join("a.bin");
    write(&path, b"first").unwrap();
    write(&path, b"second").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"second");
    let mut draft = Draft::new(&path).unwrap();
    draft.write_all(b"third").unwrap();
    let content = draft.content().unwrap().to_path_buf();
    assert_eq!(std::fs::read(content).unwrap(), b"third");
    draft.rewind().unwrap();
    draft.write_all(b"THI").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"second");
    draft.commit().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"THIrd");
    drop(Draft::new(&path).unwrap());
    assert_eq!((std::fs::read(&path).unwrap(), count(&dir)), (b"THIrd".to_vec(), 1));
    // as long as names can be
    write(&dir.join("x".repeat(255)), b"x").unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn refuses_folders_and_missing_parents_by_name() {
    let dir = dir("refuse");
    write(&dir.join("file"), b"").unwrap();
    for path in [dir.clone(), dir.join("missing").join("a.bin"), dir.join("file").join("a.bin")] {
        let error = format!("{:#}", write(&path, b"x").unwrap_err());
        assert!(error.contains(&path.display().to_string()) && !error.contains(".part"), "{error}");
    }
    assert_eq!(count(&dir), 1);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn two_files_get_their_names_together_or_not_at_all() {
    let dir = dir("pair");
    let drafts = || {
        let (mut values, mut model) =
            (Draft::new(&dir.join("values")).unwrap(), Draft::new(&dir.join("model")).unwrap());
        values.write_all(b"values").unwrap();
        model.write_all(b"model").unwrap();
        (values, model)
    };
    let (values, model) = drafts();
    std::fs::create_dir(dir.join("model")).unwrap();
    assert!(model.commit_after(values).is_err());
    assert_eq!(count(&dir), 1);
    std::fs::remove_dir(dir.join("model")).unwrap();
    let (values, model) = drafts();
    model.commit_after(values).unwrap();
    assert_eq!(count(&dir), 2);
    // another process was faster
    let (values, model) = drafts();
    std::fs::write(dir.join("model"), b"old").unwrap();
    assert!(model.commit_after(values).is_err());
    assert_eq!(std::fs::read(dir.join("model")).unwrap(), b"old");
    assert_eq!(count(&dir), 2);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn folders_are_whole_too() {
    let dir = dir("folder");
    let path = dir.join("new");
    let fill = |aside: &Path| {
        std::fs::create_dir(aside)?;
        std::fs::write(aside.join("a"), b"a")?;
        Ok(())
    };
    let failed = folder(&path, |aside| {
        fill(aside)?;
        anyhow::bail!("no more")
    });
    assert!(format!("{:#}", failed.unwrap_err()).contains("no more"));
    assert_eq!(count(&dir), 0);
    folder(&path, fill).unwrap();
    assert_eq!(std::fs::read(path.join("a")).unwrap(), b"a");
    assert!(format!("{:#}", folder(&path, fill).unwrap_err()).contains("already"));
    assert_eq!(count(&dir), 1);
    std::fs::remove_dir_all(dir).unwrap();
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn rights_stay() {
        let dir = dir("rights");
        let path = dir.join("a.bin");
        write(&path, b"new").unwrap();
        // what the umask gives every new file
        std::fs::write(dir.join("plain"), b"").unwrap();
        assert_eq!(mode(&path), mode(&dir.join("plain")));
        for rights in [0o600, 0o640, 0o664, 0o755, 0o777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(rights)).unwrap();
            let mut draft = Draft::new(&path).unwrap();
            draft.write_all(b"other").unwrap();
            let aside = draft.content().unwrap().to_path_buf();
            assert_eq!(mode(&aside) & 0o077, 0, "nobody else reads it before it is complete");
            draft.commit().unwrap();
            assert_eq!(mode(&path), rights);
        }
        if std::os::unix::fs::chown(&path, Some(12345), Some(54321)).is_ok() {
            write(&path, b"again").unwrap();
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (12345, 54321));
        } else {
            eprintln!("NOT RUN: rights_stay, owners: only root can give files away");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn links_stay_and_what_they_name_is_replaced() {
        let dir = dir("links");
        std::fs::create_dir(dir.join("sub")).unwrap();
        let target = dir.join("sub").join("target");
        symlink("sub/target", dir.join("link")).unwrap();
        symlink("link", dir.join("second")).unwrap();
        for content in ["through a link to nothing", "through a link to a file"] {
            write(&dir.join("second"), content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), content);
            assert!(std::fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
            assert!(std::fs::symlink_metadata(dir.join("second")).unwrap().is_symlink());
        }
        symlink("circle", dir.join("circle")).unwrap();
        assert!(write(&dir.join("circle"), b"x").is_err());
        // another hard link keeps what it had
        std::fs::hard_link(&target, dir.join("hard")).unwrap();
        write(&target, b"new").unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("hard")).unwrap(), "through a link to a file");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn pipes_are_written_in_place() {
        let dir = dir("pipes");
        let path = dir.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("NOT RUN: pipes_are_written_in_place: there is no mkfifo");
            return;
        }
        let reader = {
            let path = path.clone();
            std::thread::spawn(move || (std::fs::read(&path).unwrap(), std::fs::read(&path).unwrap()))
        };
        write(&path, b"bytes").unwrap();
        // the reader has to have closed its end of the first before it opens the second
        std::thread::sleep(std::time::Duration::from_millis(200));
        let mut draft = Draft::new(&path).unwrap();
        draft.write_all(b"draft").unwrap();
        draft.commit().unwrap();
        assert_eq!(reader.join().unwrap(), (b"bytes".to_vec(), b"draft".to_vec()));
        assert_eq!(count(&dir), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
