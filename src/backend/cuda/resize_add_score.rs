//! `resize_add_score`: the deployed head behind the projections of the levels.

use super::context::Context;
use super::launch::{Grid, In, Kernel, kernels};
use super::memory::{CudaTensor, ElementType};
use crate::backend::Result;

/// Threads that score a position together.
const WARP: u64 = 32;

/// `Σ_c w[c]·leaky_relu(Σ_l resize(x_l)[r, c])`: `[N, Hₗ, Wₗ, C]…, [1, C] → [N·H0·W0]`.
pub(super) fn resize_add_score(
    context: &Context,
    projections: &[&CudaTensor],
    slope: f64,
    weight: &CudaTensor,
) -> Result<CudaTensor> {
    let [first, deeper @ ..] = projections else { panic!("at least one level") };
    let [n, height, width, columns] = first.extents();
    let [_, weights] = weight.extents();
    assert_eq!(weights, columns, "a weight a channel");
    let deeper: Vec<Deeper<'_>> = deeper
        .iter()
        .map(|level| {
            let [images, h, w, channels] = level.extents();
            assert_eq!((images, channels), (n, columns), "the same images and channels on every level");
            let positions = [(h, height), (w, width)];
            let countable = |(input, output)| 2 * u64::from(input) * u64::from(output) < 1 << 32;
            assert!(positions.into_iter().all(countable), "positions between pixels fit 32 bits");
            Deeper { data: level.read(), h, w }
        })
        .collect();
    let (second, third) = match *deeper.as_slice() {
        [] => (Deeper::absent(), Deeper::absent()),
        [second] => (second, Deeper::absent()),
        [second, third] => (second, third),
        _ => panic!("the backbone has three levels"),
    };
    let rows = n as usize * height as usize * width as usize;
    assert!(u32::try_from(rows).is_ok(), "{rows} positions are more than the kernel counts");
    let mut out = context.tensor(&[rows], ElementType::F32)?;
    kernels::ResizeAddScore {
        first: first.read(),
        second: second.data,
        third: third.data,
        weight: weight.read(),
        out: out.write(),
        second_h: second.h,
        second_w: second.w,
        third_h: third.h,
        third_w: third.w,
        rows: rows as u32,
        height,
        width,
        columns,
        slope: slope as f32,
    }
    .launch(context, Grid::threads(WARP * rows as u64))?;
    Ok(out)
}

/// A further level, `[N, h, w, C]`.
#[derive(Clone, Copy)]
struct Deeper<'a> {
    data: In<'a, f32>,
    h: u32,
    w: u32,
}

impl Deeper<'_> {
    fn absent() -> Self {
        Self { data: In::absent(), h: 0, w: 0 }
    }
}
