//! Streams run late: what a program forgets to order shows every time.

use cudarc::driver::result;
use cudarc::driver::sys::CUresult;

use crate::world::{Buffer, Event, Pinned, World, shape, values};

fn copy_down(to: &mut [f32], from: &Buffer<f32>, world: &World) {
    // SAFETY: both sides have the same size.
    unsafe { result::memcpy_dtoh_async(to, from.address, world.stream) }.unwrap();
}

fn copy_up(to: &Buffer<f32>, from: &[f32], world: &World) {
    // SAFETY: both sides have the same size.
    unsafe { result::memcpy_htod_async(to.address, from, world.stream) }.unwrap();
}

#[test]
fn pageable_memory_is_free_again_when_the_call_returns() {
    let Some(world) = World::new(0) else { return };
    let buffer = world.buffer::<f32>(100);
    let mut source = values(100, 1);
    copy_up(&buffer, &source, &world);
    source.fill(0.0);
    assert_eq!(world.download(&buffer), values(100, 1));
}

#[test]
fn a_pinned_source_that_is_overwritten_too_early_shows() {
    let Some(world) = World::alone(1) else { return };
    let buffer = world.buffer::<f32>(100);
    let mut source = Pinned::new(&values(100, 1));
    copy_up(&buffer, source.values(), &world);
    source.values().fill(5.0);
    assert_eq!(world.download(&buffer), [5.0; 100]);

    source.values().copy_from_slice(&values(100, 2));
    copy_up(&buffer, source.values(), &world);
    world.synchronise();
    source.values().fill(5.0);
    assert_eq!(world.download(&buffer), values(100, 2));
}

#[test]
fn a_pinned_target_that_is_read_too_early_shows() {
    let Some(world) = World::alone(2) else { return };
    let buffer = world.upload(&[1.0f32; 8]);
    let mut target = Pinned::new(&[0.0; 8]);
    copy_down(target.values(), &buffer, &world);
    assert_eq!(target.values(), [0.0; 8]);
    world.synchronise();
    assert_eq!(target.values(), [1.0; 8]);
}

/// One stream fills a buffer, another copies it.
fn producer_and_consumer(wait: bool) -> Option<Vec<f32>> {
    let world = World::alone(0)?;
    let other = world.another_stream();
    let (x, out) = (world.upload(&[2.0f32; 64]), world.upload(&[1.0f32; 64]));
    world.synchronise();
    world.launch("axpy_f32", shape(1, 64), &[&x, &out, &3.0f32, &64u32]).unwrap();
    let event = Event::new();
    event.record(world.stream);
    if wait {
        event.wait(other.0).unwrap();
    }
    Some(world.download_on(other.0, &out))
}

#[test]
fn a_missing_wait_between_streams_shows() {
    let Some(answer) = producer_and_consumer(true) else { return };
    assert_eq!(answer, [7.0; 64]);
    assert_eq!(producer_and_consumer(false).unwrap(), [1.0; 64]);
}

#[test]
fn a_wait_reaches_to_the_recorded_point_and_no_further() {
    let Some(world) = World::alone(0) else { return };
    let other = world.another_stream();
    let out = world.buffer::<u8>(4);
    let fill = |value| {
        // SAFETY: the buffer has four bytes.
        unsafe { result::memset_d8_async(out.address, value, 4, world.stream) }.unwrap();
    };
    let event = Event::new();
    fill(1);
    event.record(world.stream);
    fill(2);
    event.wait(other.0).unwrap();
    assert_eq!(world.download_on(other.0, &out), [1; 4]);
    assert_eq!(world.download(&out), [2; 4]);
}

#[test]
fn an_event_is_done_when_its_work_has_run() {
    let Some(world) = World::alone(0) else { return };
    let event = Event::new();
    // SAFETY: the event is alive, here and below.
    let query = || unsafe { result::event::query(event.0) }.map_err(|error| error.0);
    assert_eq!(query(), Ok(()), "never recorded");
    let _buffer = world.upload(&[1.0f32; 4]);
    event.record(world.stream);
    assert_eq!(query(), Err(CUresult::CUDA_ERROR_NOT_READY));
    world.synchronise();
    assert_eq!(query(), Ok(()));
    // Who asks again and again gets on.
    let _buffer = world.upload(&[1.0f32; 4]);
    event.record(world.stream);
    assert!((0..1000).any(|_| query().is_ok()));
    // SAFETY: as above.
    unsafe { result::event::synchronize(event.0) }.unwrap();
}

#[test]
fn work_that_nobody_waits_for_runs_in_the_end() {
    let Some(world) = World::new(8) else { return };
    let (x, out) = (world.upload(&[1.0f32; 4]), world.upload(&[0.0f32; 4]));
    let before = world.simulator.counters(8).kernels_run;
    for _ in 0..5000 {
        world.launch("axpy_f32", shape(1, 4), &[&x, &out, &1.0f32, &4u32]).unwrap();
    }
    assert!(world.simulator.counters(8).kernels_run > before + 3000);
    assert_eq!(world.download(&out), [5000.0; 4]);
}

#[test]
fn freeing_memory_waits_for_the_work_that_uses_it() {
    let Some(world) = World::new(0) else { return };
    let out = world.upload(&[1.0f32; 64]);
    let x = world.upload(&[1.0f32; 64]);
    world.launch("axpy_f32", shape(1, 64), &[&x, &out, &1.0f32, &64u32]).unwrap();
    drop(x);
    assert_eq!(world.download(&out), [2.0; 64]);
}

#[test]
fn many_threads_share_a_device() {
    if World::new(0).is_none() {
        return;
    }
    std::thread::scope(|scope| {
        for seed in 0..8 {
            scope.spawn(move || {
                let world = World::new(4).unwrap();
                for round in 0..20 {
                    let x = values(3000, seed * 100 + round);
                    let (x_gpu, out) = (world.upload(&x), world.upload(&vec![0.0f32; 3000]));
                    world.launch("axpy_f32", shape(12, 256), &[&x_gpu, &out, &1.0f32, &3000u32]).unwrap();
                    assert_eq!(world.download(&out), x);
                }
            });
        }
    });
}

#[test]
fn copies_stay_within_their_buffers() {
    let Some(world) = World::new(0) else { return };
    let buffer = world.upload(&[0.0f32; 10]);
    let other = world.upload(&[0.0f32; 10]);
    let mut pinned = Pinned::new(&[0.0; 4]);
    let host = [0.0f32; 11];
    // SAFETY: the simulator refuses each of these before anything is read or written.
    let refused = unsafe {
        [
            result::memcpy_htod_async(buffer.address, &host, world.stream),
            result::memcpy_htod_async(buffer.address - 4, &host[..1], world.stream),
            result::memcpy_dtod_async(buffer.address, other.address, 44, world.stream),
            result::memcpy_dtod_async(buffer.address + 4, buffer.address, 36, world.stream),
            result::memset_d8_async(buffer.address + 8, 0, 36, world.stream),
            result::memcpy_htod_async(
                buffer.address,
                std::slice::from_raw_parts(pinned.values().as_ptr(), 5),
                world.stream,
            ),
            result::memcpy_htod_async(
                buffer.address,
                std::slice::from_raw_parts(other.address as *const f32, 1),
                world.stream,
            ),
        ]
    };
    for result in refused {
        assert_eq!(result.unwrap_err().0, CUresult::CUDA_ERROR_INVALID_VALUE);
    }
}

#[test]
fn a_buffer_is_freed_once_and_by_its_start() {
    let Some(world) = World::new(0) else { return };
    let buffer = world.buffer::<f32>(10);
    let twice = world.buffer::<f32>(10).address;
    for address in [twice, buffer.address + 4, 0x1234] {
        // SAFETY: the simulator refuses, because the address is no buffer's.
        let refused = unsafe { result::free_sync(address) }.unwrap_err();
        assert_eq!(refused.0, CUresult::CUDA_ERROR_INVALID_VALUE);
    }
}
