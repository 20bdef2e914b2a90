//! Stride 2: the phases of a convolution, those of two taps by Winograd's algorithm F(4, 2).
//!
//! Along one axis output k of a tile is `g₀·d₂ₖ + g₂·d₂ₖ₊₂ + g₁·d₂ₖ₊₁`: a convolution of stride 1 of the inputs at even
//! places with two taps, and a multiple of those at odd places. The first takes five products for four outputs (Toom and
//! Cook's algorithm as in [`super::stride1`], at the points 0, 1, −1, 2 and ∞), the second four, of one and the same weight. Both
//! axes together take 81 products for 16 outputs where the definition takes 144. All of it is linear in each axis, so
//! that both kinds are rows of the same transforms: nine values of each column, then nine of each row.

use super::scheme::{MATRICES, MOST_OUTPUTS, Scheme, TAPS, WEIGHTS, splat};
use super::vector::Vector;
use crate::tensor::Scalar;

/// Two taps by F(4, 2), one tap by its definition, along each axis.
pub(super) struct Stride2;

/// Points at which the even phase is evaluated.
const POINTS: usize = 5;
/// Products along one axis, and as many inputs: the even phase's points, then the odd one's outputs.
pub(super) const LINE: usize = POINTS + MOST_OUTPUTS;

const _: () = assert!(WEIGHTS == POINTS + 1, "a weight for each point, and the middle tap");

/// Along one axis, which weight a product takes.
const fn weight(product: usize) -> usize {
    if product < POINTS { product } else { POINTS }
}

/// Products by row and column of a tile's 9×9, in the order of their matrices, and row and column of each.
const ORDER: ([[usize; LINE]; LINE], [(usize, usize); LINE * LINE]) = {
    let (mut products, mut places) = ([[0; LINE]; LINE], [(0, 0); LINE * LINE]);
    let (mut matrix, mut next) = (0, 0);
    while matrix < MATRICES {
        let mut place = 0;
        while place < LINE * LINE {
            let (row, column) = (place / LINE, place % LINE);
            if weight(row) * WEIGHTS + weight(column) == matrix {
                (products[row][column], places[next]) = (next, (row, column));
                next += 1;
            }
            place += 1;
        }
        matrix += 1;
    }
    (products, places)
};
static PRODUCT: [[usize; LINE]; LINE] = ORDER.0;
static PLACE: [(usize, usize); LINE * LINE] = ORDER.1;

impl Scheme<LINE> for Stride2 {
    const STRIDE: usize = 2;
    const OUTPUTS: usize = MOST_OUTPUTS;
    /// The even phase by F(2, 2) at 0, 1 and ∞, and the odd one's two outputs.
    const SHORT: [bool; LINE] = [true, true, false, false, true, true, true, false, false];

    #[inline(always)]
    fn product(row: usize, column: usize) -> usize {
        PRODUCT[row][column]
    }

    #[inline(always)]
    fn place(product: usize) -> (usize, usize) {
        PLACE[product]
    }

    #[inline(always)]
    fn matrix(product: usize) -> usize {
        let (row, column) = PLACE[product];
        weight(row) * WEIGHTS + weight(column)
    }

    /// The outer taps as the polynomial `g₀ + g₂·x` at every point, and the middle one.
    #[inline(always)]
    unsafe fn kernel_line<T: Scalar, V: Vector<T>>(g: [V; TAPS]) -> [V; WEIGHTS] {
        // SAFETY: the caller's promise.
        let two = unsafe { splat(2.0) };
        [g[0], g[0].add(g[2]), g[0].subtract(g[2]), g[0].add_product(g[2], two), g[2], g[1]]
    }

    /// The even inputs through the coefficients of `∏(x − q)` over the finite points q other than each; the odd ones as they are.
    #[inline(always)]
    unsafe fn input_line<T: Scalar, V: Vector<T>>(d: [V; LINE]) -> [V; LINE] {
        // SAFETY: the caller's promise.
        let [two, three] = unsafe { [splat(2.0), splat(3.0)] };
        let [d0, d1, d2, d3, d4] = [d[0], d[2], d[4], d[6], d[8]];
        let difference = d3.subtract(d1);
        [
            difference.add_product(d0.subtract(d2), two),
            d3.subtract(d2).subtract_product(d1, two),
            d3.subtract_product(d2, three).add_product(d1, two),
            difference,
            d4.subtract(d2).subtract_product(difference, two),
            d[1],
            d[3],
            d[5],
            d[7],
        ]
    }

    /// The even phase's products through the powers of each point over `∏(p − q)`, over the finite points q ≠ p; the odd one's
    /// added.
    #[inline(always)]
    unsafe fn output_line<T: Scalar, V: Vector<T>>(m: [V; LINE]) -> [V; MOST_OUTPUTS] {
        // SAFETY: the caller's promise.
        let [half, sixth, third, two_thirds, four_thirds] = unsafe {
            [splat(1.0 / 2.0), splat(1.0 / 6.0), splat(1.0 / 3.0), splat(2.0 / 3.0), splat(4.0 / 3.0)]
        };
        // The points 1 and −1 in the even and in the odd outputs.
        let minus = m[2].multiply(sixth);
        let even = m[1].multiply(half).add(minus);
        let odd = m[1].multiply(half).subtract(minus);
        [
            m[5].add_product(m[0], half).add_product(m[3], sixth).subtract(even),
            m[6].add_product(m[3], third).subtract(odd),
            m[7].add_product(m[3], two_thirds).subtract(even),
            m[8].add(m[4]).add_product(m[3], four_thirds).subtract(odd),
        ]
    }

    #[inline(always)]
    unsafe fn short_input_line<T: Scalar, V: Vector<T>>(d: [V; LINE]) -> [V; LINE] {
        // SAFETY: the caller's promise.
        let zero = unsafe { splat(0.0) };
        [d[2].subtract(d[0]), d[2], zero, zero, d[4].subtract(d[2]), d[1], d[3], zero, zero]
    }

    #[inline(always)]
    unsafe fn short_output_line<T: Scalar, V: Vector<T>>(m: [V; LINE]) -> [V; MOST_OUTPUTS] {
        // SAFETY: the caller's promise.
        let none = unsafe { splat(0.0) };
        [m[5].add(m[1]).subtract(m[0]), m[6].add(m[1]).add(m[4]), none, none]
    }
}
