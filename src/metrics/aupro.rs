//! Area under the per-region overlap curve, and all pixel metrics together.

use super::compensated_sum::CompensatedSum;
use super::ranking::{sort_key, take_equal};
use super::{F1Max, LabelledMap, MetricError, Ranking, label_regions};
use rayon::slice::ParallelSliceMut;

/// The false-positive rate up to which MVTec AD's benchmark integrates the PRO curve.
pub const AUPRO_FPR_LIMIT: f64 = 0.3;

/// What a set of anomaly maps is worth, pixel by pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelMetrics {
    /// [`Ranking::auroc`] over all pixels: the paper's P-AUROC.
    pub auroc: f64,
    /// [`Ranking::average_precision`] over all pixels.
    pub average_precision: f64,
    /// [`Ranking::f1_max`] over all pixels.
    pub f1_max: F1Max,
    /// [`aupro()`] up to the limit that was asked for.
    pub aupro: f64,
}

/// All pixel metrics of a test set's maps; the pixels are sorted once for all of them.
///
/// Memory besides the maps: 4 bytes a pixel, 8 more a defective pixel, and one image's labels.
///
/// # Errors
/// As [`aupro()`].
pub fn pixel_metrics(maps: &[LabelledMap<'_>], fpr_limit: f64) -> Result<PixelMetrics, MetricError> {
    let ranking = Ranking::of_pixels(maps)?;
    Ok(PixelMetrics {
        auroc: ranking.auroc(),
        average_precision: ranking.average_precision(),
        f1_max: ranking.f1_max(),
        aupro: area_under_pro(maps, ranking.negative_keys(), fpr_limit)?,
    })
}

/// The area under the per-region overlap curve up to a false-positive rate, divided by that rate: in [0, 1].
///
/// P. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129, 2021. At a threshold `t`
/// - `PRO(t)` is the share of a region's pixels that score `≥ t`, averaged over the 8-connected regions of all masks
///   of all images: a small defect weighs as much as a large one;
/// - `FPR(t)` is the share of the defect-free pixels of all images, good ones included, that score `≥ t`.
///
/// The curve starts at (0, 0), has a point for every distinct score and is linear between; where the limit falls
/// between two points, the overlap there is interpolated. Masks are taken as they are, not dilated. Use
/// [`AUPRO_FPR_LIMIT`] for the benchmark's number. (MVTec's own script computes the rates in `f32`, so it agrees to
/// about six digits; this is the same curve without that rounding.)
///
/// # Errors
/// [`MetricError::Empty`], [`MetricError::OnlyOneClass`], or [`MetricError::LevelOutOfRange`] for a limit outside (0, 1].
pub fn aupro(maps: &[LabelledMap<'_>], fpr_limit: f64) -> Result<f64, MetricError> {
    area_under_pro(maps, Ranking::of_pixels(maps)?.negative_keys(), fpr_limit)
}

/// [`aupro()`] with the defect-free pixels' keys, ascending.
fn area_under_pro(
    maps: &[LabelledMap<'_>],
    mut negatives: &[u32],
    fpr_limit: f64,
) -> Result<f64, MetricError> {
    if !(fpr_limit > 0.0 && fpr_limit <= 1.0) {
        return Err(MetricError::LevelOutOfRange { level: fpr_limit, range: "(0, 1]" });
    }
    let (pixels, regions) = sorted_region_pixels(maps)?;
    let mut pixels = pixels.as_slice();

    // The curve is walked in false positives and summed overlaps; both are made rates at the end.
    let limit = fpr_limit * negatives.len() as f64;
    let mut false_positives = 0.0;
    let mut overlap = CompensatedSum::default();
    let mut area = CompensatedSum::default();
    while let Some(key) = negatives.last().copied().max(pixels.last().map(|&pixel| key_of(pixel))) {
        let before = overlap.value();
        while let [rest @ .., pixel] = pixels
            && key_of(*pixel) == key
        {
            overlap.add(1.0 / f64::from(*pixel as u32));
            pixels = rest;
        }
        let after = overlap.value();
        let step = take_equal(&mut negatives, key) as f64;
        if false_positives + step >= limit {
            let part = limit - false_positives;
            let at_limit = before + part / step * (after - before);
            area.add(part * 0.5 * (before + at_limit));
            break;
        }
        area.add(step * 0.5 * (before + after));
        false_positives += step;
    }
    // A perfect map can come out a rounding above 1.
    Ok((area.value() / (limit * regions as f64)).min(1.0))
}

/// Every pixel of every region as its score's key above its region's area, ascending, and the number of regions.
///
/// The area is all that need be known of the region: the pixel adds its reciprocal to the summed overlap.
fn sorted_region_pixels(maps: &[LabelledMap<'_>]) -> Result<(Vec<u64>, usize), MetricError> {
    let (mut pixels, mut count) = (Vec::new(), 0);
    for map in maps {
        let found = label_regions(map.mask(), map.width(), map.height())?;
        count += found.regions().len();
        for (index, &score) in map.scores().iter().enumerate() {
            if let Some(region) = found.region_of(index) {
                pixels.push(u64::from(sort_key(score)) << 32 | u64::from(region.area));
            }
        }
    }
    pixels.par_sort_unstable();
    Ok((pixels, count))
}

/// The score's key of a packed region pixel.
fn key_of(pixel: u64) -> u32 {
    (pixel >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ten pixels in a row: two regions (of 1 and of 3 pixels), six defect-free pixels.
    const MASK: [bool; 10] = [true, false, true, true, true, false, false, false, false, false];

    #[test]
    fn a_curve_by_hand() {
        let scores = [0.9, 0.8, 0.7, 0.7, 0.1, 0.5, 0.1, 0.0, 0.0, 0.0];
        let map = [LabelledMap::new(&scores, &MASK, 10, 1).unwrap()];
        // PRO over false positives: (0, ½) (1, ½) (1, 5/6) (2, 5/6) (3, 1) (6, 1).
        let full = (0.5 + 5.0 / 6.0 + 0.5 * (5.0 / 6.0 + 1.0) + 3.0) / 6.0;
        assert!((aupro(&map, 1.0).unwrap() - full).abs() < 1e-15);
        // The limit of 2.4 false positives falls between the fourth and the fifth point.
        let at_limit = 5.0 / 6.0 + 0.4 / 6.0;
        let to_limit = (0.5 + 5.0 / 6.0 + 0.4 * 0.5 * (5.0 / 6.0 + at_limit)) / 2.4;
        assert!((aupro(&map, 0.4).unwrap() - to_limit).abs() < 1e-15);
    }

    #[test]
    fn the_extremes() {
        let perfect = MASK.map(|defective| f32::from(u8::from(defective)));
        let constant = [3.5; 10];
        let inverted = perfect.map(|score| -score);
        for (scores, expected) in [(perfect, 1.0), (constant, 0.15), (inverted, 0.0)] {
            let map = [LabelledMap::new(&scores, &MASK, 10, 1).unwrap()];
            assert!((aupro(&map, AUPRO_FPR_LIMIT).unwrap() - expected).abs() < 1e-15, "{expected}");
        }
    }

    #[test]
    fn input_without_an_answer_is_refused() {
        assert_eq!(aupro(&[], 0.3), Err(MetricError::Empty));
        let good = [LabelledMap::new(&[0.5; 4], &[false; 4], 2, 2).unwrap()];
        assert_eq!(aupro(&good, 0.3), Err(MetricError::OnlyOneClass { positives: 0, negatives: 4 }));
        let defective = [LabelledMap::new(&[0.5; 4], &[true; 4], 2, 2).unwrap()];
        assert_eq!(aupro(&defective, 0.3), Err(MetricError::OnlyOneClass { positives: 4, negatives: 0 }));
        for limit in [0.0, -0.3, 1.1, f64::NAN] {
            let map = [LabelledMap::new(&[0.5; 10], &MASK, 10, 1).unwrap()];
            assert!(matches!(aupro(&map, limit), Err(MetricError::LevelOutOfRange { .. })), "{limit}");
        }
    }

    proptest! {
        /// With regions of one size the mean of overlaps is the share of all defective pixels, so the whole
        /// PRO curve is the ROC curve.
        #[test]
        fn with_equal_regions_the_whole_area_is_auroc(
            scores in prop::collection::vec(-20i8..20, 60), isolated in prop::collection::vec(any::<bool>(), 15),
        ) {
            prop_assume!(isolated.contains(&true));
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            // Pixel pairs two columns apart never touch.
            let mask: Vec<bool> = (0..60).map(|i| i % 4 < 2 && isolated[i / 4]).collect();
            let halves = [
                LabelledMap::new(&scores[..40], &mask[..40], 40, 1).unwrap(),
                LabelledMap::new(&scores[40..], &mask[40..], 20, 1).unwrap(),
            ];
            let all = pixel_metrics(&halves, 1.0).unwrap();
            prop_assert!((all.aupro - all.auroc).abs() < 1e-12);
            prop_assert_eq!(all.auroc, crate::metrics::auroc(&scores, &mask).unwrap());

            let limited = aupro(&halves, 0.3).unwrap();
            prop_assert!((0.0..=1.0).contains(&limited));
            prop_assert_eq!(aupro(&[halves[1], halves[0]], 0.3).unwrap(), limited, "order of images");
        }
    }
}
