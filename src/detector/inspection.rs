//! From a stream of loaded images to a stream of answers: batches, order, and where the time goes.

use super::{Detection, Detector, ModelError, Submitted, detections};
use crate::backend::Backend;
use crate::data::{LoadedImage, Loader};
use std::time::{Duration, Instant};

/// An image of the stream and what the detector says of it.
#[derive(Debug)]
pub struct Inspected {
    /// The image, or why there is none.
    pub loaded: LoadedImage,
    /// The answer; `None` for an unreadable image.
    pub detection: Option<Detection>,
}

/// Where the time of an inspection went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InspectionTimes {
    /// Decoding and preprocessing, summed over the loader's threads; it runs beside everything else.
    pub loading: Duration,
    /// The detector waited for the next image.
    pub waiting: Duration,
    /// The detector at work.
    pub model: Duration,
    /// The detector waited until the answers were taken.
    pub delivering: Duration,
}

/// Scores images in batches, in their order, while the loader is already at the next ones. A device that works beside
/// the host gets the next batch before the last one's answer is fetched.
///
/// A batch is `batch` images; fewer where the loader knows of no more for now: whoever writes one path and waits for its
/// answer must get it. Unreadable images keep their place in the batch. An empty batch follows where the loader knows of
/// no more: a receiver that works beside the detector has then come to the end of the one before.
///
/// # Errors
/// What the detector or `deliver` fails at ends the inspection.
pub fn inspect<B: Backend<Scalar = f32>, E: From<ModelError>>(
    backend: &B,
    detector: &Detector<B>,
    loader: &mut Loader,
    batch: usize,
    deliver: &mut dyn FnMut(Vec<Inspected>) -> Result<(), E>,
) -> Result<InspectionTimes, E> {
    let mut times = InspectionTimes::default();
    let mut pending: Vec<LoadedImage> = Vec::with_capacity(batch);
    let mut under_way: Option<UnderWay<B>> = None;
    loop {
        let start = Instant::now();
        let loaded = loader.next();
        times.waiting += start.elapsed();
        let ended = loaded.is_none();
        if let Some(loaded) = loaded {
            times.loading += loaded.elapsed;
            pending.push(loaded);
        }
        if !pending.is_empty() && (ended || pending.len() == batch || loader.is_idle()) {
            let start = Instant::now();
            let batch = UnderWay::submit(backend, detector, std::mem::take(&mut pending))?;
            times.model += start.elapsed();
            let last = under_way.replace(batch);
            let waits = ended || loader.is_idle() || !backend.works_beside_host();
            for batch in last.into_iter().chain(if waits { under_way.take() } else { None }) {
                let start = Instant::now();
                let inspected = batch.collect(backend)?;
                times.model += start.elapsed();
                let start = Instant::now();
                deliver(inspected)?;
                times.delivering += start.elapsed();
            }
            // Nothing more for now: whoever takes the answers says so if that failed, before the next image comes.
            if loader.is_idle() {
                let start = Instant::now();
                deliver(Vec::new())?;
                times.delivering += start.elapsed();
            }
        }
        if ended {
            return Ok(times);
        }
    }
}

/// A batch that was submitted, unreadable images included.
struct UnderWay<B: Backend> {
    images: Vec<LoadedImage>,
    /// `None` where no image of the batch could be read.
    submitted: Option<Submitted<B>>,
}

impl<B: Backend<Scalar = f32>> UnderWay<B> {
    fn submit(backend: &B, detector: &Detector<B>, images: Vec<LoadedImage>) -> Result<Self, ModelError> {
        let readable = images.iter().filter_map(|loaded| loaded.result.as_ref().ok());
        let inputs: Vec<_> = readable.map(|sample| &sample.input).collect();
        let submitted =
            if inputs.is_empty() { None } else { Some(detector.submit_images(backend, &inputs)?) };
        Ok(Self { images, submitted })
    }

    fn collect(self, backend: &B) -> Result<Vec<Inspected>, ModelError> {
        let detections = match self.submitted {
            Some(submitted) => detections(&submitted.collect(backend)?),
            None => Vec::new(),
        };
        let mut detections = detections.into_iter();
        let answered = |loaded: LoadedImage| {
            let detection = loaded.result.is_ok().then(|| detections.next()).flatten();
            Inspected { loaded, detection }
        };
        Ok(self.images.into_iter().map(answered).collect())
    }
}
