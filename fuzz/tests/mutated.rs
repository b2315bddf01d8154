//! Every target on mutations of its seeds, `FUZZ_SECONDS` each (2): no substitute for libFuzzer, which sees
//! what an input reaches, but it runs wherever tests do.
//!
//! Each target is a process of its own: memory that is refused ends it. What stock tract asks for is not ours
//! to refuse: of the targets that load models, such a process is started again.

use noise::Noise;
use std::fs;
use std::io::Write;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Most mutations of an input.
const MOST: usize = 6;
/// Bytes of an input, at most: what is read takes time.
const LONGEST: usize = 8 << 10;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, target, seed, millis] = &*args
        && flag == "child"
    {
        return child(target, seed.parse().unwrap(), Duration::from_millis(millis.parse().unwrap()));
    }
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let seconds = std::env::var("FUZZ_SECONDS").map_or(2, |text| text.parse().expect("FUZZ_SECONDS"));
    let mut failed = vec![];
    for (target, _) in fuzz::TARGETS {
        if !run(target, Duration::from_secs(seconds)) {
            failed.push(target);
        }
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { panic!("found something: {failed:?}") }
}

/// Runs a target in children; false if it found something.
fn run(target: &str, time: Duration) -> bool {
    let (start, mut seed) = (Instant::now(), 1u64);
    while start.elapsed() < time {
        let left = (time - start.elapsed()).as_millis().to_string();
        let mut child = Command::new(std::env::current_exe().unwrap());
        let ran = child.args(["child", target, &seed.to_string(), &left]).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        if ran.status.success() {
            print!("{}", String::from_utf8_lossy(&ran.stdout));
            return true;
        }
        let loads = matches!(target, "nnef" | "onnx");
        if !(loads && ran.status.code().is_none() && said.contains("memory allocation of")) {
            println!("{target}: {}\n{said}", ran.status);
            return false;
        }
        seed += 1;
    }
    true
}

/// Runs mutations one after the other; the one at work is kept in a file, which stays if it is the last.
fn child(target: &str, seed: u64, time: Duration) -> ExitCode {
    let (_, run) = fuzz::TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds: Vec<Vec<u8>> = files(&here.join("seeds").join(target));
    if target == "onnx" {
        seeds.extend(files(&here.join("../tests/cases")).into_iter().filter(|bytes| bytes.len() <= LONGEST));
    }
    assert!(!seeds.is_empty(), "{target} has no seeds");
    fuzz::init();
    let last = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}.input"));
    let (start, mut random, mut count) = (Instant::now(), Noise::new(seed), 0u64);
    while start.elapsed() < time {
        let input = mutated(&seeds, &mut random);
        fs::File::create(&last).and_then(|mut file| file.write_all(&input)).unwrap();
        if catch_unwind(|| run(&input)).is_err() {
            eprintln!("{target}: after {count} inputs, see {}", last.display());
            return ExitCode::FAILURE;
        }
        count += 1;
    }
    println!("{target}: {count} inputs");
    fs::remove_file(last).unwrap();
    if count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A seed with some bytes changed, removed, repeated, or taken from another seed.
fn mutated(seeds: &[Vec<u8>], random: &mut Noise) -> Vec<u8> {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'9', b'.', b'-'];
    let mut input = seeds[random.below(seeds.len())].clone();
    input.truncate(LONGEST);
    for _ in 0..random.below(MOST + 1) {
        let at = random.below(input.len().max(1));
        let to = (at + 1 + random.below(16)).min(input.len());
        match random.below(7) {
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            1 => input
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte = TELLING[random.below(TELLING.len())]),
            2 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.below(256) as u8),
            3 if at < to => drop(input.drain(at..to)),
            4 if at < to => {
                let again = input[at..to].to_vec();
                input.splice(at..at, again);
            }
            5 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len().max(1)).min(other.len());
                let taken = &other[from..(from + random.below(64)).min(other.len())];
                input.splice(at.min(input.len())..at.min(input.len()), taken.iter().copied());
            }
            _ => (0..random.below(8)).for_each(|_| input.push(random.below(256) as u8)),
        }
    }
    input
}
