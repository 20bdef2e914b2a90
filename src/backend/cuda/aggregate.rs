//! `aggregate`: neighbourhood means of every level, on one grid, side by side (Eq. 1–4): one launch a level.

use super::context::Context;
use super::launch::{Grid, Kernel, kernels};
use super::memory::{CudaTensor, Element, ElementType, by_element};
use crate::backend::{Aggregation, AggregationMode, Result};

/// Channels that a thread of `aggregate_mean` takes, and outputs along a line: `THREAD_OUTPUTS` of
/// `kernels/aggregate.cu`.
const PACKET: usize = 4;
const THREAD_OUTPUTS: usize = 4;

/// `[N, Hₗ, Wₗ, Cₗ]… → [N, H0, W0, C]`, always in f32: features are the head's input.
pub(super) fn aggregate(
    context: &Context,
    levels: &[&CudaTensor],
    aggregation: &Aggregation,
) -> Result<CudaTensor> {
    let [n, height, width, _] = levels[0].axes();
    let channels: Vec<usize> = levels.iter().map(|level| level.axes::<4>()[3]).collect();
    let total = aggregation.output_channels(&channels);
    let mut out = context.tensor(&[n, height, width, total], ElementType::F32)?;
    let mut offset = 0;
    for (level, &level_channels) in levels.iter().zip(&channels) {
        let place = Place { offset, levels: levels.len(), aggregation };
        by_element!(level.element(), T => run::<T>(context, level, &mut out, &place))?;
        offset += aggregation.level_channels(level_channels, levels.len());
    }
    Ok(out)
}

/// What one of `levels` levels contributes, on its own grid: `[N, Hₗ, Wₗ, Cₗ] → [N, Hₗ, Wₗ, C']`.
pub(super) fn aggregate_level(
    context: &Context,
    level: &CudaTensor,
    aggregation: &Aggregation,
    levels: usize,
) -> Result<CudaTensor> {
    let [n, h, w, channels] = level.axes();
    let channels = aggregation.level_channels(channels, levels);
    let mut out = context.tensor(&[n, h, w, channels], ElementType::F32)?;
    let place = Place { offset: 0, levels, aggregation };
    by_element!(level.element(), T => run::<T>(context, level, &mut out, &place))?;
    Ok(out)
}

/// What a level is among the others.
struct Place<'a> {
    /// Its first channel in the result.
    offset: usize,
    levels: usize,
    aggregation: &'a Aggregation,
}

fn run<T: Element>(
    context: &Context,
    level: &CudaTensor,
    out: &mut CudaTensor,
    &Place { offset, levels, aggregation: &Aggregation { mode, patch } }: &Place<'_>,
) -> Result<()> {
    let [n, h, w, channels] = level.extents();
    let [images, out_h, out_w, out_channels] = out.extents();
    assert_eq!(n, images, "as many images on every level");
    for (input, output) in [(h, out_h), (w, out_w)] {
        assert_fits(&[2, input, output], "positions between pixels");
    }
    assert_fits(&[h, w, channels], "elements of an image");
    let lines = u64::from(n) * u64::from(out_h);
    let (input, to) = (level.read::<T>(), out.write());
    let (offset, patch, levels) = (offset as u32, patch as u32, levels as u32);
    match mode {
        AggregationMode::Mean => {
            let packets =
                [channels, out_channels, offset].iter().all(|size| (*size as usize).is_multiple_of(PACKET));
            let width = if packets { PACKET } else { 1 };
            let threads = (out_w as usize).div_ceil(THREAD_OUTPUTS) * (channels as usize / width);
            let grid = Grid::lines(lines, threads as u64);
            let out = to;
            if packets {
                kernels::AggregateMean {
                    input,
                    out,
                    h,
                    w,
                    channels,
                    out_h,
                    out_w,
                    out_channels,
                    offset,
                    patch,
                }
                .launch(context, grid)?;
            } else {
                kernels::AggregateMeanScalar {
                    input,
                    out,
                    h,
                    w,
                    channels,
                    out_h,
                    out_w,
                    out_channels,
                    offset,
                    patch,
                }
                .launch(context, grid)?;
            }
        }
        AggregationMode::PatchCore => {
            let bins = Aggregation::PATCHCORE_CHANNELS as u32;
            assert_fits(&[bins, channels, patch, patch], "places in the unfolded vector");
            let grid = Grid::lines(lines, u64::from(out_w) * u64::from(bins / levels));
            kernels::AggregatePatchcore {
                input,
                out: to,
                h,
                w,
                channels,
                out_h,
                out_w,
                out_channels,
                offset,
                patch,
                levels,
            }
            .launch(context, grid)?;
        }
    }
    Ok(())
}

/// The kernels count some things in 32 bits.
fn assert_fits(factors: &[u32], what: &str) {
    let product: u128 = factors.iter().map(|&factor| u128::from(factor)).product();
    assert!(product < 1 << 32, "{product} {what} are more than the kernel counts");
}
