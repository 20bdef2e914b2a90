//! Work of fixed shapes, recorded once and replayed: one launch of a CUDA graph.
//!
//! A recording goes through three runs. The first is ordinary: kernels are loaded, algorithms chosen, workspaces made.
//! The second is ordinary too, and writes down what is allocated and released. From that, [`arena`](super::arena) lays out
//! one block of memory; the third run is captured into a graph with every buffer at its place there. From then on the host
//! launches the graph, and allocates, chooses and looks up nothing.
//!
//! What a thread records is its own: the trace and the capture are of this thread's calls alone, and the capture has a
//! stream to itself, so that other threads may use the device meanwhile.

use super::arena::{Block, Layout, Place, layout};
use super::context::Context;
use super::error::{CudaError, Doing};
use super::memory::{Buffer, CudaTensor, Memory};
use crate::backend::Result;
use cudarc::driver::sys::{
    CUdeviceptr, CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUstream, CUstreamCaptureMode,
};
use cudarc::driver::{CudaStream, DriverError, result};
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A piece of work, as far as it is recorded.
#[derive(Debug, Default)]
pub struct CudaRecording {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Fresh,
    /// It ran once.
    Warm(Vec<CudaTensor>),
    /// It ran again, and this is what it allocates.
    Traced(Vec<CudaTensor>, Layout),
    /// It is a graph.
    Captured(Captured),
}

/// A graph, and the memory it works in.
#[derive(Debug)]
struct Captured {
    outputs: Vec<CudaTensor>,
    graph: Graph,
    /// A work without outputs works in memory, too.
    _arena: Arc<Buffer>,
}

impl CudaRecording {
    /// Whether the next run is a replay.
    pub fn is_captured(&self) -> bool {
        matches!(self.state, State::Captured(_))
    }
}

/// Runs `work`, or what was recorded of it.
///
/// # Panics
/// If `work` allocates otherwise than the time before, or copies between host and device: its caller promised not to.
pub(super) fn run_recorded<'r>(
    context: &Arc<Context>,
    recording: &'r mut CudaRecording,
    work: &mut dyn FnMut() -> Result<Vec<CudaTensor>>,
) -> Result<&'r [CudaTensor]> {
    recording.state = match std::mem::take(&mut recording.state) {
        State::Fresh => State::Warm(work()?),
        State::Warm(outputs) if !context.records => {
            drop(outputs);
            State::Warm(work()?)
        }
        State::Warm(outputs) => {
            drop(outputs);
            let session = Session::begin(Mode::Tracing(Trace::default()), &context.memory);
            let outputs = work()?;
            let Mode::Tracing(trace) = session.end() else { unreachable!("the session began as a trace") };
            State::Traced(outputs, layout(&trace.blocks))
        }
        State::Traced(outputs, layout) => {
            drop(outputs);
            let captured = capture(context, layout, work)?;
            captured.graph.launch(context)?;
            State::Captured(captured)
        }
        State::Captured(captured) => {
            captured.graph.launch(context)?;
            State::Captured(captured)
        }
    };
    match &recording.state {
        State::Warm(outputs) | State::Traced(outputs, _) => Ok(outputs),
        State::Captured(captured) => Ok(&captured.outputs),
        State::Fresh => unreachable!("every run leaves its outputs"),
    }
}

/// Runs `work` on a stream that writes down instead of running.
fn capture(
    context: &Arc<Context>,
    layout: Layout,
    work: &mut dyn FnMut() -> Result<Vec<CudaTensor>>,
) -> Result<Captured> {
    let stream = context.cuda.new_stream().doing("making a stream")?;
    // What the ordinary runs used is not needed beside the arena.
    context.memory.trim();
    let arena = Arc::new(context.memory.buffer(layout.bytes)?);
    context.bind()?;
    // SAFETY: the stream is alive and nobody else's.
    unsafe {
        result::stream::begin_capture(
            stream.cu_stream(),
            CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
        )
    }
    .doing("beginning to record")?;
    let under_way = Capturing { stream: Arc::clone(&stream), context };
    let placing = Placing { stream, arena, places: layout.places, next: 0 };
    let session = Session::begin(Mode::Placing(placing), &context.memory);
    let outputs = work()?;
    let ended = session.end();
    let graph = Graph::new(context, under_way.end().doing("recording")?)?;
    let Mode::Placing(placing) = ended else { unreachable!("the session began with places") };
    assert_eq!(placing.next, placing.places.len(), "a recorded work allocates the same every time");
    Ok(Captured { outputs, graph, _arena: placing.arena })
}

/// A stream that writes down; whatever happens, it does not stay so.
struct Capturing<'a> {
    stream: Arc<CudaStream>,
    context: &'a Context,
}

impl Capturing<'_> {
    fn end(self) -> std::result::Result<CUgraph, DriverError> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so that the stream is taken out of it once.
        let stream = unsafe { std::ptr::read(&this.stream) };
        // SAFETY: the stream is alive and captures.
        unsafe { result::stream::end_capture(stream.cu_stream()) }
    }
}

impl Drop for Capturing<'_> {
    /// The work failed: what was written down so far is thrown away.
    fn drop(&mut self) {
        let cuda = &self.context.cuda;
        // SAFETY: the stream is alive and captures.
        match unsafe { result::stream::end_capture(self.stream.cu_stream()) } {
            // SAFETY: the graph was just made, and nobody else has it.
            Ok(graph) if !graph.is_null() => cuda.record_err(unsafe { result::graph::destroy(graph) }),
            Ok(_) => (),
            Err(error) => cuda.record_err(Err::<(), _>(error)),
        }
    }
}

/// A graph in both its forms.
#[derive(Debug)]
struct Graph {
    graph: CUgraph,
    executable: CUgraphExec,
    /// What its nodes use: kernels, algorithms' workspace, and the memory that tensors from outside lie in.
    context: Arc<Context>,
}

// SAFETY: graphs belong to no thread; the driver asks for no two calls on one at a time, and `&mut` sees to that.
unsafe impl Send for Graph {}
// SAFETY: a shared reference gives no call but through `&mut CudaRecording`.
unsafe impl Sync for Graph {}

impl Graph {
    fn new(context: &Arc<Context>, graph: CUgraph) -> std::result::Result<Self, CudaError> {
        // SAFETY: the graph was just captured.
        let executable = unsafe { result::graph::instantiate(graph, CUgraphInstantiate_flags(0)) };
        let executable = match executable.doing("making a graph executable") {
            Ok(executable) => executable,
            Err(error) => {
                // SAFETY: nothing else has the graph.
                context.cuda.record_err(unsafe { result::graph::destroy(graph) });
                return Err(error);
            }
        };
        let graph = Self { graph, executable, context: Arc::clone(context) };
        // SAFETY: both are alive. What the device needs of the graph is there before it is first launched.
        unsafe { result::graph::upload(executable, context.memory.stream()) }.doing("uploading a graph")?;
        Ok(graph)
    }

    /// Enqueues everything in the graph on the compute stream.
    fn launch(&self, context: &Context) -> std::result::Result<(), CudaError> {
        context.bind()?;
        // SAFETY: the graph is alive, and so is what it uses: its recording's caller keeps the tensors that came from
        // outside, `context` everything else. Graphs and kernels follow one another on the compute stream.
        unsafe { result::graph::launch(self.executable, context.memory.stream()) }
            .doing("replaying a recording")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let cuda = &self.context.cuda;
        // It may still run.
        self.context.memory.wait();
        // SAFETY: both were made in `new`, and are destroyed once.
        unsafe {
            cuda.record_err(result::graph::exec_destroy(self.executable));
            cuda.record_err(result::graph::destroy(self.graph));
        }
    }
}

// --- What this thread records --------------------------------------------------------------------------------------

/// What happens to the allocations of this thread.
#[derive(Debug)]
enum Mode {
    /// They are written down.
    Tracing(Trace),
    /// They get the places that were laid out for them, and kernels go to a stream that records.
    Placing(Placing),
}

#[derive(Debug, Default)]
struct Trace {
    blocks: Vec<Block>,
    /// Allocations and releases so far.
    clock: usize,
}

#[derive(Debug)]
struct Placing {
    stream: Arc<CudaStream>,
    arena: Arc<Buffer>,
    places: Vec<Place>,
    next: usize,
}

struct Active {
    number: u64,
    /// The memory whose allocations are meant: a thread may use several devices.
    memory: *const Memory,
    mode: Mode,
}

thread_local! {
    static ACTIVE: RefCell<Option<Active>> = const { RefCell::new(None) };
}

/// Sessions are numbered, so that a buffer of one is not taken for another's.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// The time in which a thread records; it ends with the value, come what may.
struct Session(());

impl Session {
    fn begin(mode: Mode, memory: &Arc<Memory>) -> Self {
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        ACTIVE.with_borrow_mut(|active| {
            assert!(active.is_none(), "a recorded work records nothing itself");
            *active = Some(Active { number, memory: Arc::as_ptr(memory), mode });
        });
        Self(())
    }

    fn end(self) -> Mode {
        let active = ACTIVE.with_borrow_mut(Option::take);
        active.unwrap_or_else(|| unreachable!("only its session ends it")).mode
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        ACTIVE.with_borrow_mut(|active| *active = None);
    }
}

/// Calls `body` with what this thread records on `memory`, if it does.
fn with<R>(memory: &Memory, body: impl FnOnce(&mut Active) -> R) -> Option<R> {
    ACTIVE.with_borrow_mut(|active| match active {
        Some(active) if std::ptr::eq(active.memory, memory) => Some(body(active)),
        _ => None,
    })
}

/// An allocation of a trace: the session, and its number there.
pub(super) type Traced = (u64, usize);

/// The address that was laid out for the next allocation, and the arena it lies in; `None` where nothing is captured.
///
/// # Panics
/// If the allocation is not the one that was traced.
pub(super) fn place(memory: &Memory, bytes: usize) -> Option<(CUdeviceptr, Arc<Buffer>)> {
    with(memory, |active| {
        let Mode::Placing(placing) = &mut active.mode else { return None };
        let place = placing.places.get(placing.next).copied();
        assert_eq!(place.map(|p| p.bytes), Some(bytes), "a recorded work allocates the same every time");
        let offset = place.map_or(0, |p| p.offset);
        placing.next += 1;
        Some((placing.arena.pointer() + offset as u64, Arc::clone(&placing.arena)))
    })
    .flatten()
}

/// Writes an allocation down, where a trace is kept.
pub(super) fn born(memory: &Memory, bytes: usize) -> Option<Traced> {
    with(memory, |active| {
        let Mode::Tracing(trace) = &mut active.mode else { return None };
        trace.blocks.push(Block { bytes, born: trace.clock, dead: usize::MAX });
        trace.clock += 1;
        Some((active.number, trace.blocks.len() - 1))
    })
    .flatten()
}

/// Writes a release down, if the buffer is of the trace that is kept.
pub(super) fn dead(memory: &Memory, (session, number): Traced) {
    with(memory, |active| {
        if let (Mode::Tracing(trace), true) = (&mut active.mode, active.number == session) {
            trace.blocks[number].dead = trace.clock;
            trace.clock += 1;
        }
    });
}

/// The stream that records this thread's calls, where there is one.
pub(super) fn stream(memory: &Memory) -> Option<CUstream> {
    with(memory, |active| match &active.mode {
        Mode::Placing(placing) => Some(placing.stream.cu_stream()),
        Mode::Tracing(_) => None,
    })
    .flatten()
}

/// Whether this thread traces or captures.
pub(super) fn is_active(memory: &Memory) -> bool {
    with(memory, |_| ()).is_some()
}

/// # Panics
/// If this thread records: what is copied between host and device now would not be copied when it is replayed.
pub(super) fn assert_idle(memory: &Memory) {
    assert!(!is_active(memory), "a recorded work copies nothing between host and device");
}
