//! How long the device takes for a piece of work.
//!
//! Between two events on the compute stream, behind a fill of memory that is larger than the second-level cache: so
//! every sample starts with a cold cache, and the host has enqueued all of it before the device comes to it. In a
//! forward pass the cache is neither cold nor warm: an input may still be there, weights mostly are not. Cold is the
//! case that every candidate can be put into alike. Clocks are as they are: what is measured is what wins here and now. But
//! a device that was idle raises them only when it has work, so it is given some before anything is measured.

use super::context::Context;
use super::error::{CudaError, Doing};
use cudarc::driver::sys::{CUdeviceptr, CUevent_flags, CUresult};
use cudarc::driver::{CudaContext, CudaEvent, result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs before the first sample: modules are loaded, and whatever the work itself has to choose is chosen.
const WARM_UPS: usize = 2;
/// Samples; the fastest counts, because what disturbs a measurement only ever adds to it.
const SAMPLES: usize = 5;
/// What filling twice a second-level cache takes a device at least.
const FILL: Duration = Duration::from_micros(20);
/// The most fills in front of a sample; one more costs the host far less than the device.
const MOST_FILLS: u128 = 200;
/// How long a device is kept busy before the first measurement: its clocks are up by then.
const RAMP: Duration = Duration::from_millis(100);
/// Fills that are enqueued at a time meanwhile: enough for the device to have work while the host waits.
const FILLS_OF_RAMP: usize = 50;
/// The most memory that is filled to empty the cache.
const MOST_SWEPT: usize = 256 << 20;

/// Measures work on one device.
#[derive(Debug)]
pub(super) struct Stopwatch {
    sweep: Option<Sweep>,
}

impl Stopwatch {
    /// Takes twice the memory of the second-level cache for as long as it lives. Where that is not to be had, or where
    /// the device does not say how large the cache is, measurements are of warm caches: [`Stopwatch::is_cold`]. Where
    /// there is such memory, returns when the device's clocks are up.
    pub(super) fn new(context: &Context) -> Result<Self, CudaError> {
        context.bind()?;
        let bytes = (2 * context.device.l2_cache).min(MOST_SWEPT);
        let sweep = Sweep::new(&context.cuda, bytes)?;
        if let Some(sweep) = &sweep {
            for_at_least(RAMP, || {
                (0..FILLS_OF_RAMP).try_for_each(|_| sweep.fill(context))?;
                context.synchronize()
            })?;
        }
        Ok(Self { sweep })
    }

    /// Whether samples start with a cold cache.
    pub(super) fn is_cold(&self) -> bool {
        self.sweep.is_some()
    }

    /// Microseconds of what `work` enqueues on the compute stream.
    pub(super) fn microseconds(
        &self,
        context: &Context,
        mut work: impl FnMut() -> Result<(), CudaError>,
    ) -> Result<f64, CudaError> {
        let mut host = Duration::ZERO;
        for _ in 0..WARM_UPS {
            let begun = Instant::now();
            work()?;
            host = begun.elapsed();
        }
        // A work of many launches takes the host a while: the device must not come to it before.
        let fills = 1 + (host.as_nanos() / FILL.as_nanos()).min(MOST_FILLS) as usize;
        let event = || context.cuda.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).doing("making an event");
        let mut samples = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let (start, end) = (event()?, event()?);
            if let Some(sweep) = &self.sweep {
                for _ in 0..fills {
                    sweep.fill(context)?;
                }
            }
            record(&start, context)?;
            work()?;
            record(&end, context)?;
            samples.push((start, end));
        }
        let mut fastest = f64::INFINITY;
        for (start, end) in &samples {
            let milliseconds = start.elapsed_ms(end).doing("measuring time")?;
            fastest = fastest.min(f64::from(milliseconds) * 1e3);
        }
        // Events count in steps of half a microsecond: more digits than nanoseconds would mean nothing.
        Ok((fastest * 1e3).round() / 1e3)
    }
}

/// Does a work again and again, once at least, until as much time has passed.
fn for_at_least<E>(time: Duration, mut work: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    let begun = Instant::now();
    loop {
        work()?;
        if begun.elapsed() >= time {
            return Ok(());
        }
    }
}

fn record(event: &CudaEvent, context: &Context) -> Result<(), CudaError> {
    context.bind()?;
    // SAFETY: both are alive, and of one context.
    unsafe { result::event::record(event.cu_event(), context.memory.stream()) }.doing("recording an event")
}

/// Memory that is written to drive everything else out of the cache; not from the list of free buffers, which would
/// keep it.
#[derive(Debug)]
struct Sweep {
    pointer: CUdeviceptr,
    bytes: usize,
    cuda: Arc<CudaContext>,
}

impl Sweep {
    /// `None` where there is nothing to be swept, or no memory to do it with.
    fn new(cuda: &Arc<CudaContext>, bytes: usize) -> Result<Option<Self>, CudaError> {
        if bytes == 0 {
            return Ok(None);
        }
        // SAFETY: the memory is owned by the value made here, which frees it once.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(pointer) => Ok(Some(Self { pointer, bytes, cuda: Arc::clone(cuda) })),
            Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => Ok(None),
            Err(source) => Err(CudaError::Driver { doing: "allocating memory", source }),
        }
    }

    fn fill(&self, context: &Context) -> Result<(), CudaError> {
        // SAFETY: the range is this value's, which outlives the work: freeing it waits for the device.
        unsafe { result::memset_d8_async(self.pointer, 0, self.bytes, context.memory.stream()) }
            .doing("filling memory")
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        self.cuda.record_err(self.cuda.bind_to_thread());
        // SAFETY: the pointer came from malloc_sync and is freed once; cuMemFree waits for the work that uses it.
        let freed = unsafe { result::free_sync(self.pointer) };
        self.cuda.record_err(freed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_on_until_its_time_has_passed() {
        let (begun, mut runs) = (Instant::now(), 0);
        let time = Duration::from_millis(20);
        let mut work = || {
            runs += 1;
            std::thread::sleep(Duration::from_millis(1));
            Ok::<(), ()>(())
        };
        for_at_least(time, &mut work).unwrap();
        assert!(begun.elapsed() >= time);
        let before = runs;
        assert!(before > 1);
        assert_eq!(for_at_least(Duration::ZERO, || Ok::<(), ()>(())), Ok(()));
        assert_eq!(for_at_least(time, || Err("it fails")), Err("it fails"));
    }
}
