//! tract's threads, as the kernels ask for them.

use sparse_kernels::prelude::{Parallel, Serial};

/// Calls `run` with the threads of tract's current executor, or with none where the work is too small to
/// share.
///
/// `elements` is the size of the output: below tract's own threshold, waking threads costs more than it
/// brings.
#[cfg(feature = "multithread-mm")]
pub(crate) fn with_threads<R>(elements: usize, run: impl FnOnce(&dyn Parallel) -> R) -> R {
    use rayon::prelude::*;
    use tract_linalg::multithread::{Executor, current_threading_element_threshold, current_tract_executor};

    struct Pool<'a>(Option<&'a rayon::ThreadPool>);

    impl Parallel for Pool<'_> {
        fn threads(&self) -> usize {
            self.0.map_or_else(rayon::current_num_threads, |pool| pool.current_num_threads())
        }

        fn for_each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            let all = || (0..tasks).into_par_iter().with_max_len(1).for_each(task);
            match self.0 {
                Some(pool) => pool.install(all),
                None => all(),
            }
        }
    }

    if elements < current_threading_element_threshold() {
        return run(&Serial);
    }
    match current_tract_executor() {
        Executor::MultiThread(pool) => run(&Pool(Some(&pool))),
        Executor::RayonGlobal => run(&Pool(None)),
        Executor::SingleThread => run(&Serial),
    }
}

/// Calls `run` on the caller's thread: tract was built without threads.
#[cfg(not(feature = "multithread-mm"))]
pub(crate) fn with_threads<R>(_elements: usize, run: impl FnOnce(&dyn Parallel) -> R) -> R {
    run(&Serial)
}
