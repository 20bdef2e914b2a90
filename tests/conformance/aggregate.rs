//! `aggregate`: neighbourhood means of every level on one grid (Eq. 1–4), and PatchCore's variant.

use simplenet::backend::{Aggregation, AggregationMode, Backend};
use simplenet::tensor::Tensor;

use crate::draws::Draws;
use crate::reference::{at, at_or, bilinear, image};
use crate::subject::Subject;

/// `avg_pool2d(p, stride = 1, padding = p/2)`: what lies outside is zero and counts, so p² values always.
fn average(level: &Tensor<f64>, patch: usize) -> Tensor<f64> {
    let &[n, h, w, channels] = level.shape() else { panic!("[N, H, W, C]") };
    let radius = (patch / 2) as isize;
    image([n, h, w, channels], |n, y, x, c| {
        let mut sum = 0.0;
        for i in -radius..=radius {
            for j in -radius..=radius {
                sum += at_or(level, n, (y as isize + i, x as isize + j), c, 0.0);
            }
        }
        sum / (patch * patch) as f64
    })
}

/// `unfold(p, stride = 1, padding = p/2)`: channel `(c·p + i)·p + j` is channel c at `(y + i − p/2, x + j − p/2)`.
fn unfold(level: &Tensor<f64>, patch: usize) -> Tensor<f64> {
    let &[n, h, w, channels] = level.shape() else { panic!("[N, H, W, C]") };
    let radius = (patch / 2) as isize;
    image([n, h, w, channels * patch * patch], |n, y, x, unfolded| {
        let (c, i, j) = (unfolded / (patch * patch), unfolded / patch % patch, unfolded % patch);
        at_or(level, n, (y as isize + i as isize - radius, x as isize + j as isize - radius), c, 0.0)
    })
}

/// `interpolate(mode="bilinear", align_corners=False)`.
pub(crate) fn resize(level: &Tensor<f64>, h: usize, w: usize) -> Tensor<f64> {
    let &[n, level_h, level_w, channels] = level.shape() else { panic!("[N, H, W, C]") };
    image([n, h, w, channels], |n, y, x, c| {
        let ((top, bottom, down), (left, right, across)) = (bilinear(y, level_h, h), bilinear(x, level_w, w));
        let line = |y| (1.0 - across) * at(level, n, y, left, c) + across * at(level, n, y, right, c);
        (1.0 - down) * line(top) + down * line(bottom)
    })
}

/// `adaptive_avg_pool1d`: output i is the mean of `[⌊i·L/n⌋, ⌈(i+1)·L/n⌉)`.
fn adaptive_average(values: &[f64], outputs: usize) -> Vec<f64> {
    let length = values.len();
    (0..outputs)
        .map(|i| {
            let begin = i * length / outputs;
            let end = ((i + 1) * length).div_ceil(outputs);
            values[begin..end].iter().sum::<f64>() / (end - begin) as f64
        })
        .collect()
}

/// The order of the paper: mean, resize, concatenate.
fn aggregate_means(levels: &[Tensor<f64>], patch: usize) -> Tensor<f64> {
    let &[n, h, w, _] = levels[0].shape() else { panic!("[N, H, W, C]") };
    let resized: Vec<_> = levels.iter().map(|level| resize(&average(level, patch), h, w)).collect();
    let mut data = Vec::new();
    for position in 0..n * h * w {
        for level in &resized {
            let channels = level.shape()[3];
            data.extend_from_slice(&level.data()[position * channels..][..channels]);
        }
    }
    let channels = data.len() / (n * h * w);
    Tensor::new([n, h, w, channels], data)
}

/// The order of the authors' code: unfold, resize the unfolded tensor, pool each level, stack, pool again.
fn aggregate_patchcore(levels: &[Tensor<f64>], patch: usize) -> Tensor<f64> {
    let &[n, h, w, _] = levels[0].shape() else { panic!("[N, H, W, C]") };
    let resized: Vec<_> = levels.iter().map(|level| resize(&unfold(level, patch), h, w)).collect();
    let mut data = Vec::new();
    for position in 0..n * h * w {
        let mut stacked = Vec::new();
        for level in &resized {
            let length = level.shape()[3];
            stacked.extend(adaptive_average(&level.data()[position * length..][..length], 1536));
        }
        data.extend(adaptive_average(&stacked, 1536));
    }
    Tensor::new([n, h, w, 1536], data)
}

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(4);
    let one: &[[usize; 3]] = &[[13, 9, 20]];
    let two: &[[usize; 3]] = &[[13, 9, 20], [7, 5, 33]];
    let three: &[[usize; 3]] = &[[5, 7, 3], [3, 4, 20], [2, 2, 64]];
    let points: &[[usize; 3]] = &[[1, 1, 33], [1, 1, 64]];
    // Vectors shorter than 1536 make overlapping bins, longer ones bins of unequal width; 64·5² is just above.
    let to_a_point: &[[usize; 3]] = &[[4, 3, 64], [1, 1, 1]];
    for levels in [one, two, three, points, to_a_point] {
        for batch in [1, 5] {
            let levels: Vec<_> = levels
                .iter()
                .map(|&[h, w, channels]| draws.normals(&[batch, h, w, channels], 0.5, 1.0))
                .collect();
            for patch in [1, 3, 5, 7] {
                for mode in [AggregationMode::Mean, AggregationMode::PatchCore] {
                    // One image shows all there is to see of the larger PatchCore cases.
                    if mode == AggregationMode::Mean || levels[0].len() < 4000 {
                        case(subject, &levels, Aggregation { mode, patch });
                    }
                }
            }
        }
    }
}

fn case<B: Backend>(subject: &Subject<B>, levels: &[Tensor<f64>], aggregation: Aggregation) {
    let Aggregation { mode, patch } = aggregation;
    let shapes: Vec<_> = levels.iter().map(|level| level.shape().to_vec()).collect();
    let case = format!("{mode:?} patch {patch} of {shapes:?}");
    let device_levels: Vec<_> = levels.iter().map(|level| subject.upload(level)).collect();
    let out = subject.run(&case, |device| {
        let levels: Vec<_> = device_levels.iter().collect();
        Ok(vec![device.aggregate(&levels, &aggregation)?])
    });
    let reference = match mode {
        AggregationMode::Mean => aggregate_means(levels, patch),
        AggregationMode::PatchCore => aggregate_patchcore(levels, patch),
    };
    // A neighbourhood (PatchCore: a bin, never more) and the four taps of the resize, with rounded weights.
    subject.compare(&case, &out[0], &reference, subject.rounding(patch * patch + 8));

    // Each level's share on its own grid, not yet resized.
    let shares = subject.run(&case, |device| {
        device_levels.iter().map(|level| device.aggregate_level(level, &aggregation, levels.len())).collect()
    });
    for (level, share) in levels.iter().zip(&shares) {
        let reference = match mode {
            AggregationMode::Mean => average(level, patch),
            AggregationMode::PatchCore => bins(level, patch, levels.len()),
        };
        let case = format!("{case}, the share of {:?}", level.shape());
        subject.compare(&case, share, &reference, subject.rounding(patch * patch));
    }
}

/// A level's part of PatchCore's vector: of its 1536 means, `levels` neighbours averaged.
fn bins(level: &Tensor<f64>, patch: usize, levels: usize) -> Tensor<f64> {
    let &[n, h, w, _] = level.shape() else { panic!("[N, H, W, C]") };
    let unfolded = unfold(level, patch);
    let length = unfolded.shape()[3];
    let means = unfolded.data().chunks_exact(length).flat_map(|vector| adaptive_average(vector, 1536));
    let means: Vec<f64> = means.collect();
    let grouped = means.chunks_exact(levels).map(|group| group.iter().sum::<f64>() / levels as f64);
    Tensor::new([n, h, w, 1536 / levels], grouped.collect())
}
