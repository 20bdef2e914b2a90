//! Images decoded and preprocessed ahead of the network.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::RgbImage;

use super::prefetch::Prefetch;
use super::{DataError, Exif, Geometry, Preprocess, decode};

/// How images are loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// From a decoded image to the network's input.
    pub preprocess: Preprocess,
    /// Whether cameras' orientation tags count.
    pub exif: Exif,
    /// Whether a [`Sample`] keeps the decoded image, for overlays.
    pub keep_original: bool,
    /// Decoding threads.
    pub threads: usize,
    /// The most images in flight: being decoded, or decoded and not yet taken. At least 1.
    pub window: usize,
}

impl LoaderOptions {
    /// EXIF orientation applied, originals not kept, as many threads as rayon has, twice as many images in flight.
    pub fn new(preprocess: Preprocess) -> Self {
        let threads = rayon::current_num_threads();
        Self { preprocess, exif: Exif::Apply, keep_original: false, threads, window: 2 * threads }
    }

    /// The same with room for the next `batch` images while the present ones are worked on: only then is a consumer that
    /// takes batches never slower than the slower of the two sides. Originals are kept out of that room: they may be a
    /// hundred times as large as what the network sees.
    pub fn ahead_of_batches(self, batch: usize) -> Self {
        if self.keep_original { self } else { Self { window: self.window.max(batch + self.threads), ..self } }
    }
}

/// One image of the list, in the list's order.
#[derive(Debug)]
pub struct LoadedImage {
    /// Its position in the list.
    pub index: usize,
    /// Its file.
    pub path: PathBuf,
    /// The image, or why there is none; the images after it come all the same.
    pub result: Result<Sample, DataError>,
    /// How long a thread was busy with it.
    pub elapsed: Duration,
}

/// An image as the network takes it.
#[derive(Debug)]
pub struct Sample {
    /// `crop × crop`, 8-bit RGB.
    pub input: RgbImage,
    /// The way back to the original.
    pub geometry: Geometry,
    /// The decoded image, if asked for.
    pub original: Option<RgbImage>,
}

/// Loads a list of images in the background, on threads of its own, and gives them in order.
///
/// Safe to consume from inside rayon, with any number of rayon threads. Dropping it ends the work after the images
/// being decoded at that moment.
pub struct Loader {
    images: Prefetch<PathBuf, LoadedImage>,
}

impl Loader {
    /// Begins to load `paths`.
    ///
    /// # Errors
    /// Settings that [`Preprocess::validate`] refuses, or no thread to be had.
    pub fn new(paths: Vec<PathBuf>, options: LoaderOptions) -> Result<Self, DataError> {
        options.preprocess.validate()?;
        Prefetch::over_list(paths, options.threads, options.window, job(options))
            .map(Self::of)
            .map_err(refused)
    }

    /// Begins to load `paths` as they arrive, for lists longer than memory or never finished (lines of a pipe): each
    /// image is given as soon as it is loaded, while the next path is still awaited.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn streaming(
        paths: impl Iterator<Item = PathBuf> + Send + 'static,
        options: LoaderOptions,
    ) -> Result<Self, DataError> {
        options.preprocess.validate()?;
        Prefetch::over_stream(paths, options.threads, options.window, job(options))
            .map(Self::of)
            .map_err(refused)
    }

    /// Whether every image that is known of was given: what comes next has not arrived yet, or there is nothing more.
    pub fn is_idle(&self) -> bool {
        self.images.is_idle()
    }

    fn of(images: Prefetch<PathBuf, LoadedImage>) -> Self {
        Self { images }
    }
}

fn refused(source: std::io::Error) -> DataError {
    DataError::Thread { source }
}

fn job(options: LoaderOptions) -> impl Fn(usize, PathBuf) -> LoadedImage + Send + Sync + 'static {
    move |index, path| {
        let start = Instant::now();
        let result = load(&path, &options);
        LoadedImage { index, path, result, elapsed: start.elapsed() }
    }
}

fn load(path: &Path, options: &LoaderOptions) -> Result<Sample, DataError> {
    let original = decode(path, options.exif)?;
    let (input, geometry) = options.preprocess.apply(&original);
    Ok(Sample { input, geometry, original: options.keep_original.then_some(original) })
}

impl Iterator for Loader {
    type Item = LoadedImage;

    fn next(&mut self) -> Option<LoadedImage> {
        self.images.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    /// Images whose colour is their number, the fourth of them damaged.
    fn folder_of_images(count: u8) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..count).map(|i| folder.path().join(format!("{i:03}.png"))).collect();
        for (i, path) in (0..).zip(&paths) {
            RgbImage::from_pixel(20 + u32::from(i), 30, image::Rgb([i; 3])).save(path).unwrap();
        }
        std::fs::write(&paths[3], b"not an image").unwrap();
        (folder, paths)
    }

    fn options(threads: usize) -> LoaderOptions {
        let preprocess = Preprocess { resize: 16, crop: 12, ..Preprocess::default() };
        LoaderOptions { threads, window: 2 * threads, ..LoaderOptions::new(preprocess) }
    }

    fn check(loader: Loader, paths: &[PathBuf], keep_original: bool) {
        let mut seen = 0;
        for image in loader {
            // The consumer's own parallel work between two images.
            assert_eq!((0..1000u64).into_par_iter().sum::<u64>(), 499_500);
            assert_eq!((image.index, &image.path), (seen, &paths[seen]));
            match image.result {
                Ok(sample) => {
                    assert_ne!(seen, 3);
                    assert_eq!(sample.input, RgbImage::from_pixel(12, 12, image::Rgb([seen as u8; 3])));
                    assert_eq!(sample.geometry.original_size(), (20 + seen as u32, 30));
                    assert_eq!(sample.original.is_some(), keep_original);
                }
                Err(error) => {
                    assert_eq!(seen, 3);
                    assert!(error.to_string().contains("003.png"), "{error}");
                }
            }
            seen += 1;
        }
        assert_eq!(seen, paths.len());
    }

    #[test]
    fn images_come_in_order_and_a_damaged_one_stops_nothing() {
        let (_folder, paths) = folder_of_images(40);
        for keep_original in [false, true] {
            let options = LoaderOptions { keep_original, ..options(3) };
            check(Loader::new(paths.clone(), options).unwrap(), &paths, keep_original);
            let stream = paths.clone().into_iter();
            check(Loader::streaming(stream, options).unwrap(), &paths, keep_original);
        }
    }

    #[test]
    fn a_consumer_inside_a_pool_of_one_thread_does_not_deadlock() {
        let (_folder, paths) = folder_of_images(12);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(|| {
            let defaults = LoaderOptions::new(options(1).preprocess);
            assert_eq!((defaults.threads, defaults.window), (1, 2));
            check(Loader::new(paths.clone(), defaults).unwrap(), &paths, false);
        });
    }

    #[test]
    fn impossible_settings_are_refused_before_the_first_image() {
        let mut options = options(1);
        options.preprocess.crop = 17;
        assert!(matches!(
            Loader::new(Vec::new(), options),
            Err(DataError::Preprocess { resize: 16, crop: 17 })
        ));
    }
}
