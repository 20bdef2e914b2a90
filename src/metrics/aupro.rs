//! AUPRO: how much of every defect region is found, against false positives.

use super::{MetricError, label_regions, order_key};
use rayon::prelude::*;

/// An anomaly map with its ground truth, row-major.
#[derive(Clone, Copy, Debug)]
pub struct PixelMap<'a> {
    /// Scores.
    pub scores: &'a [f32],
    /// Whether a pixel is defective.
    pub mask: &'a [bool],
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Area under the per-region-overlap curve up to a false positive rate of `limit` (0.3 by convention), divided by
/// `limit` (MVTec AD, Bergmann et al., IJCV 2021).
///
/// At a threshold, the overlap is the mean, over all 8-connected ground-truth regions of all images, of the share of
/// the region scored at least the threshold; the false positive rate is that share of all defect-free pixels. The
/// curve goes from (0, 0) through one point a distinct score, linearly between, and is cut by interpolation at the
/// limit.
///
/// Memory: 8 bytes a pixel.
pub fn aupro(maps: &[PixelMap<'_>], limit: f64) -> Result<f64, MetricError> {
    let mut keys: Vec<u64> = Vec::with_capacity(maps.iter().map(|map| map.scores.len()).sum());
    // The share of the mean overlap that one pixel of a region is worth, by region; region 0 is defect-free.
    let mut areas = vec![0usize];
    for map in maps {
        if map.scores.len() != map.mask.len() {
            return Err(MetricError::LengthMismatch { scores: map.scores.len(), labels: map.mask.len() });
        }
        if let Some(index) = map.scores.iter().position(|score| score.is_nan()) {
            return Err(MetricError::NotANumber { index: keys.len() + index });
        }
        let labelled = label_regions(map.mask, map.width, map.height);
        let first = areas.len() as u32 - 1;
        keys.extend(map.scores.iter().zip(&labelled.labels).map(|(&score, &label)| {
            let region = if label == 0 { 0 } else { first + label };
            u64::from(order_key(score)) << 32 | u64::from(region)
        }));
        areas.extend(labelled.regions.iter().map(|region| region.area));
    }
    let defective: usize = areas.iter().sum();
    let negatives = keys.len() - defective;
    if keys.is_empty() {
        return Err(MetricError::Empty);
    }
    if negatives == 0 || defective == 0 {
        return Err(MetricError::OnlyOneClass { count: keys.len(), positive: negatives == 0 });
    }
    keys.par_sort_unstable_by(|a, b| b.cmp(a));

    let regions = (areas.len() - 1) as f64;
    let worth: Vec<f64> = areas.iter().map(|&area| 1.0 / (area as f64 * regions)).collect();
    let (mut false_positives, mut overlap, mut area) = (0usize, 0.0, 0.0);
    let mut previous = (0.0, 0.0);
    for group in keys.chunk_by(|a, b| a >> 32 == b >> 32) {
        for key in group {
            match (key & u64::from(u32::MAX)) as usize {
                0 => false_positives += 1,
                region => overlap += worth[region],
            }
        }
        let (x, y) = (false_positives as f64 / negatives as f64, overlap);
        let (x0, y0) = previous;
        if x >= limit {
            let y_at_limit = if x > x0 { y0 + (y - y0) * (limit - x0) / (x - x0) } else { y };
            area += (limit - x0) * (y0 + y_at_limit) / 2.0;
            break;
        }
        area += (x - x0) * (y0 + y) / 2.0;
        previous = (x, y);
    }
    Ok(area / limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(scores: &[f32], mask: &[bool], width: usize) -> Result<f64, MetricError> {
        aupro(&[PixelMap { scores, mask, width, height: mask.len() / width }], 0.3)
    }

    #[test]
    fn perfect_random_and_inverted_maps() {
        let mask: Vec<bool> = (0..100).map(|i| i % 10 < 2).collect();
        let score =
            |good: f32, bad: f32| mask.iter().map(|&m| if m { bad } else { good }).collect::<Vec<f32>>();
        assert!((measure(&score(0.0, 1.0), &mask, 10).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(measure(&score(1.0, 0.0), &mask, 10).unwrap(), 0.0);
        // All scores equal: one straight line, whose mean up to 0.3 is 0.15.
        assert!((measure(&[0.5; 100], &mask, 10).unwrap() - 0.15).abs() < 1e-12);
    }

    #[test]
    fn small_regions_weigh_as_much_as_large_ones() {
        // Two regions, of one and of nine pixels; only the small one is found.
        let mask: Vec<bool> = "#...#########.......".bytes().map(|byte| byte == b'#').collect();
        let mut scores = vec![0.1; 20];
        scores[0] = 1.0;
        mask.iter().enumerate().skip(4).filter(|(_, m)| **m).for_each(|(i, _)| scores[i] = 0.0);
        assert!((measure(&scores, &mask, 20).unwrap() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn one_class_is_an_error() {
        let error = measure(&[0.0; 4], &[false; 4], 2).unwrap_err();
        assert_eq!(error, MetricError::OnlyOneClass { count: 4, positive: false });
        assert_eq!(aupro(&[], 0.3).unwrap_err(), MetricError::Empty);
    }
}
