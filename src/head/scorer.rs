//! From features to scores and maps: what runs behind the backbone at inference.

use super::{DeployedHead, FoldedHead};
use crate::backend::{Backend, DeviceTensor, Result, gaussian_upsampling};
use crate::tensor::{Scalar, Tensor};

/// A deployed head with the matrices of its map.
#[derive(Debug)]
pub struct Scorer<B: Backend> {
    head: DeployedHead<B>,
    maps: MapMatrices<B>,
}

/// The two sides of the map's separable linear map `A·s·Bᵀ` for one grid and one output size.
#[derive(Debug)]
pub struct MapMatrices<B: Backend> {
    rows: B::Tensor,
    columns: B::Tensor,
}

impl<B: Backend> MapMatrices<B> {
    /// For score grids of `grid` to maps of `size`, both (height, width), smoothed with `sigma` pixels.
    pub fn new(backend: &B, grid: (usize, usize), size: (usize, usize), sigma: f64) -> Result<Self> {
        let upload = |input, output| {
            let matrix = gaussian_upsampling(input, output, sigma);
            let values: Vec<_> = matrix.data().iter().map(|&x| B::Scalar::from_f64(x)).collect();
            backend.upload(&Tensor::new(matrix.shape(), values))
        };
        Ok(Self { rows: upload(grid.0, size.0)?, columns: upload(grid.1, size.1)? })
    }

    /// Maps `[N, H, W]` and the maxima of the raw grids `[N]`, given scores `[N, H0, W0]`.
    pub fn apply(&self, backend: &B, scores: &B::Tensor) -> Result<(B::Tensor, B::Tensor)> {
        backend.anomaly_map(scores, &self.rows, &self.columns)
    }

    /// What becomes of the scores `[N·H0·W0]` of whole images: grids `[N, H0, W0]`, maps `[N, H, W]` and maxima `[N]`.
    pub fn finish(&self, backend: &B, scores: B::Tensor) -> Result<[B::Tensor; 3]> {
        let (grid_h, grid_w) = self.grid();
        let images = scores.shape()[0] / (grid_h * grid_w);
        let scores = backend.reshape(scores, &[images, grid_h, grid_w]);
        let (maps, image) = self.apply(backend, &scores)?;
        Ok([scores, maps, image])
    }

    fn grid(&self) -> (usize, usize) {
        (self.rows.shape()[1], self.columns.shape()[1])
    }
}

/// The answer for a batch, on the host.
#[derive(Debug)]
pub struct Scores<T> {
    /// `s = −D(G(o))`, `[N, H0, W0]`.
    pub grid: Tensor<T>,
    /// Upsampled and smoothed, `[N, H, W]`.
    pub maps: Tensor<T>,
    /// The maximum of each raw grid, `[N]`: the image's score.
    pub image: Tensor<T>,
}

impl<B: Backend> Scorer<B> {
    /// Deploys a folded head for score grids of `grid` and maps of `size`, both (height, width).
    pub fn new(
        backend: &B,
        head: &FoldedHead,
        grid: (usize, usize),
        size: (usize, usize),
        map_sigma: f64,
    ) -> Result<Self> {
        Ok(Self { head: head.deploy(backend)?, maps: MapMatrices::new(backend, grid, size, map_sigma)? })
    }

    /// Scores the features of whole images, `[N·H0·W0, C]`.
    pub fn score(&self, backend: &B, features: &B::Tensor) -> Result<Scores<B::Scalar>> {
        let [grid, maps, image] = self.maps.finish(backend, self.head.anomaly_scores(backend, features)?)?;
        Ok(Scores {
            grid: backend.download(&grid)?,
            maps: backend.download(&maps)?,
            image: backend.download(&image)?,
        })
    }
}
