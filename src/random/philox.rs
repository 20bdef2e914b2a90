//! Philox4x32-10: random numbers that are a function of their position.
//!
//! J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A draw depends on a key and a
//! counter alone, so any thread of any device can compute any element in any order, and a resumed run continues
//! exactly where it was stopped.

const MULTIPLIER_0: u32 = 0xD251_1F53;
const MULTIPLIER_1: u32 = 0xCD9E_8D57;
const WEYL_0: u32 = 0x9E37_79B9;
const WEYL_1: u32 = 0xBB67_AE85;

/// The ten-round Philox bijection: 128 bits of counter under a 64-bit key give 128 random bits.
#[inline(always)]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let product_0 = u64::from(MULTIPLIER_0) * u64::from(c0);
        let product_1 = u64::from(MULTIPLIER_1) * u64::from(c2);
        (c0, c1, c2, c3) = (
            (product_1 >> 32) as u32 ^ c1 ^ k0,
            product_1 as u32,
            (product_0 >> 32) as u32 ^ c3 ^ k1,
            product_0 as u32,
        );
        k0 = k0.wrapping_add(WEYL_0);
        k1 = k1.wrapping_add(WEYL_1);
    }
    [c0, c1, c2, c3]
}

/// What a stream of random numbers is for: the fourth word of the counter, so that no two uses ever share a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// ε of Eq. 6, added to the adapted features.
    Noise = 0,
    /// The order of the training images in an epoch.
    Shuffle = 1,
    /// The head's initial weights.
    Initialisation = 2,
    /// Backbone weights under `synthetic:SEED`.
    SyntheticWeights = 3,
    /// Which good images are held out for calibration.
    Calibration = 4,
    /// The built-in demo data set.
    Demo = 5,
    /// How wide the noise of a row is, where it is a mixture.
    NoiseMixture = 6,
}

/// A seeded stream of draws, addressed by `(index, step)`.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    key: [u32; 2],
    step: u32,
    stream: u32,
}

impl Philox {
    /// The draws of `stream` at `step` under `seed`.
    pub fn new(seed: u64, stream: Stream, step: u32) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], step, stream: stream as u32 }
    }

    /// The key: the seed's low word, then its high word.
    pub fn key(&self) -> [u32; 2] {
        self.key
    }

    /// The four 32-bit draws number `4·block … 4·block + 3`.
    #[inline(always)]
    pub fn block(&self, block: u64) -> [u32; 4] {
        philox4x32_10([block as u32, (block >> 32) as u32, self.step, self.stream], self.key)
    }

    /// The draw number `index`.
    pub fn draw(&self, index: u64) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// The draw number `index` as an integer in `0..bound`: the high word of its product with `bound` (32-bit
    /// multiply-shift). No integer is likelier than another by more than 2⁻³².
    pub fn below(&self, index: u64, bound: u32) -> u32 {
        ((u64::from(self.draw(index)) * u64::from(bound)) >> 32) as u32
    }

    /// The draw number `index` as a number in (0, 1), in `f64`: `(x + ½)·2⁻³²`.
    pub fn uniform(&self, index: u64) -> f64 {
        (f64::from(self.draw(index)) + 0.5) / 4_294_967_296.0
    }

    /// Four standard normals in `f64`, by Box–Muller, in the order (cos, sin) of the first pair of draws, then of
    /// the second: `√(−2 ln u₀)·(cos 2πu₁, sin 2πu₁)`, `u = (x + ½)·2⁻³²`.
    ///
    /// For initial values, where speed does not matter and Python must be able to reproduce the numbers. Training
    /// noise has a vectorised `f32` twin in the backend.
    pub fn normals(&self, block: u64) -> [f64; 4] {
        let [a, b, c, d] = self.block(block).map(|x| (f64::from(x) + 0.5) / 4_294_967_296.0);
        let pair = |u: f64, v: f64| {
            let radius = (-2.0 * u.ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
            (radius * cos, radius * sin)
        };
        let (x, y) = pair(a, b);
        let (z, w) = pair(c, d);
        [x, y, z, w]
    }

    /// A permutation of `0..len` by Fisher–Yates, position `i` (from the end) using [`Philox::below`] with number `i`
    /// (its bias, at most `len / 2³²`, is far below what an epoch could show).
    pub fn permutation(&self, len: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..len as u32).collect();
        for i in (1..len).rev() {
            order.swap(i, self.below(i as u64, i as u32 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known-answer vectors that ship with Random123 1.09 (`kat_vectors`, philox4x32, 10 rounds).
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_permutation_holds_every_index_once_and_depends_on_the_step() {
        let first = Philox::new(7, Stream::Shuffle, 0).permutation(101);
        let second = Philox::new(7, Stream::Shuffle, 1).permutation(101);
        assert_ne!(first, second);
        for mut order in [first, second] {
            order.sort_unstable();
            assert_eq!(order, (0..101).collect::<Vec<u32>>());
        }
    }
}
