//! How much each column of a long matrix spreads, in one pass over its rows.

/// Mean and standard deviation of every column of a matrix that arrives in pieces: of each dimension of features that
/// would not fit into memory at once.
///
/// Sums run in `f64` over differences from the first row, so that what cancels is small where columns have large means.
#[derive(Clone, Debug)]
pub struct ColumnSpread {
    rows: usize,
    origin: Vec<f64>,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl ColumnSpread {
    /// Of a matrix with so many columns and no rows yet.
    pub fn new(columns: usize) -> Self {
        Self { rows: 0, origin: vec![0.0; columns], sums: vec![0.0; columns], squares: vec![0.0; columns] }
    }

    /// Adds whole rows, row-major.
    ///
    /// # Panics
    /// If `values` does not hold whole rows: a fault of the caller.
    pub fn add(&mut self, values: &[f32]) {
        let columns = self.origin.len();
        assert!(values.len().is_multiple_of(columns.max(1)), "rows come whole");
        for row in values.chunks_exact(columns.max(1)) {
            if self.rows == 0 {
                self.origin = row.iter().map(|&value| f64::from(value)).collect();
            }
            self.rows += 1;
            for (column, &value) in row.iter().enumerate() {
                let difference = f64::from(value) - self.origin[column];
                self.sums[column] += difference;
                self.squares[column] += difference * difference;
            }
        }
    }

    /// The rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The sample standard deviation of every column, `√(Σ(x − mean)² / (n − 1))`; none below two rows.
    pub fn std(&self) -> Option<Vec<f64>> {
        let count = self.rows as f64;
        let of = |(sum, square): (&f64, &f64)| ((square - sum * sum / count).max(0.0) / (count - 1.0)).sqrt();
        (self.rows > 1).then(|| self.sums.iter().zip(&self.squares).map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::mean_and_std;

    /// Against the two-pass deviation of each column. Sums of 1000 terms near one lose at most some 1e-13 of their value.
    #[test]
    fn columns_spread_as_they_do_one_by_one() {
        let (rows, columns) = (1000, 3);
        let values: Vec<f32> = (0..rows * columns)
            .map(|i| {
                (i as f32 * 0.7).sin() * [1.0, 1e-3, 40.0][i % columns] + [0.0, 5.0, -900.0][i % columns]
            })
            .collect();
        let mut spread = ColumnSpread::new(columns);
        // In pieces, an empty one among them.
        let (first, rest) = values.split_at(7 * columns);
        for piece in [first, &[], rest] {
            spread.add(piece);
        }
        assert_eq!(spread.rows(), rows);
        for (column, found) in spread.std().unwrap().into_iter().enumerate() {
            let alone: Vec<f64> =
                values.iter().skip(column).step_by(columns).map(|&v| f64::from(v)).collect();
            let expected = mean_and_std(&alone).unwrap().std.unwrap();
            assert!(
                (found - expected).abs() <= 1e-10 * expected,
                "column {column}: {found} is not {expected}"
            );
        }
    }

    #[test]
    fn one_row_does_not_spread_and_equal_rows_spread_by_nothing() {
        let mut spread = ColumnSpread::new(2);
        assert_eq!(spread.std(), None);
        spread.add(&[0.1, 1e9]);
        assert_eq!(spread.std(), None);
        spread.add(&[0.1, 1e9, 0.1, 1e9]);
        assert_eq!(spread.std(), Some(vec![0.0, 0.0]));
    }
}
