//! Spread over seeds, and agreement of two rankings.

/// Mean and sample standard deviation (n − 1); no deviation for a single value, nothing for none.
pub fn mean_and_std(values: &[f64]) -> Option<(f64, Option<f64>)> {
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt())))
}

/// Spearman's rank correlation, ties sharing their mean rank. None below two values, or where one side is constant.
pub fn spearman(a: &[f32], b: &[f32]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "a correlation is of pairs");
    let (a, b) = (ranks(a), ranks(b));
    let ((mean_a, std_a), (mean_b, std_b)) = (mean_and_std(&a)?, mean_and_std(&b)?);
    let covariance: f64 = a.iter().zip(&b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum();
    let scale = std_a? * std_b? * (a.len() as f64 - 1.0);
    (scale > 0.0).then(|| covariance / scale)
}

fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for group in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let mean = first as f64 + (group.len() as f64 - 1.0) / 2.0;
        group.iter().for_each(|&i| ranks[i] = mean);
        first += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        assert_eq!(mean_and_std(&[]), None);
        assert_eq!(mean_and_std(&[3.0]), Some((3.0, None)));
        let (mean, std) = mean_and_std(&[1.0, 2.0, 4.0]).unwrap();
        assert!((mean - 7.0 / 3.0).abs() < 1e-12 && (std.unwrap() - (7.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    /// `scipy.stats.spearmanr([1, 2, 2, 5, 0], [3, 1, 4, 9, 2])` = 0.564288…
    #[test]
    fn rank_correlation_is_scipys() {
        let rho = spearman(&[1.0, 2.0, 2.0, 5.0, 0.0], &[3.0, 1.0, 4.0, 9.0, 2.0]).unwrap();
        assert!((rho - 0.564_288).abs() < 1e-6, "{rho}");
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }
}
