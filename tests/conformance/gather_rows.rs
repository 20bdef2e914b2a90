//! `gather_rows`: images of the feature cache, step by step in any order, times one factor.

use simplenet::backend::cpu::Cpu;
use simplenet::backend::{Backend, BackendError, CachePrecision, Epoch, FeatureCacheOptions};
use simplenet::tensor::Tensor;

use crate::draws::Draws;
use crate::subject::Subject;

/// Factors: none, one that is no `f32` number, a large one with the sign changed.
const SCALES: [f64; 3] = [1.0, 0.1, -1234.567];

/// IEEE half precision, nearest even: a multiple of 2^(e − 10) for |x| in [2^e, 2^(e + 1)), of 2^−24 below 2^−14.
fn half(x: f64) -> f64 {
    let mut exponent = -14;
    while x.abs() >= 2f64.powi(exponent + 1) {
        exponent += 1;
    }
    let quantum = 2f64.powi(exponent - 10);
    (x / quantum).round_ties_even() * quantum
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let folder = tempfile::tempdir().unwrap();
    for precision in [CachePrecision::F32, CachePrecision::F16] {
        for limit_bytes in [u64::MAX, 0] {
            let options =
                FeatureCacheOptions { precision, limit_bytes, spill_folder: folder.path().to_owned() };
            for (grid, channels) in [([1, 1], 1), ([5, 7], 33), ([13, 9], 20), ([28, 28], 64)] {
                case(subject, grid, channels, &options);
            }
        }
    }
}

fn case<B: Backend>(
    subject: &Subject<B>,
    [h, w]: [usize; 2],
    channels: usize,
    options: &FeatureCacheOptions,
) {
    let mut draws = Draws::new(5);
    let rows = h * w;
    let mut features = draws.normals(&[6, h, w, channels], 0.0, 1.0);
    // Ties of half precision (to even: down, up), its subnormals, its largest number, zeros of both signs.
    let special =
        [1.0 + 2f64.powi(-11), 1.0 + 3.0 * 2f64.powi(-11), 3.0 * 2f64.powi(-25), 65504.0, 0.0, -0.0];
    for (image, value) in special.into_iter().enumerate() {
        features.data_mut()[image * rows * channels] = value;
    }
    let first = Tensor::new([1, h, w, channels], features.data()[..rows * channels].to_vec());
    let others = Tensor::new([5, h, w, channels], features.data()[rows * channels..].to_vec());

    // Room for more images than come.
    let mut cache = subject.device.feature_cache(8, rows, channels, options).unwrap();
    for batch in [&first, &others] {
        subject.device.append_features(&mut cache, &subject.upload(batch)).unwrap();
    }
    subject.device.finish_features(&mut cache).unwrap();

    for images in [&[2][..], &[5, 0, 3, 3, 1], &[4, 4, 4, 0, 5, 1, 2, 3, 0]] {
        let case = format!(
            "{images:?} of [6, {h}, {w}, {channels}] {:?}, limit {}",
            options.precision, options.limit_bytes
        );
        // All in one step, and in steps of two of which the last may have one image.
        let out = subject.run(&case, |device| {
            let mut batches = Vec::new();
            for (batch, scale) in runs(images) {
                let mut schedule = device.schedule(images.len(), batch)?;
                device.begin_epoch(&mut schedule, &Epoch { order: images, first_step: 7, done: 0 })?;
                for step in images.chunks(batch) {
                    batches.push(device.gather_rows(&cache, &schedule, step.len(), scale)?);
                    device.end_step(&mut schedule)?;
                }
            }
            Ok(batches)
        });
        let mut out = out.iter();
        for (batch, scale) in runs(images) {
            for step in images.chunks(batch) {
                let out = out.next().unwrap();
                let case = format!("{step:?} times {scale} in {case}");
                subject.compare_exactly(&case, out, &rows_of(step, scale, &features, options.precision));
            }
        }
        assert_eq!(out.len(), 0, "{case}: results beyond the steps");
    }
}

/// Images of a step, and the factor.
fn runs(images: &[u32]) -> impl Iterator<Item = (usize, f64)> {
    SCALES.into_iter().flat_map(move |scale| [(images.len(), scale), (2, scale)])
}

/// The rows of the given images, kept and multiplied, each rounded once, by a rule: nothing is left to tolerate. Of two
/// `f32` numbers `f64` holds the whole product.
fn rows_of(images: &[u32], scale: f64, features: &Tensor<f64>, precision: CachePrecision) -> Tensor<f64> {
    let &[_, h, w, channels] = features.shape() else { panic!("[N, H, W, C]") };
    let rows = h * w;
    let mut data = Vec::new();
    for &image in images {
        let rows = &features.data()[image as usize * rows * channels..][..rows * channels];
        let kept = rows.iter().map(|&value| match precision {
            CachePrecision::F32 => value,
            CachePrecision::F16 => half(value),
        });
        data.extend(kept.map(|value| f64::from((value * f64::from(scale as f32)) as f32)));
    }
    Tensor::new([images.len() * rows, channels], data)
}

#[test]
fn a_missing_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let options =
        FeatureCacheOptions { precision: CachePrecision::F32, limit_bytes: 0, spill_folder: missing.clone() };
    let BackendError::Spill { needed, folder, .. } =
        Cpu::<f32>::new().feature_cache(2, 3, 5, &options).unwrap_err()
    else {
        panic!("a folder that is not there is a spill error")
    };
    assert_eq!((needed, folder), (2 * 3 * 5 * 4, missing.display().to_string()));
}

/// The limit above is what sends the CPU's cache to a file, and nothing is left of the file.
#[test]
fn the_cpu_spills_above_the_limit_only() {
    let folder = tempfile::tempdir().unwrap();
    for (precision, bytes) in [(CachePrecision::F32, 120), (CachePrecision::F16, 60)] {
        for (limit_bytes, spilled) in [(bytes, false), (bytes - 1, true)] {
            let options =
                FeatureCacheOptions { precision, limit_bytes, spill_folder: folder.path().to_owned() };
            let cache = Cpu::<f32>::new().feature_cache(2, 3, 5, &options).unwrap();
            assert_eq!((cache.is_spilled(), cache.total_bytes()), (spilled, bytes));
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
