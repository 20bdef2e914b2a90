//! Work done ahead of its consumer, in parallel, in order, within bounds.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

type Panic = Box<dyn Any + Send>;

/// Runs a job on every input on a few threads of its own and gives the results in the inputs' order.
///
/// At most `window` inputs are in flight, that is begun but not yet given out, so memory stays flat however long the
/// list is.
///
/// # Why threads of its own
/// The consumer runs large products on rayon's pool between two results, perhaps from inside that pool. Jobs put
/// there too could deadlock (a pool of one thread whose only thread waits for the next result) and would in any
/// case queue behind the products they are meant to overlap with. Plain threads depend on nothing but this file's
/// mutex:
/// - a worker never waits while it holds a job, and jobs are begun in order, so the job of the result that the
///   consumer waits for is finished, running, or the next one to be begun by any worker, and the window always has
///   room for it: the consumer cannot starve;
/// - the consumer runs no job and holds no lock outside [`next`](Iterator::next), so it may use rayon as it likes;
/// - when the consumer is the slower side, the window is full and the workers sleep. When it is the faster side, it
///   sleeps, and the operating system shares the cores between workers and rayon's threads in the meantime.
pub(super) struct Prefetch<In, Out> {
    shared: Arc<Shared<In, Out>>,
    workers: Vec<JoinHandle<()>>,
    /// The thread that reads an input list that may block.
    reader: Option<JoinHandle<()>>,
}

struct Shared<In, Out> {
    state: Mutex<State<In, Out>>,
    /// Told of every change of the state. A handful of threads that each wake a few times an image: one condition
    /// for all is simple, and its cost cannot be measured beside decoding.
    changed: Condvar,
    window: usize,
}

struct State<In, Out> {
    /// Inputs that nobody has begun.
    pending: VecDeque<In>,
    /// Whether the reader may add to them.
    more: bool,
    /// Whether the reader is inside the list's `next`, where it cannot be interrupted.
    reading: bool,
    begun: usize,
    given: usize,
    done: BTreeMap<usize, Result<Out, Panic>>,
    /// A panic of the input list itself.
    list_panic: Option<Panic>,
    stop: bool,
}

impl<In, Out> Shared<In, Out> {
    fn lock(&self) -> MutexGuard<'_, State<In, Out>> {
        // No code that can panic runs under the lock, and no change is made in two steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state is as wanted.
    fn wait(&self, unwanted: impl FnMut(&mut State<In, Out>) -> bool) -> MutexGuard<'_, State<In, Out>> {
        self.changed.wait_while(self.lock(), unwanted).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<In: Send + 'static, Out: Send + 'static> Prefetch<In, Out> {
    /// Begins `job(index, input)` for every input of a list that is at hand.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub(super) fn over_list(
        inputs: impl IntoIterator<Item = In>,
        threads: usize,
        window: usize,
        job: impl Fn(usize, In) -> Out + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Self::start(inputs.into_iter().collect(), false, threads, window, job)
    }

    /// Begins `job(index, input)` for inputs as they arrive. The list is read by a thread of its own, so that a
    /// result is given out while the next input is still awaited, and never further ahead than `window`.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub(super) fn over_stream(
        mut inputs: impl Iterator<Item = In> + Send + 'static,
        threads: usize,
        window: usize,
        job: impl Fn(usize, In) -> Out + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let mut prefetch = Self::start(VecDeque::new(), true, threads, window, job)?;
        let shared = Arc::clone(&prefetch.shared);
        let read = move || {
            loop {
                let mut state = shared.wait(|state| !state.stop && state.pending.len() >= shared.window);
                if state.stop {
                    return;
                }
                state.reading = true;
                drop(state);
                let input = catch_unwind(AssertUnwindSafe(|| inputs.next()));
                let mut state = shared.lock();
                state.reading = false;
                match input {
                    Ok(Some(input)) => state.pending.push_back(input),
                    Ok(None) => state.more = false,
                    Err(panic) => {
                        state.list_panic = Some(panic);
                        state.more = false;
                    }
                }
                let ended = !state.more;
                drop(state);
                shared.changed.notify_all();
                if ended {
                    return;
                }
            }
        };
        prefetch.reader = Some(std::thread::Builder::new().name("image-list".to_owned()).spawn(read)?);
        Ok(prefetch)
    }

    fn start(
        pending: VecDeque<In>,
        more: bool,
        threads: usize,
        window: usize,
        job: impl Fn(usize, In) -> Out + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let window = window.max(1);
        // More threads than the window has room for, or than there are inputs, would only ever sleep.
        let threads = threads.min(window).min(if more { window } else { pending.len() }).max(1);
        let state = State {
            pending,
            more,
            reading: false,
            begun: 0,
            given: 0,
            done: BTreeMap::new(),
            list_panic: None,
            stop: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), window });
        let job = Arc::new(job);
        // Built before the threads, so that those already running are stopped if one more is refused.
        let mut prefetch = Self { shared, workers: Vec::with_capacity(threads), reader: None };
        for number in 0..threads {
            let (shared, job) = (Arc::clone(&prefetch.shared), Arc::clone(&job));
            let worker = std::thread::Builder::new().name(format!("image-loader-{number}"));
            prefetch.workers.push(worker.spawn(move || work(&shared, &*job))?);
        }
        Ok(prefetch)
    }
}

impl<In, Out> Prefetch<In, Out> {
    /// Whether every input that has arrived was given as a result.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.shared.lock();
        state.pending.is_empty() && state.begun == state.given
    }
}

fn work<In, Out>(shared: &Shared<In, Out>, job: &impl Fn(usize, In) -> Out) {
    loop {
        let mut state = shared.wait(|state| {
            let may_begin = !state.pending.is_empty() && state.begun - state.given < shared.window;
            let finished = state.pending.is_empty() && !state.more;
            !(may_begin || finished || state.stop)
        });
        if state.stop {
            return;
        }
        let Some(input) = state.pending.pop_front() else { return };
        let index = state.begun;
        state.begun += 1;
        drop(state);
        // A panic is carried to the consumer, who would otherwise wait for this result for ever.
        let result = catch_unwind(AssertUnwindSafe(|| job(index, input)));
        shared.lock().done.insert(index, result);
        shared.changed.notify_all();
    }
}

impl<In, Out> Iterator for Prefetch<In, Out> {
    type Item = Out;

    /// The next result in order; waits for it. A panic of its job, or of the input list, continues here.
    fn next(&mut self) -> Option<Out> {
        let mut state = self.shared.wait(|state| {
            let ended = state.pending.is_empty() && !state.more && state.given == state.begun;
            !(ended || state.done.contains_key(&state.given))
        });
        let next = state.given;
        let Some(result) = state.done.remove(&next) else {
            let panic = state.list_panic.take();
            drop(state);
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
            return None;
        };
        state.given += 1;
        drop(state);
        self.shared.changed.notify_all();
        Some(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

impl<In, Out> Drop for Prefetch<In, Out> {
    /// Stops the work: jobs that run are finished, none is begun, and the threads are gone when this returns.
    ///
    /// Except for one: a reader that waits for its list (a pipe nobody writes to) cannot be woken. It holds no
    /// result, and ends as soon as the list answers.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        let reader_waits = state.reading;
        drop(state);
        self.shared.changed.notify_all();
        let reader = self.reader.take().filter(|_| !reader_waits);
        for thread in self.workers.drain(..).chain(reader) {
            // Threads catch the panics of what they run; there is nothing to learn from their end.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Later inputs finish sooner, so that order does not come about by itself.
    fn uneven(index: usize, input: usize) -> (usize, usize) {
        std::thread::sleep(Duration::from_micros(((97 * index) % 7 * 100) as u64));
        (index, input * 2)
    }

    #[test]
    fn results_come_in_the_order_of_the_inputs() {
        let expected: Vec<(usize, usize)> = (0..200).map(|i| (i, i * 2)).collect();
        for (threads, window) in [(1, 1), (1, 4), (4, 1), (3, 5), (8, 100)] {
            let list = Prefetch::over_list(0..200, threads, window, uneven).unwrap();
            assert_eq!(list.collect::<Vec<_>>(), expected);
            let stream = Prefetch::over_stream(0..200, threads, window, uneven).unwrap();
            assert_eq!(stream.collect::<Vec<_>>(), expected);
        }
        assert_eq!(Prefetch::over_list([], 4, 4, uneven).unwrap().next(), None);
        assert_eq!(Prefetch::over_stream(std::iter::empty(), 4, 4, uneven).unwrap().next(), None);
    }

    #[test]
    fn no_more_than_the_window_is_in_flight() {
        let begun = Arc::new(AtomicUsize::new(0));
        let read = Arc::new(AtomicUsize::new(0));
        let (counts_begun, counts_read) = (Arc::clone(&begun), Arc::clone(&read));
        let inputs = (0..100).inspect(move |_| _ = counts_read.fetch_add(1, Ordering::SeqCst));
        let mut results = Prefetch::over_stream(inputs, 4, 6, move |_, input: usize| {
            counts_begun.fetch_add(1, Ordering::SeqCst);
            input
        })
        .unwrap();
        for given in 0..100 {
            std::thread::sleep(Duration::from_millis(1));
            assert!(begun.load(Ordering::SeqCst) <= given + 6);
            assert!(read.load(Ordering::SeqCst) <= given + 6 + 6 + 1);
            assert_eq!(results.next(), Some(given));
        }
        assert_eq!(results.next(), None);
    }

    #[test]
    fn dropped_early_it_stops_and_leaves_no_thread() {
        let alive = Arc::new(());
        let begun = Arc::new(AtomicUsize::new(0));
        let (held, counts) = (Arc::clone(&alive), Arc::clone(&begun));
        let mut results = Prefetch::over_stream(0..1_000_000, 3, 4, move |_, input: usize| {
            let _held = &held;
            counts.fetch_add(1, Ordering::SeqCst);
            input
        })
        .unwrap();
        assert_eq!(results.next(), Some(0));
        drop(results);
        // The job is owned by the workers alone, so that it is gone once they are.
        assert_eq!(Arc::strong_count(&alive), 1);
        assert!(begun.load(Ordering::SeqCst) <= 1 + 4);
    }

    #[test]
    fn a_result_is_given_while_the_list_is_silent_and_dropping_does_not_wait_for_it() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut results = Prefetch::over_stream(receiver.into_iter(), 2, 4, uneven).unwrap();
        sender.send(5).unwrap();
        assert_eq!(results.next(), Some((0, 10)));
        drop(results);
        drop(sender);
    }

    #[test]
    fn a_panic_reaches_the_consumer_in_its_turn() {
        let job = |_, input: usize| if input == 2 { panic!("the third input") } else { input };
        let mut results = Prefetch::over_list(0..4, 2, 4, job).unwrap();
        assert_eq!((results.next(), results.next()), (Some(0), Some(1)));
        let panic = catch_unwind(AssertUnwindSafe(|| results.next())).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"the third input"));
        assert_eq!((results.next(), results.next()), (Some(3), None));

        let inputs = (0..3).inspect(|&input| assert_ne!(input, 1));
        let mut results = Prefetch::over_stream(inputs, 2, 4, uneven).unwrap();
        assert_eq!(results.next(), Some((0, 0)));
        assert!(catch_unwind(AssertUnwindSafe(|| results.next())).is_err());
        assert_eq!(results.next(), None);
    }
}
