//! The metrics against NumPy, SciPy and scikit-learn, whose answers `tests/fixtures/metrics/make.py` wrote down.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    ranking: Vec<RankingCase>,
    maps: Vec<MapsCase>,
    regions: Vec<RegionsCase>,
    samples: Vec<SampleCase>,
    clopper_pearson: Vec<(u64, u64, f64, f64)>,
    spearman: Vec<SpearmanCase>,
}

#[derive(Deserialize)]
struct RankingReference {
    auroc: f64,
    average_precision: f64,
    f1_max: f64,
    f1_threshold: f32,
}

#[derive(Deserialize)]
struct RankingCase {
    name: String,
    scores: Vec<f32>,
    labels: String,
    #[serde(flatten)]
    expected: RankingReference,
}

#[derive(Deserialize)]
struct ImageCase {
    width: usize,
    height: usize,
    scores: Vec<f32>,
    mask: Vec<String>,
}

#[derive(Deserialize)]
struct MapsCase {
    name: String,
    images: Vec<ImageCase>,
    aupro: Vec<(f64, f64)>,
    regions: usize,
    #[serde(flatten)]
    expected: RankingReference,
}

#[derive(Deserialize)]
struct RegionsCase {
    name: String,
    width: usize,
    height: usize,
    mask: Vec<String>,
    labels: Vec<u32>,
    /// Area, x0, y0, x1, y1.
    boxes: Vec<[u32; 5]>,
}

#[derive(Deserialize)]
struct SampleCase {
    sample: Vec<f32>,
    quantiles: Vec<(f64, f64)>,
    mean: f64,
    std: Option<f64>,
}

#[derive(Deserialize)]
struct SpearmanCase {
    left: Vec<f32>,
    right: Vec<f32>,
    correlation: f64,
}

/// All counts are exact and all sums compensated, here as there: what is left is the rounding of a few `f64`
/// operations, far below this.
const BOUND: f64 = 1e-12;

fn fixture() -> Fixture {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/metrics/metrics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn set_pixels<'a>(rows: impl IntoIterator<Item = &'a String>) -> Vec<bool> {
    rows.into_iter().flat_map(|row| row.bytes().map(|byte| byte == b'#')).collect()
}

#[track_caller]
fn assert_close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= BOUND, "{what}: {found} instead of {expected}");
}

fn assert_ranking(auroc: f64, ap: f64, f1: F1Max, expected: &RankingReference, name: &str) {
    assert_close(auroc, expected.auroc, &format!("AUROC, {name}"));
    assert_close(ap, expected.average_precision, &format!("average precision, {name}"));
    assert_close(f1.f1, expected.f1_max, &format!("F1-max, {name}"));
    assert_eq!(f1.threshold, expected.f1_threshold, "threshold of F1-max, {name}");
}

#[test]
fn rankings_equal_scikit_learn() {
    let cases = fixture().ranking;
    assert_eq!(cases.len(), 13);
    for case in cases {
        let ranking = Ranking::new(&case.scores, &set_pixels([&case.labels])).unwrap();
        assert_ranking(
            ranking.auroc(),
            ranking.average_precision(),
            ranking.f1_max(),
            &case.expected,
            &case.name,
        );
    }
}

/// The reference thresholds at every distinct score, so both sides integrate the same points of the same
/// piecewise linear curve: they agree as closely as everything else, not just to the 1e-4 that a sampled curve
/// would allow.
#[test]
fn pixel_metrics_equal_their_definitions() {
    let cases = fixture().maps;
    assert_eq!(cases.len(), 4);
    for case in cases {
        let masks: Vec<Vec<bool>> = case.images.iter().map(|image| set_pixels(&image.mask)).collect();
        let maps: Vec<LabelledMap<'_>> = case
            .images
            .iter()
            .zip(&masks)
            .map(|(image, mask)| LabelledMap::new(&image.scores, mask, image.width, image.height).unwrap())
            .collect();
        let regions: usize = maps
            .iter()
            .map(|map| label_regions(map.mask(), map.width(), map.height()).unwrap().regions().len())
            .sum();
        assert_eq!(regions, case.regions, "regions, {}", case.name);
        for (limit, expected) in case.aupro {
            let found = pixel_metrics(&maps, limit).unwrap();
            assert_close(found.aupro, expected, &format!("AUPRO to {limit}, {}", case.name));
            assert_eq!(aupro(&maps, limit), Ok(found.aupro));
            assert_ranking(found.auroc, found.average_precision, found.f1_max, &case.expected, &case.name);
        }
    }
}

#[test]
fn regions_equal_scipy() {
    let cases = fixture().regions;
    assert_eq!(cases.len(), 8);
    for case in cases {
        let found = label_regions(&set_pixels(&case.mask), case.width, case.height).unwrap();
        assert_eq!(found.labels(), case.labels, "{}", case.name);
        let boxes: Vec<[u32; 5]> = found
            .regions()
            .iter()
            .map(|region| [region.area, region.rect.x0, region.rect.y0, region.rect.x1, region.rect.y1])
            .collect();
        assert_eq!(boxes, case.boxes, "{}", case.name);
    }
}

#[test]
fn quantiles_means_and_spreads_equal_numpy() {
    let cases = fixture().samples;
    assert_eq!(cases.len(), 6);
    for case in cases {
        for (level, expected) in case.quantiles {
            let what = format!("quantile {level} of {}", case.sample.len());
            assert_close(quantile(&case.sample, level).unwrap(), expected, &what);
        }
        let wide: Vec<f64> = case.sample.iter().map(|&value| f64::from(value)).collect();
        let found = mean_and_std(&wide).unwrap();
        assert_close(found.mean, case.mean, "mean");
        assert_eq!(found.std.is_some(), case.std.is_some());
        if let (Some(found), Some(expected)) = (found.std, case.std) {
            assert_close(found, expected, "standard deviation");
        }
    }
}

#[test]
fn clopper_pearson_bounds_equal_scipy() {
    let cases = fixture().clopper_pearson;
    assert_eq!(cases.len(), 80);
    for (rejected, total, confidence, expected) in cases {
        let found = clopper_pearson_upper(rejected, total, confidence);
        // Relative, and so far stricter than an absolute bound where the rate is small. SciPy's inverse and the
        // logarithms of a large sample's tail share the rounding that is left.
        assert!(
            (found - expected).abs() <= 1e-9 * expected,
            "{rejected} of {total} at {confidence}: {found} instead of {expected}"
        );
    }
}

#[test]
fn rank_correlations_equal_scipy() {
    let cases = fixture().spearman;
    assert_eq!(cases.len(), 6);
    for case in cases {
        assert_close(spearman(&case.left, &case.right).unwrap(), case.correlation, "Spearman");
    }
}

/// A parallel sort splits its work by the number of threads; no result may show it.
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    // Long enough for rayon to split, with few distinct values among many.
    let side = 512;
    let scores: Vec<f32> = (0..side * side).map(|i| ((i * 7919) % 4099) as f32 * 0.37 - 300.0).collect();
    let mask: Vec<bool> = (0..side * side).map(|i| (i / 7 + i / side / 5) % 23 == 0).collect();
    let other: Vec<f32> = scores.iter().map(|score| (score * 0.1).sin()).collect();
    let measured = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let maps = [LabelledMap::new(&scores, &mask, side, side).unwrap()];
            (pixel_metrics(&maps, AUPRO_FPR_LIMIT).unwrap(), spearman(&scores, &other).unwrap())
        })
    };
    let alone = measured(1);
    assert_eq!(measured(2), alone);
    assert_eq!(measured(5), alone);
}
