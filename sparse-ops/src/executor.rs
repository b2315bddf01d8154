//! tract's threads, as the kernels ask for them.

use sparse_kernels::prelude::{Parallel, Serial};
use std::sync::{Mutex, PoisonError};
use tract_core::internal::TractResult;

/// Calls `run` with the threads of tract's current executor, or with none where the work is too small to
/// share.
///
/// `elements` is the size of the work, as many as the values that are written, or more where each takes long
/// ([`of_products`]): below tract's own threshold, waking threads costs more than it brings.
#[cfg(feature = "multithread-mm")]
pub(crate) fn with_threads<R>(elements: usize, run: impl FnOnce(&dyn Parallel) -> R) -> R {
    use tract_linalg::multithread::{Executor, current_threading_element_threshold, current_tract_executor};

    if elements < current_threading_element_threshold() {
        return run(&Serial);
    }
    match current_tract_executor() {
        Executor::MultiThread(pool) => run(&pool::Pool(Some(&pool))),
        Executor::RayonGlobal => run(&pool::Pool(None)),
        Executor::SingleThread => run(&Serial),
    }
}

/// Calls `run` on the caller's thread: tract was built without threads.
#[cfg(not(feature = "multithread-mm"))]
pub(crate) fn with_threads<R>(_elements: usize, run: impl FnOnce(&dyn Parallel) -> R) -> R {
    run(&Serial)
}

/// The size of so many multiply-adds for [`with_threads`].
///
/// tract's threshold stands for some five microseconds; eight multiply-adds of a layer take about as long as one
/// value that is read and written.
pub(crate) fn of_products(products: usize) -> usize {
    products / 8
}

/// The size of a run of a layer for [`with_threads`]. Each weight is read at least once, which is what the product with a vector
/// takes its time for: two of them are a value that is read and written.
pub(crate) fn of_layer(products: usize, weights: usize) -> usize {
    of_products(products) + weights / 2
}

/// Whether the product of a dense matrix of so many weights and one vector runs on all of tract's threads as a layer of ours, and on
/// one of them as stock tract's: stock tract shares out products of more multiply-adds only.
pub fn only_ours_is_shared(weights: usize) -> bool {
    #[cfg(feature = "multithread-mm")]
    {
        use tract_linalg::multithread::{
            current_threading_element_threshold, current_threading_mac_threshold,
        };

        let ours = of_layer(weights, weights) >= current_threading_element_threshold();
        ours && weights < current_threading_mac_threshold() && cfg!(not(target_family = "wasm"))
    }
    #[cfg(not(feature = "multithread-mm"))]
    {
        let _ = weights;
        false
    }
}

/// Calls `run` on parts of `y`, with the row that each begins with, in the threads that [`with_threads`] takes for
/// `elements`: tract's own function of that name has the caller sleep. Parts are whole rows of `row` values, and there are some for each thread.
///
/// # Errors
/// The first of those of `run`, in the order of rows.
pub(crate) fn par_chunks_mut<T: Send>(
    y: &mut [T],
    row: usize,
    elements: usize,
    run: impl Fn(usize, &mut [T]) -> TractResult<()> + Sync,
) -> TractResult<()> {
    with_threads(elements, |parallel| {
        let rows = y.len().checked_div(row).unwrap_or(0);
        let threads = parallel.threads();
        if threads == 1 || rows < 2 {
            return run(0, y);
        }
        let part = rows.div_ceil((PARTS * threads).min(rows));
        let parts: Vec<_> = y.chunks_mut(part * row).map(|part| Mutex::new((part, Ok(())))).collect();
        parallel.for_each(parts.len(), &|i| {
            // each task has a part of its own: nobody waits, and a panic ends the run
            let mut of_task = parts[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (y, result) = &mut *of_task;
            *result = run(i * part, y);
        });
        parts.into_iter().try_for_each(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner).1)
    })
}

/// Parts of the work for each thread, so that one that begins late leaves more to others.
const PARTS: usize = 4;

#[cfg(feature = "multithread-mm")]
mod pool {
    use rayon::prelude::*;
    use rayon::{ThreadPool, Yield};
    use sparse_kernels::prelude::Parallel;
    use sparse_kernels::team::Team;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    /// How long a thread of the pool stays for the next layer: longer than most operators that are not shared out take, and
    /// too short to be seen where nothing comes.
    const PATIENCE: Duration = Duration::from_micros(300);

    /// Teams that are remembered although nobody is there.
    const IDLE: usize = 16;

    /// A pool of tract's, or rayon's own.
    pub(super) struct Pool<'a>(pub Option<&'a ThreadPool>);

    impl Pool<'_> {
        fn is_here(&self) -> bool {
            self.0.map_or_else(rayon::current_thread_index, ThreadPool::current_thread_index).is_some()
        }

        fn spawn(&self, run: impl FnOnce() + Send + 'static) {
            match self.0 {
                Some(pool) => pool.spawn(run),
                None => rayon::spawn(run),
            }
        }

        /// The team of the pool's threads: one for each place that a pool is at.
        fn team(&self) -> Arc<Team> {
            static TEAMS: Mutex<Vec<(usize, Arc<Team>)>> = Mutex::new(vec![]);
            let place = self.0.map_or(0, |pool| std::ptr::from_ref(pool).addr());
            let mut teams = TEAMS.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, team)) = teams.iter().find(|(other, _)| *other == place) {
                return team.clone();
            }
            if teams.len() >= IDLE {
                teams.retain(|(_, team)| !team.is_idle());
            }
            let team = Arc::<Team>::default();
            teams.push((place, team.clone()));
            team
        }
    }

    impl Parallel for Pool<'_> {
        fn threads(&self) -> usize {
            self.0.map_or_else(rayon::current_num_threads, ThreadPool::current_num_threads)
        }

        /// Runs tasks on the caller's thread and on all of the pool's but one.
        ///
        /// A network is mostly run by a thread outside of the pool. If it handed its tasks over and slept until
        /// they are done, every layer would wait for two threads to be woken up, which can take longer than the
        /// layer: here it begins at once, and the pool's threads stay awake for the next layer, doing what else the pool
        /// is given meanwhile.
        fn for_each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            if self.is_here() {
                return (0..tasks).into_par_iter().with_max_len(1).for_each(task);
            }
            let team = self.team();
            for _ in 0..team.missing(self.threads().min(tasks).saturating_sub(1)) {
                let team = team.clone();
                self.spawn(move || team.help(PATIENCE, || rayon::yield_now() == Some(Yield::Executed)));
            }
            if !team.lead(tasks, task) {
                // Another thread runs a network on this pool: they take turns, task by task.
                let run = || (0..tasks).into_par_iter().with_max_len(1).for_each(task);
                self.0.map_or_else(run, |pool| pool.install(run));
            }
        }
    }
}

#[cfg(all(test, feature = "multithread-mm"))]
mod tests {
    use super::pool::Pool;
    use super::*;
    use rayon::ThreadPoolBuilder;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tract_core::internal::*;
    use tract_linalg::multithread::{Executor, multithread_tract_scope};

    #[test]
    fn tasks_run_once_from_outside_and_from_inside_of_a_pool() {
        let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let other = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        for tasks in [0, 1, 2, 3, 100] {
            let calls: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            let run = || {
                Pool(Some(&pool)).for_each(tasks, &|i| {
                    calls[i].fetch_add(1, Ordering::Relaxed);
                });
            };
            run();
            pool.install(run);
            other.install(run);
            Pool(None).for_each(tasks, &|i| {
                calls[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 4), "{tasks}: {calls:?}");
        }
        assert_eq!(Pool(Some(&pool)).threads(), 3);
    }

    #[test]
    #[should_panic(expected = "task 5")]
    fn a_panic_of_a_task_arrives() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        Pool(Some(&pool)).for_each(8, &|i| assert!(i != 5, "task {i}"));
    }

    #[test]
    fn middling_products_are_shared_by_us_alone() {
        let shared = [5_000, 400_000, 1_280_000, 4_000_000].map(only_ours_is_shared);
        assert_eq!(shared, [false, true, true, false]);
    }

    #[test]
    fn rows_go_to_parts_and_errors_come_back() -> TractResult<()> {
        for threads in [1, 2, 5] {
            multithread_tract_scope(Executor::multithread(threads), || {
                for rows in [0, 1, 2, 7, 64] {
                    let mut y = vec![0; 3 * rows];
                    let fill = |first: usize, y: &mut [usize]| {
                        y.chunks_mut(3).enumerate().for_each(|(i, row)| row.fill(first + i));
                        Ok(())
                    };
                    par_chunks_mut(&mut y, 3, usize::MAX, fill)?;
                    ensure!(y.iter().enumerate().all(|(i, row)| *row == i / 3), "{rows} rows: {y:?}");
                }
                let fails = |first: usize, y: &mut [u8]| {
                    ensure!(!(first..first + y.len()).contains(&40), "row 40 of {threads} threads");
                    Ok(())
                };
                let error = par_chunks_mut(&mut [0; 64], 1, usize::MAX, fails).unwrap_err();
                ensure!(error.to_string() == format!("row 40 of {threads} threads"), "{error}");
                Ok(())
            })?;
        }
        Ok(())
    }
}
