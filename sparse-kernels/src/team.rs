//! Threads that stay for the next layer.
//!
//! To wake a thread up takes as long as many layers do, longer on a virtual machine. So helpers wait for the next job
//! awake, for a while: whoever has one shows it to them, and they take part at once. The threads are the caller's:
//! [`Team::help`] is called on those that are to help, [`Team::lead`] on the one that has a job.
//!
//! Each thread begins with the same share of the tasks in every job, and then takes what others have left: part of what a
//! layer reads is in the cache of the thread that has written it in the layer before.

use crate::parallel::share;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A leader at a time, and those who help.
#[derive(Debug, Default)]
pub struct Team {
    /// The job of the leader, which helpers may join.
    shown: Mutex<Option<Shown>>,
    /// Jobs that have been shown: what helpers watch.
    turn: AtomicUsize,
    /// Helpers that are at the job.
    inside: AtomicUsize,
    /// Helpers that have been asked for and have not left.
    present: AtomicUsize,
    /// Helpers that have ever come: their number says which share a helper begins with.
    seats: AtomicUsize,
}

/// A job on the stack of its leader.
///
/// Invariant: it is there as long as it is shown, or a helper is inside ([`Led`]).
#[derive(Debug)]
struct Shown(NonNull<Job<'static>>);

// SAFETY: a job is made to be shared: its task is Sync.
unsafe impl Send for Shown {}

struct Job<'a> {
    tasks: usize,
    task: &'a (dyn Fn(usize) + Sync),
    /// How many tasks of each share have been taken.
    taken: Vec<AtomicUsize>,
    /// What a helper has panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl<'a> Job<'a> {
    /// One with a share of the tasks for each of `threads` threads.
    fn new(tasks: usize, task: &'a (dyn Fn(usize) + Sync), threads: usize) -> Job<'a> {
        let taken = (0..threads.min(tasks)).map(|_| AtomicUsize::new(0)).collect();
        Job { tasks, task, taken, panic: Mutex::default() }
    }

    /// Takes tasks of the share of `seat`, of which the leader has the first, then those that others have left.
    fn run(&self, seat: usize) {
        let shares = self.taken.len();
        let first = if seat > 0 && shares > 1 { 1 + (seat - 1) % (shares - 1) } else { 0 };
        for beyond in 0..shares {
            let at = (first + beyond) % shares;
            let tasks = std::iter::repeat_with(|| self.taken[at].fetch_add(1, Ordering::Relaxed));
            tasks.map_while(|taken| share(self.tasks, shares, at).nth(taken)).for_each(self.task);
        }
    }
}

/// Rounds of waiting until another thread may have the processor: some ten microseconds.
const ROUNDS: usize = 1 << 8;

/// Waits a little; the more `rounds` have gone by, the more politely.
fn wait(rounds: usize) {
    if rounds < ROUNDS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the job back when it is dropped, and waits until no helper is inside, whatever the leader has come to.
struct Led<'a>(&'a Team);

impl Drop for Led<'_> {
    fn drop(&mut self) {
        *locked(&self.0.shown) = None;
        // those who were inside have written before they left
        (0..).take_while(|_| self.0.inside.load(Ordering::Acquire) > 0).for_each(wait);
    }
}

impl Team {
    /// How many helpers are missing of those wanted. Whoever asks has to have as many threads call [`Team::help`].
    pub fn missing(&self, wanted: usize) -> usize {
        let more = |present: usize| (present < wanted).then_some(wanted);
        let before = self.present.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        before.map_or(0, |present| wanted - present)
    }

    /// Whether any helper is there, or has been asked for.
    pub fn is_idle(&self) -> bool {
        self.present.load(Ordering::Relaxed) == 0
    }

    /// Calls `task(i)` once for every `i` in `0..tasks`, here and on the threads of helpers, and returns when all are done.
    /// False, and nothing is done, if another thread leads.
    ///
    /// # Panics
    /// With what a task has panicked with.
    pub fn lead(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
        let job = Job::new(tasks, task, 1 + self.present.load(Ordering::Relaxed));
        let mut shown = locked(&self.shown);
        if shown.is_some() {
            return false;
        }
        *shown = Some(Shown(NonNull::from(&job).cast()));
        drop(shown);
        let led = Led(self);
        self.turn.fetch_add(1, Ordering::Release);
        job.run(0);
        drop(led);
        if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
        true
    }

    /// Takes part in jobs as they are shown, until there has been none for as long as `patience`. Meanwhile `other` is asked
    /// to do something else, and says whether it has. A thread that was asked for ([`Team::missing`]) calls this once.
    pub fn help(&self, patience: Duration, mut other: impl FnMut() -> bool) {
        let seat = 1 + self.seats.fetch_add(1, Ordering::Relaxed);
        // one may be shown already
        let mut seen = self.turn.load(Ordering::Acquire).wrapping_sub(1);
        let (mut idle, mut rounds) = (Instant::now(), 0);
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            if turn == seen {
                // asked again and again, however long the thread was kept from asking
                if other() {
                    (idle, rounds) = (Instant::now(), 0);
                } else if idle.elapsed() >= patience {
                    break;
                }
                wait(rounds);
                rounds += 1;
            } else {
                seen = turn;
                if self.join(seat) {
                    (idle, rounds) = (Instant::now(), 0);
                }
            }
        }
        // also where it was not asked for
        let _ =
            self.present.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |present| present.checked_sub(1));
    }

    /// Works at the job that is shown, if one is.
    fn join(&self, seat: usize) -> bool {
        let shown = locked(&self.shown);
        let Some(Shown(job)) = &*shown else { return false };
        // SAFETY: it is shown, and this helper is inside before it can be taken back, which waits until it has left (Shown).
        let job = unsafe { job.as_ref() };
        self.inside.fetch_add(1, Ordering::Relaxed);
        drop(shown);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job.run(seat))) {
            locked(&job.panic).get_or_insert(panic);
        }
        self.inside.fetch_sub(1, Ordering::Release);
        true
    }
}

// WebAssembly has neither threads nor panics that can be caught.
#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;

    /// Lets helpers go, also when a test has failed.
    struct Lead<'a>(&'a AtomicBool);

    impl Drop for Lead<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Runs `leader` with some helpers that are there from the beginning to the end, however slow the machine is: some tasks
    /// wait for them.
    fn with_helpers(helpers: usize, leader: impl FnOnce(&Team)) {
        let (team, done) = (Team::default(), AtomicBool::new(false));
        assert_eq!((team.missing(helpers), team.missing(helpers)), (helpers, 0));
        let stay = || {
            std::thread::yield_now();
            !done.load(Ordering::Relaxed)
        };
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| team.help(Duration::from_millis(1), stay));
            }
            let _lead = Lead(&done);
            leader(&team);
        });
        assert!(team.is_idle());
    }

    #[test]
    fn tasks_run_once() {
        for helpers in [0, 1, 3] {
            with_helpers(helpers, |team| {
                for tasks in [0, 1, 2, 7, 100] {
                    let calls: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    assert!(team.lead(tasks, &|i| {
                        calls[i].fetch_add(1, Ordering::Relaxed);
                    }));
                    assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1));
                }
            });
        }
    }

    #[test]
    fn helpers_take_part() {
        with_helpers(1, |team| {
            // each task waits for the other: one thread alone would wait forever
            let both = Barrier::new(2);
            for _ in 0..20 {
                assert!(team.lead(2, &|_| {
                    both.wait();
                }));
            }
        });
    }

    #[test]
    fn one_leads_at_a_time() {
        let team = Team::default();
        assert!(team.lead(1, &|_| assert!(!team.lead(1, &|_| unreachable!("another leads")))));
        assert!(team.lead(1, &|_| {}));
    }

    #[test]
    fn panics_arrive_and_leave_the_team_usable() {
        with_helpers(2, |team| {
            let both = Barrier::new(2);
            for bad in [0, 1] {
                let led = catch_unwind(AssertUnwindSafe(|| {
                    team.lead(2, &|i| {
                        both.wait();
                        assert!(i != bad, "task {i}");
                    })
                }));
                let panic = led.unwrap_err();
                assert_eq!(panic.downcast_ref::<String>(), Some(&format!("task {bad}")));
            }
            assert!(team.lead(3, &|_| {}));
        });
    }

    #[test]
    fn other_work_is_done_meanwhile() {
        let (team, asked) = (Team::default(), AtomicUsize::new(0));
        team.missing(1);
        team.help(Duration::from_millis(1), || asked.fetch_add(1, Ordering::Relaxed) < 3);
        assert!(asked.into_inner() > 3);
    }
}
