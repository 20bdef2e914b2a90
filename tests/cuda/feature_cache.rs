//! Where features are kept: on the device, in host memory, in a file, and what is said when half cannot hold one.

use simplenet::backend::cuda::{Cuda, CudaFeatureCache, CudaOptions, CudaTensor, Precision};
use simplenet::backend::{Backend, BackendError, CachePrecision, Epoch, FeatureCacheOptions};
use simplenet::tensor::Tensor;

use crate::draws::normals;

/// 7 images of 3×5 positions, of a channel count that no packet divides.
const SHAPE: [usize; 4] = [7, 3, 5, 13];
const BYTES: usize = 7 * 3 * 5 * 13 * 4;
/// What features are multiplied by: no `f32` number, and no power of two.
const SCALE: f64 = 0.3;

/// The rows of given images, multiplied by `scale`, in one step.
fn gather(cuda: &Cuda, cache: &CudaFeatureCache, images: &[u32], scale: f64) -> CudaTensor {
    let mut schedule = cuda.schedule(images.len(), images.len()).unwrap();
    cuda.begin_epoch(&mut schedule, &Epoch { order: images, first_step: 0, done: 0 }).unwrap();
    cuda.gather_rows(cache, &schedule, images.len(), scale).unwrap()
}

/// Every place holds the same features, whatever it is, and gives them scaled alike.
pub(crate) fn check_places(open: impl Fn(CudaOptions) -> Cuda, ordinal: usize) {
    let folder = tempfile::tempdir().unwrap();
    let features = normals(1, &SHAPE, 0.0, 1.0);
    let mut gathered = Vec::new();
    for (device_bytes, host_bytes, place) in [
        (BYTES, 0, "device memory"),
        (BYTES - 1, BYTES as u64, "host memory"),
        (BYTES - 1, BYTES as u64 - 1, "a file"),
    ] {
        let mut options = CudaOptions::new(ordinal, Precision::F32);
        (options.feature_memory, options.poison_memory) = (Some(device_bytes), true);
        let cuda = open(options);
        let [images, h, w, channels] = SHAPE;
        let options = FeatureCacheOptions {
            precision: CachePrecision::F32,
            limit_bytes: host_bytes,
            spill_folder: folder.path().to_owned(),
        };
        let mut cache = cuda.feature_cache(images, h * w, channels, &options).unwrap();
        assert_eq!(cache.place(), place);
        cuda.append_features(&mut cache, &cuda.upload(&features).unwrap()).unwrap();
        cuda.finish_features(&mut cache).unwrap();
        let rows = gather(&cuda, &cache, &[6, 0, 2, 2], SCALE);
        // The cache goes before the kernel that reads it may have run.
        drop(cache);
        gathered.push(cuda.download(&rows).unwrap());
    }
    let per_image = features.len() / SHAPE[0];
    let expected: Vec<f32> = [6, 0, 2, 2]
        .iter()
        .flat_map(|image| &features.data()[image * per_image..][..per_image])
        .map(|feature| feature * SCALE as f32)
        .collect();
    for rows in gathered {
        assert_eq!(rows.data(), expected);
    }
}

/// Many images, most of them more than once.
pub(crate) fn check_many_images(cuda: &Cuda) {
    let features = normals(2, &[9, 1, 1, 6], 0.0, 1.0);
    let options = FeatureCacheOptions {
        precision: CachePrecision::F32,
        limit_bytes: u64::MAX,
        spill_folder: std::env::temp_dir(),
    };
    let mut cache = cuda.feature_cache(9, 1, 6, &options).unwrap();
    cuda.append_features(&mut cache, &cuda.upload(&features).unwrap()).unwrap();
    cuda.finish_features(&mut cache).unwrap();
    let images: Vec<u32> = (0..150).map(|i| i * 7 % 9).collect();
    let rows = cuda.download(&gather(cuda, &cache, &images, 1.0)).unwrap();
    for (row, &image) in rows.data().chunks_exact(6).zip(&images) {
        assert_eq!(row, &features.data()[image as usize * 6..][..6]);
    }
}

/// A feature beyond half's range is reported with its value, however many follow; NaN is worse than any number.
pub(crate) fn check_overflow(cuda: &Cuda) {
    let options = FeatureCacheOptions {
        precision: CachePrecision::F16,
        limit_bytes: u64::MAX,
        spill_folder: std::env::temp_dir(),
    };
    let finish = |values: [f32; 4]| {
        let mut cache = cuda.feature_cache(1, 2, 2, &options).unwrap();
        let features = cuda.upload(&Tensor::new([1, 1, 2, 2], values.to_vec())).unwrap();
        cuda.append_features(&mut cache, &features).unwrap();
        cuda.finish_features(&mut cache)
    };
    finish([65504.0, -65504.0, 1e-9, 0.0]).unwrap();
    let value = |values| match finish(values).unwrap_err() {
        BackendError::FeatureOverflow { value } => value,
        other => panic!("{other}"),
    };
    assert_eq!(value([1.0, -7e4, 6.6e4, 0.0]), 7e4);
    assert!(value([1.0, f32::NAN, 1e30, 0.0]).is_nan());
}
