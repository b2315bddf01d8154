//! How a kernel asks for threads without owning any.

/// Runs independent tasks, on as many threads as the caller likes.
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

/// Cuts `0..len` into `parts` ranges whose lengths differ by at most one; returns range `part`.
pub(crate) fn share(len: usize, parts: usize, part: usize) -> std::ops::Range<usize> {
    let (base, rest) = (len / parts, len % parts);
    let start = part * base + part.min(rest);
    start..start + base + usize::from(part < rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for len in 0..20 {
            for parts in 1..7 {
                let all: Vec<usize> = (0..parts).flat_map(|p| share(len, parts, p)).collect();
                assert_eq!(all, (0..len).collect::<Vec<_>>());
            }
        }
    }
}
