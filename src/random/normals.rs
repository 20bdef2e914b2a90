//! Box–Muller over arrays: the normals of the training noise.
//!
//! `f32` is branch-free arithmetic on short arrays, which compilers vectorise, and which a GPU can repeat
//! operation by operation: logarithm and sine are polynomials here, not calls into a platform's library. The error
//! of a normal against `f64` from the same integers is a few ulp (tested).

use super::philox::Philox;

/// Blocks handled at a time.
const BLOCKS: usize = 16;

/// `f64` from the same draws: [`Philox::normals`].
#[inline(always)]
pub(crate) fn fill_f64(philox: &Philox, first_block: u64, out: &mut [f64]) {
    for (block, out) in (first_block..).zip(out.chunks_exact_mut(4)) {
        out.copy_from_slice(&philox.normals(block));
    }
}

/// Four normals a block, in the order (cos, sin) of the first pair of draws, then of the second. Inlined, so that it is
/// compiled with the vector instructions of its caller; no operation is fused, so their choice changes no bit.
#[inline(always)]
pub(crate) fn fill_f32(philox: &Philox, first_block: u64, out: &mut [f32]) {
    for (group, out) in out.chunks_mut(4 * BLOCKS).enumerate() {
        let first = first_block + (group * BLOCKS) as u64;
        let mut draws = [[0; BLOCKS]; 4];
        for block in 0..BLOCKS {
            let words = philox.block(first + block as u64);
            for word in 0..4 {
                draws[word][block] = words[word];
            }
        }
        let mut normals = [[0.0; BLOCKS]; 4];
        for pair in [0, 2] {
            for block in 0..BLOCKS {
                let (cos, sin) = box_muller(draws[pair][block], draws[pair + 1][block]);
                normals[pair][block] = cos;
                normals[pair + 1][block] = sin;
            }
        }
        for (block, out) in out.chunks_exact_mut(4).enumerate() {
            for word in 0..4 {
                out[word] = normals[word][block];
            }
        }
    }
}

/// `√(−2 ln u)·(cos 2πv, sin 2πv)` with `u = (x + ½)·2⁻³²`, `v = (y + ½)·2⁻³²`.
#[inline(always)]
fn box_muller(x: u32, y: u32) -> (f32, f32) {
    let radius = (-2.0 * ln_uniform(x)).sqrt();

    // The angle's two top bits are its quadrant; the rest, centred, is an angle within ±π/4 from the quadrant's
    // middle. Splitting the integer loses nothing.
    let quadrant = y >> 30;
    let within = (y & 0x3FFF_FFFF) as i32 - (1 << 29);
    let angle = (within as f32 + 0.5) * (std::f32::consts::FRAC_PI_2 / 1_073_741_824.0);
    let (sin, cos) = sin_cos(angle);
    // Rotate by π/4 (the quadrant's middle), then by the quadrant.
    let (cos, sin) =
        ((cos - sin) * std::f32::consts::FRAC_1_SQRT_2, (cos + sin) * std::f32::consts::FRAC_1_SQRT_2);
    let swap = quadrant & 1 == 1;
    let (a, b) = if swap { (sin, cos) } else { (cos, sin) };
    // Quadrants 0..3 hold (c, s), (−s, c), (−c, −s), (s, −c).
    let cos_sign = (quadrant ^ (quadrant >> 1)) << 31;
    let sin_sign = (quadrant & 2) << 30;
    let flip = |value: f32, sign: u32| f32::from_bits(value.to_bits() ^ sign);
    (radius * flip(a, cos_sign), radius * flip(b, sin_sign))
}

/// `ln((x + ½)·2⁻³²)`, negative for every x: `ln(m·2ᵉ) = e·ln 2 + 2·atanh((m − 1)/(m + 1))`, m in [√½, √2), series
/// to s⁹ (the first term left out is below 2·10⁻⁹ of the result).
///
/// Near one, `m − 1` comes from the integer's complement: the rounding of u to `f32` would show in the logarithm.
#[inline(always)]
fn ln_uniform(x: u32) -> f32 {
    const SCALE: f32 = 1.0 / 4_294_967_296.0;
    const SQRT_HALF_BITS: u32 = 0x3F35_04F3;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let u = x as f32 * SCALE + 0.5 * SCALE;
    let complement = !x as f32 * SCALE + 0.5 * SCALE;
    let shifted = u.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let exponent = (shifted as i32) >> 23;
    let mantissa = f32::from_bits((shifted & 0x007F_FFFF) + SQRT_HALF_BITS);
    let above_one = if exponent == 0 { -complement } else { mantissa - 1.0 };
    let s = above_one / (mantissa + 1.0);
    let z = s * s;
    let series = z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    // ln 2 in two parts: the product with the high one is exact.
    exponent as f32 * LN_2_HIGH + (2.0 * (s + s * series) + exponent as f32 * LN_2_LOW)
}

/// Sine and cosine within ±π/4 by their Taylor series, to x⁹ and x¹⁰ (errors below 2·10⁻⁹).
#[inline(always)]
fn sin_cos(x: f32) -> (f32, f32) {
    let z = x * x;
    let sin = x + x * z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5040.0 + z * (1.0 / 362_880.0))));
    let cos = 1.0
        + z * (-0.5
            + z * (1.0 / 24.0 + z * (-1.0 / 720.0 + z * (1.0 / 40_320.0 + z * (-1.0 / 3_628_800.0)))));
    (sin, cos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::philox::Stream;

    #[test]
    fn f32_normals_equal_f64_ones() {
        let philox = Philox::new(3, Stream::Noise, 5);
        let (mut single, mut double) = (vec![0.0f32; 1 << 20], vec![0.0f64; 1 << 20]);
        fill_f32(&philox, 17, &mut single);
        fill_f64(&philox, 17, &mut double);
        for (single, double) in single.chunks_exact(2).zip(double.chunks_exact(2)) {
            // Of the pair's radius, which is what a rounding of the angle scales with; 4e-7 is 3 to 4 ulp.
            let error = (f64::from(single[0]) - double[0]).hypot(f64::from(single[1]) - double[1]);
            assert!(error <= 4e-7 * double[0].hypot(double[1]), "{single:?} against {double:?}");
        }
    }

    #[test]
    fn the_ends_of_the_range_are_finite_and_exact() {
        for x in [0, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
            for y in [0, 0x3FFF_FFFF, 0x4000_0000, 0x8000_0000, 0xC000_0000, u32::MAX] {
                let (cos, sin) = box_muller(x, y);
                let unit = |v: u32| (f64::from(v) + 0.5) / 4_294_967_296.0;
                let radius = (-2.0 * unit(x).ln()).sqrt();
                let (s, c) = (std::f64::consts::TAU * unit(y)).sin_cos();
                let error = (f64::from(cos) - radius * c).hypot(f64::from(sin) - radius * s);
                assert!(error <= 4e-7 * radius, "{x} {y}: {error} of {radius}");
            }
        }
    }

    /// Kolmogorov–Smirnov against Φ, and moments, for 2²⁰ draws.
    #[test]
    fn normals_are_normal() {
        let mut draws = vec![0.0f32; 1 << 20];
        fill_f32(&Philox::new(11, Stream::Noise, 0), 0, &mut draws);
        let n = draws.len() as f64;
        let mean = draws.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = draws.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let kurtosis =
            draws.iter().map(|&x| (f64::from(x) - mean).powi(4)).sum::<f64>() / n / variance.powi(2);
        assert!(mean.abs() < 4.0 / n.sqrt(), "mean {mean}");
        assert!((variance - 1.0).abs() < 4.0 * (2.0 / n).sqrt(), "variance {variance}");
        assert!((kurtosis - 3.0).abs() < 4.0 * (24.0 / n).sqrt(), "kurtosis {kurtosis}");
        draws.sort_by(f32::total_cmp);
        let distance = draws.iter().enumerate().map(|(i, &x)| {
            let phi = standard_normal_cdf(f64::from(x));
            (phi - i as f64 / n).abs().max((phi - (i + 1) as f64 / n).abs())
        });
        // 1.63/√n is the 1 % point of the Kolmogorov distribution.
        assert!(distance.fold(0.0, f64::max) < 1.63 / n.sqrt());
    }

    /// Φ by the series of the error function (|x| < 6 needs at most a few hundred terms).
    fn standard_normal_cdf(x: f64) -> f64 {
        let (mut term, mut sum, mut k) = (x, x, 1.0);
        while term.abs() > 1e-17 * sum.abs().max(1e-300) && k < 400.0 {
            term *= x * x / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
    }
}
