//! Captured graphs replay what was captured, on what memory holds by then.

use cudarc::driver::sys::{
    CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode as Mode,
};
use cudarc::driver::{DriverError, result};

use crate::blas::{Operands, PLAIN, Plan, Problem};
use crate::world::{Event, Pinned, World, shape, values};

/// A graph and its executable form.
struct Graph(CUgraph, CUgraphExec);

impl Graph {
    fn launch(&self, world: &World) {
        // SAFETY: the graph is alive.
        unsafe { result::graph::launch(self.1, world.stream) }.unwrap();
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: nothing uses them any more.
        unsafe {
            result::graph::exec_destroy(self.1).unwrap();
            result::graph::destroy(self.0).unwrap();
        }
    }
}

fn begin(world: &World) {
    // SAFETY: the stream is alive, here and below.
    unsafe { result::stream::begin_capture(world.stream, Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) }
        .unwrap();
}

fn end(world: &World) -> Result<Graph, DriverError> {
    // SAFETY: as above.
    unsafe {
        let graph = result::stream::end_capture(world.stream)?;
        let executable = result::graph::instantiate(graph, CUgraphInstantiate_flags(0))?;
        result::graph::upload(executable, world.stream)?;
        Ok(Graph(graph, executable))
    }
}

#[test]
fn a_graph_replays_on_changed_memory() {
    for ordinal in [0, 1, 2] {
        let Some(world) = World::new(ordinal) else { return };
        let (x, out) = (world.buffer::<f32>(64), world.upload(&[0.0f32; 64]));
        let copy = world.buffer::<f32>(64);
        let mut source = Pinned::new(&[1.0; 64]);
        let mut target = Pinned::new(&[0.0; 64]);
        world.synchronise();
        begin(&world);
        let scale = 2.0f32;
        // SAFETY: all sides have the same size and outlive the graph.
        unsafe {
            result::memcpy_htod_async(x.address, source.values(), world.stream).unwrap();
            world.launch("axpy_f32", shape(1, 64), &[&x, &out, &scale, &64u32]).unwrap();
            result::memcpy_dtod_async(copy.address, out.address, 256, world.stream).unwrap();
            result::memcpy_dtoh_async(target.values(), copy.address, world.stream).unwrap();
            result::memset_d8_async(x.address, 0, 256, world.stream).unwrap();
        }
        let graph = end(&world).unwrap();
        // Nothing has run so far.
        assert_eq!(world.download(&out), [0.0; 64]);

        let before = world.simulator.counters(ordinal);
        graph.launch(&world);
        world.synchronise();
        assert_eq!(target.values(), [2.0; 64]);
        source.values().fill(10.0);
        graph.launch(&world);
        world.synchronise();
        assert_eq!(target.values(), [22.0; 64]);
        assert_eq!(world.download(&x), [0.0; 64]);
        let after = world.simulator.counters(ordinal);
        assert!(
            after.graph_launches >= before.graph_launches + 2 && after.kernels_run >= before.kernels_run + 2
        );
    }
}

#[test]
fn products_are_captured() {
    let Some(world) = World::new(0) else { return };
    let plan = Plan::new(Problem { m: 1, n: 1, k: 2, ..PLAIN }).unwrap();
    let (a, b, d) = (world.upload(&[2.0f32, 3.0]), world.upload(&[5.0f32, 7.0]), world.buffer::<f32>(1));
    begin(&world);
    let (a_at, b_at, d_at) = (a.address, b.address, d.address);
    let operands = Operands { a: a_at, b: b_at, c: d_at, d: d_at, bias: 0, workspace: 0, workspace_bytes: 0 };
    plan.run(operands, world.stream).unwrap();
    let graph = end(&world).unwrap();
    drop(plan);
    graph.launch(&world);
    assert_eq!(world.download(&d), [31.0]);
    // SAFETY: the buffer has eight bytes.
    unsafe { result::memcpy_htod_async(a.address, &[1.0f32, 1.0], world.stream) }.unwrap();
    graph.launch(&world);
    assert_eq!(world.download(&d), [12.0]);
}

/// A capture that forks to another stream and joins it again; `wait` leaves out the fork's or the join's edge.
fn fork_and_join(fork: bool, join: bool) -> Option<Result<Vec<f32>, DriverError>> {
    let world = World::new(0)?;
    let other = world.another_stream();
    let (one, x, out) =
        (world.upload(&[1.0f32; 32]), world.upload(&[0.0f32; 32]), world.upload(&[0.0f32; 32]));
    world.synchronise();
    let (forked, written, joined) = (Event::new(), Event::new(), Event::new());
    begin(&world);
    forked.record(world.stream);
    world.launch("axpy_f32", shape(1, 32), &[&one, &x, &4.0f32, &32u32]).unwrap();
    written.record(world.stream);
    let start = if fork { &written } else { &forked };
    start.wait(other.0).unwrap();
    world.launch_on(other.0, "axpy_f32", shape(1, 32), &[&x, &out, &1.0f32, &32u32]).unwrap();
    joined.record(other.0);
    if join {
        joined.wait(world.stream).unwrap();
    }
    Some(end(&world).map(|graph| {
        graph.launch(&world);
        world.download(&out)
    }))
}

#[test]
fn a_capture_takes_in_the_streams_that_wait_for_it() {
    let Some(answer) = fork_and_join(true, true) else { return };
    assert_eq!(answer.unwrap(), [4.0; 32]);
}

#[test]
fn a_stream_that_is_not_joined_spoils_the_capture() {
    let Some(answer) = fork_and_join(true, false) else { return };
    assert_eq!(answer.unwrap_err().0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
}

#[test]
fn what_waits_for_the_host_spoils_the_capture() {
    let Some(world) = World::new(0) else { return };
    let buffer = world.upload(&values(4, 1));
    let mut host = [0.0f32; 4];
    let event = Event::new();
    for attempt in 0..4 {
        begin(&world);
        // SAFETY: both sides have the same size; the simulator refuses all of them.
        let refused = unsafe {
            match attempt {
                0 => result::stream::synchronize(world.stream),
                1 => result::memcpy_dtoh_async(&mut host, buffer.address, world.stream),
                2 => result::memcpy_htod_async(buffer.address, &host, world.stream),
                _ => result::malloc_sync(4).map(drop),
            }
        };
        assert_eq!(refused.unwrap_err().0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "{attempt}");
        let later = world.launch("number_threads", shape(1, 4), &[&buffer]).unwrap_err();
        assert_eq!(later.0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "{attempt}");
        assert_eq!(
            end(&world).err().unwrap().0,
            CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
            "{attempt}"
        );
    }
    // A wait for work outside of the capture.
    event.record(world.stream);
    begin(&world);
    assert_eq!(event.wait(world.stream).unwrap_err().0, CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    assert!(end(&world).is_err());
    // The stream is as good as new.
    assert_eq!(world.download(&buffer), values(4, 1));
}

#[test]
fn a_captured_event_is_none_to_the_host() {
    let Some(world) = World::new(0) else { return };
    let event = Event::new();
    begin(&world);
    event.record(world.stream);
    // SAFETY: the event is alive.
    let refused = unsafe { result::event::synchronize(event.0) };
    assert_eq!(refused.unwrap_err().0, CUresult::CUDA_ERROR_CAPTURED_EVENT);
    assert!(end(&world).is_err());
}
