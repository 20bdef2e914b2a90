//! `resize_add_score`: the levels' projections on one grid, added, behind them LeakyReLU and a dot product.

use simplenet::backend::Backend;

use crate::aggregate::resize;
use crate::draws::Draws;
use crate::reference::vector;
use crate::subject::Subject;

const SLOPE: f64 = 0.2;

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(14);
    let one: &[[usize; 2]] = &[[5, 7]];
    let two: &[[usize; 2]] = &[[13, 9], [7, 5]];
    let three: &[[usize; 2]] = &[[7, 6], [4, 3], [2, 2]];
    let points: &[[usize; 2]] = &[[1, 1], [1, 1]];
    let upwards: &[[usize; 2]] = &[[3, 2], [5, 4]];
    for grids in [one, two, three, points, upwards] {
        for (batch, channels) in [(1, 1), (1, 64), (5, 33), (2, 300)] {
            // Away from zero, so that no single sum cancels by chance and leaves nothing but its rounding.
            let levels: Vec<_> =
                grids.iter().map(|&[h, w]| draws.normals(&[batch, h, w, channels], 1.0, 1.0)).collect();
            let weight = draws.normals(&[1, channels], 1.0, 1.0);
            let case = format!("{grids:?}, {batch} images, {channels} channels");
            let device_levels: Vec<_> = levels.iter().map(|level| subject.upload(level)).collect();
            let device_weight = subject.upload(&weight);
            let out = subject.run(&case, |device| {
                let levels: Vec<_> = device_levels.iter().collect();
                Ok(vec![device.resize_add_score(&levels, SLOPE, &device_weight)?])
            });
            let [h, w] = grids[0];
            let resized: Vec<_> = levels.iter().map(|level| resize(level, h, w)).collect();
            let scores = vector(batch * h * w, |row| {
                let hidden =
                    |c: usize| resized.iter().map(|level| level.data()[row * channels + c]).sum::<f64>();
                let activated = |x: f64| if x > 0.0 { x } else { SLOPE * x };
                (0..channels).map(|c| activated(hidden(c)) * weight.data()[c]).sum()
            });
            // Four taps a level, the levels, one product, a sum over channels.
            let terms = 4 * grids.len() + grids.len() + channels;
            subject.compare(&case, &out[0], &scores, subject.rounding(terms));
        }
    }
}
