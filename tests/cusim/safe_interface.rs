//! cudarc's safe interface runs on the simulator as it is: slices, pinned memory, events, its own bookkeeping.

use cudarc::driver::CudaContext;
use cudarc::driver::sys::CUevent_flags;

use crate::world::{simulator, values};

#[test]
fn slices_copies_and_events() {
    if simulator().is_none() {
        return;
    }
    let context = CudaContext::new(6).unwrap();
    let (stream, other) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let x = values(1000, 1);
    let timing = Some(CUevent_flags::CU_EVENT_DEFAULT);
    let start = stream.record_event(timing).unwrap();
    let on_device = stream.clone_htod(&x).unwrap();
    let mut copy = stream.alloc_zeros::<f32>(1000).unwrap();
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), vec![0.0; 1000]);
    stream.memcpy_dtod(&on_device.slice(500..), &mut copy.slice_mut(..500)).unwrap();
    let end = stream.record_event(timing).unwrap();
    assert!(start.elapsed_ms(&end).unwrap() >= 0.0);
    // cudarc itself makes one stream wait for the other's work.
    assert_eq!(other.clone_dtoh(&copy).unwrap(), [&x[500..], &[0.0; 500]].concat());

    // SAFETY: the memory is written before it is read.
    let mut pinned = unsafe { context.alloc_pinned::<f32>(1000) }.unwrap();
    stream.memcpy_dtoh(&on_device, &mut pinned).unwrap();
    assert_eq!(pinned.as_slice().unwrap(), x);
    let (free, total) = context.mem_get_info().unwrap();
    assert!(free <= total - 8000);
    context.synchronize().unwrap();
}

#[test]
fn everything_is_given_back() {
    let Some(simulator) = simulator() else { return };
    let ordinal = 3;
    {
        let context = CudaContext::new(ordinal).unwrap();
        let stream = context.new_stream().unwrap();
        let buffer = stream.clone_htod(&[1.0f32; 100]).unwrap();
        let event = stream.record_event(None).unwrap();
        stream.synchronize().unwrap();
        let held = simulator.counters(ordinal);
        assert_eq!((held.contexts, held.streams, held.device_allocations, held.device_bytes), (1, 1, 1, 400));
        assert_eq!((held.uploads, held.uploaded_bytes), (1, 400));
        assert!(held.events >= 1 && held.synchronisations >= 1);
        drop((buffer, event));
    }
    let left = simulator.counters(ordinal);
    assert_eq!((left.contexts, left.streams, left.events), (0, 0, 0));
    assert_eq!((left.device_allocations, left.device_bytes, left.pinned_allocations), (0, 0, 0));
    assert_eq!((left.peak_device_bytes, left.allocations), (400, 1));
}
