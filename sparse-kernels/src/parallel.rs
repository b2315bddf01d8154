//! How a kernel asks for threads without owning any.

use crate::error::KernelError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Runs independent tasks, on as many threads as the caller likes.
///
/// Tasks write to disjoint parts of the output without locks. So every call is checked: one of a number that
/// is out of range, or that has been called before, does nothing, and a run in which not every task was
/// called once is an error.
pub trait Parallel: Sync {
    /// How many tasks can run at once. A hint for splitting; never changes results.
    fn threads(&self) -> usize;

    /// Calls `task(i)` once for every `i` in `0..tasks`, in any order, and returns when all are done.
    fn for_each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// One thread: the caller's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Serial;

impl Parallel for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn for_each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// How many threads to split for: at least one, and no more than any machine has.
pub(crate) fn threads(parallel: &dyn Parallel) -> usize {
    parallel.threads().clamp(1, 1 << 12)
}

/// Runs each of `tasks` tasks exactly once, whatever `parallel` does.
///
/// # Errors
/// Not every task was called once; the others were, at most once.
pub(crate) fn for_each(
    parallel: &dyn Parallel,
    tasks: usize,
    task: impl Fn(usize) + Sync,
) -> Result<(), KernelError> {
    let taken: Vec<AtomicBool> = (0..tasks).map(|_| AtomicBool::new(false)).collect();
    let (done, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0));
    parallel.for_each(tasks, &|i| {
        // Whoever takes the task first runs it. No other memory depends on the order: tasks share nothing.
        if taken.get(i).is_some_and(|taken| !taken.swap(true, Ordering::Relaxed)) {
            task(i);
            done.fetch_add(1, Ordering::Relaxed);
        } else {
            wrong.fetch_add(1, Ordering::Relaxed);
        }
    });
    // `for_each` has returned: it cannot have kept the task, nor what its threads have counted from this one.
    let (done, wrong) = (done.into_inner(), wrong.into_inner());
    if (done, wrong) == (tasks, 0) { Ok(()) } else { Err(KernelError::Parallel { tasks, done, wrong }) }
}

/// Cuts `0..len` into `parts` ranges whose lengths differ by at most one; returns range `part`.
pub(crate) fn share(len: usize, parts: usize, part: usize) -> std::ops::Range<usize> {
    let (base, rest) = (len / parts, len % parts);
    let start = part * base + part.min(rest);
    start..start + base + usize::from(part < rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn shares_cover_everything_once() {
        for len in 0..20 {
            for parts in 1..7 {
                let all: Vec<usize> = (0..parts).flat_map(|p| share(len, parts, p)).collect();
                assert_eq!(all, (0..len).collect::<Vec<_>>());
            }
        }
    }

    /// Calls these tasks.
    struct Calls(&'static [usize]);

    impl Parallel for Calls {
        fn threads(&self) -> usize {
            3
        }

        fn for_each(&self, _: usize, task: &(dyn Fn(usize) + Sync)) {
            self.0.iter().for_each(|i| task(*i));
        }
    }

    #[test]
    fn tasks_run_once_or_not_at_all() {
        let run = |calls: &'static [usize]| {
            let ran = Mutex::new(vec![]);
            let result = for_each(&Calls(calls), 3, |i| ran.lock().unwrap().push(i));
            (ran.into_inner().unwrap(), result)
        };
        let failed = |done, wrong| Err(KernelError::Parallel { tasks: 3, done, wrong });
        assert_eq!(run(&[2, 0, 1]), (vec![2, 0, 1], Ok(())));
        assert_eq!(run(&[0, 1]), (vec![0, 1], failed(2, 0)));
        assert_eq!(run(&[]), (vec![], failed(0, 0)));
        assert_eq!(run(&[0, 1, 2, 1]), (vec![0, 1, 2], failed(3, 1)));
        assert_eq!(run(&[0, 3, usize::MAX, 1]), (vec![0, 1], failed(2, 2)));
    }
}
