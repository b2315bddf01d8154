//! Hostile input for everything that reads: the targets, and what they share, memory that is rationed and
//! panics that are told apart by where they come from.
//!
//! libFuzzer drives them (`fuzz_targets`, `scripts/fuzz.sh`, feature `libfuzzer`, which needs nightly); the
//! test of this crate mutates their seeds for some seconds, on any toolchain.
#![cfg_attr(feature = "libfuzzer", feature(alloc_error_hook))]

pub mod compact;
pub mod formats;
pub mod kernels;
pub mod nnef;
pub mod npz;
pub mod onnx;
pub mod recipe;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Crates of this workspace: a panic there is always a find.
const OURS: [&str; 7] =
    ["sparse-kernels/", "sparse-ops/", "rewriter/", "tract-sparse/src", "onnx-file/", "prune/", "arrays/"];

/// Counts what is taken and refuses what goes beyond the ration; the refusal becomes a panic, which can be
/// caught.
struct Rationed;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static RATION: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: passed on to the system, which may refuse just as well.
unsafe impl GlobalAlloc for Rationed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn take(bytes: usize) -> bool {
    let before = TAKEN.fetch_add(bytes, Relaxed);
    let granted = before.checked_add(bytes).is_some_and(|taken| taken <= RATION.load(Relaxed));
    if !granted {
        TAKEN.fetch_sub(bytes, Relaxed);
    }
    granted
}

#[global_allocator]
static ALLOCATOR: Rationed = Rationed;

/// Runs an input of a target.
pub type Target = fn(&[u8]);

/// Every target by name: that of its seeds, and of what libFuzzer runs.
pub const TARGETS: [(&str, Target); 7] = [
    ("kernels", kernels::run),
    ("formats", formats::run),
    ("compact", compact::run),
    ("npz", npz::run),
    ("recipe", recipe::run),
    ("nnef", nnef::run),
    ("onnx", onnx::run),
];

thread_local! {
    /// Where the last caught panic was and what it said; `None` where panics are not caught.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// To be called once, before the first input.
pub fn init() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        RATION.store(usize::MAX, Relaxed);
        let caught = CAUGHT.with_borrow_mut(|caught| {
            let place = info.location().map_or(String::new(), |l| format!("{}:{}", l.file(), l.line()));
            caught.as_mut().map(|caught| *caught = format!("{place}: {info}")).is_some()
        });
        if !caught {
            abort(info);
        }
    }));
    // Elsewhere, what is refused ends the process.
    #[cfg(feature = "libfuzzer")]
    std::alloc::set_alloc_error_hook(|layout| {
        RATION.store(usize::MAX, Relaxed);
        panic!("more memory than the ration: {} bytes at once", layout.size());
    });
}

/// Runs `f` with a ration of bytes; asking for more, or a panic, ends the run.
pub fn within<R>(bytes: usize, f: impl FnOnce() -> R) -> R {
    RATION.store(TAKEN.load(Relaxed).saturating_add(bytes), Relaxed);
    let result = f();
    RATION.store(usize::MAX, Relaxed);
    result
}

/// Runs `f` with a ration; a panic, also for want of memory, is returned with its place.
pub fn caught<R>(bytes: usize, f: impl FnOnce() -> R) -> Result<R, String> {
    CAUGHT.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(|| within(bytes, f)));
    RATION.store(usize::MAX, Relaxed);
    result.map_err(|_| CAUGHT.take().unwrap_or_default()).inspect(|_| CAUGHT.set(None))
}

/// Ends the run if `ours` panicked and this cannot be blamed on stock tract: it began in a crate of
/// this workspace, or stock tract does not panic.
///
/// `same` says whether stock tract was given the same work.
pub fn judge<A, B>(ours: Result<A, String>, stock: Result<B, String>, same: bool) -> Option<A> {
    match ours {
        Ok(result) => Some(result),
        Err(panic) => {
            let place = panic.split(": ").next().unwrap_or_default();
            let in_ours = OURS.iter().any(|name| place.contains(name)) && !place.contains("registry/src");
            assert!(!in_ours && (stock.is_err() || !same), "a panic of ours: {panic}");
            None
        }
    }
}
