//! From a scene to the pixels of a photograph.

use super::geometry::{Vec2, mix};
use super::noise::Draws;

/// Width and height of every image, in pixels.
pub(super) const SIZE: usize = 256;

/// Linear light of the three channels; 1 is what just saturates the sensor.
pub(super) type Light = [f64; 3];

/// Something that can be photographed.
pub(super) trait Scene {
    /// The light that comes from a point of the image plane, in pixels, (0, 0) the upper left corner.
    fn light(&self, at: Vec2) -> Light;
}

/// What differs from shot to shot: exposure, white balance, the lamp's place, and the sensor's grain.
pub(super) struct Camera {
    gain: Light,
    slope: Vec2,
    vignette: f64,
    grain: f64,
    draws: Draws,
}

impl Camera {
    /// The camera at the moment of one image.
    pub(super) fn new(draws: &mut Draws) -> Self {
        let exposure = draws.range(0.92, 1.08);
        let warmth = draws.range(-0.02, 0.02);
        Self {
            gain: [exposure * (1.0 + warmth), exposure, exposure * (1.0 - warmth)],
            slope: Vec2::new(draws.range(-0.09, 0.09), draws.range(-0.09, 0.09)),
            vignette: draws.range(0.08, 0.14),
            grain: draws.range(1.6, 2.4),
            draws: draws.clone(),
        }
    }

    /// Takes the photograph: `SIZE × SIZE` RGB bytes, row-major.
    ///
    /// Four samples a pixel, weighted 1-3-3-1 over the neighbourhood (the blur of a lens), then the square root as
    /// the tone curve, so that dark tones get as many levels as the eye wants.
    pub(super) fn photograph(&self, scene: &impl Scene) -> Vec<u8> {
        let rows: Vec<Vec<Light>> = (0..2 * SIZE + 2).map(|row| self.sample_row(scene, row)).collect();
        let mut pixels = Vec::with_capacity(SIZE * SIZE * 3);
        for pixel in 0..SIZE * SIZE {
            let (x, y) = (pixel % SIZE, pixel / SIZE);
            let [a, b, c, d] = [0, 1, 2, 3].map(|k| rows[2 * y + k][x]);
            let (lamp, grain) = (self.lamp(x, y), self.grain(pixel));
            for channel in 0..3 {
                let light = (a[channel] + d[channel] + 3.0 * (b[channel] + c[channel])) / 8.0;
                let light = light * self.gain[channel] * lamp;
                let tone = 255.0 * light.clamp(0.0, 1.0).sqrt() + grain[channel];
                pixels.push((tone + 0.5).floor() as u8);
            }
        }
        pixels
    }

    /// One row of samples, already filtered along x. Rows and columns of samples begin a quarter of a pixel outside.
    fn sample_row(&self, scene: &impl Scene, row: usize) -> Vec<Light> {
        let place = |k: usize| (k as f64 - 0.5) / 2.0;
        let samples: Vec<Light> =
            (0..2 * SIZE + 2).map(|k| scene.light(Vec2::new(place(k), place(row)))).collect();
        (0..SIZE)
            .map(|x| {
                let [a, b, c, d] = [0, 1, 2, 3].map(|k| samples[2 * x + k]);
                [0, 1, 2].map(|i| (a[i] + d[i] + 3.0 * (b[i] + c[i])) / 8.0)
            })
            .collect()
    }

    /// How much light falls on a pixel: a gentle slope across the image, darker corners.
    fn lamp(&self, x: usize, y: usize) -> f64 {
        let from_centre =
            Vec2::new(x as f64 + 0.5, y as f64 + 0.5) * (2.0 / SIZE as f64) - Vec2::new(1.0, 1.0);
        (1.0 + self.slope.dot(from_centre)) * (1.0 - self.vignette * from_centre.dot(from_centre))
    }

    /// The sensor's noise at a pixel, in grey levels: mostly common to the channels, a little of it coloured.
    fn grain(&self, pixel: usize) -> Light {
        let [a, b, red, blue] = self.draws.grain(pixel as u64);
        let common = a + b;
        [common + 0.6 * red, common - 0.3 * (red + blue), common + 0.6 * blue].map(|v| v * self.grain)
    }
}

/// `light` times a factor.
pub(super) fn scaled(light: Light, factor: f64) -> Light {
    light.map(|v| v * factor)
}

/// From one light to another, channel by channel.
pub(super) fn blend(from: Light, to: Light, weight: f64) -> Light {
    [0, 1, 2].map(|i| mix(from[i], to[i], weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Step;
    impl Scene for Step {
        fn light(&self, at: Vec2) -> Light {
            if at.x < 128.0 { [0.04; 3] } else { [0.36; 3] }
        }
    }

    #[test]
    fn a_step_stays_in_its_place_and_keeps_its_tones() {
        let pixels = Camera::new(&mut Draws::of_image(0)).photograph(&Step);
        assert_eq!(pixels.len(), SIZE * SIZE * 3);
        // Mean over the column of pixels, green channel.
        let column = |x: usize| {
            (0..SIZE).map(|y| f64::from(pixels[(y * SIZE + x) * 3 + 1])).sum::<f64>() / SIZE as f64
        };
        assert!((40.0..62.0).contains(&column(120)), "√0.04 · 255 = 51, less the vignette");
        assert!((125.0..170.0).contains(&column(136)), "√0.36 · 255 = 153");
        assert!(
            column(127) < column(128) && column(126) < 70.0 && column(129) > 120.0,
            "a step of two pixels"
        );
    }
}
