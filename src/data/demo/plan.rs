//! Which images the set has, and how each is made.

use super::camera::{Camera, SIZE};
use super::fabric::{Fabric, FabricDefect};
use super::flange::{Damage, Flange};
use super::noise::Draws;

/// The categories, in the order of their folders.
pub(super) const CATEGORIES: [&str; 2] = ["fabric", "flange"];

/// How many images of each sort a category has.
const TRAIN_GOOD: u32 = 16;
const TEST_GOOD: u32 = 6;
const PER_DEFECT: u32 = 5;

/// The least change of a channel, in grey levels of 255, that counts as visible: a pixel belongs to a defect's mask
/// if any channel differs by more than this from the same photograph of the undamaged part.
pub(super) const VISIBLE: u8 = 8;

/// A changed region of fewer pixels than this is no defect that a person would mark.
const SPECK: usize = 16;

/// What an image shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Fabric,
    FabricCut,
    FabricStain,
    Flange,
    FlangeScratch,
    FlangeChip,
}

impl Subject {
    /// The category, and the folder within it that holds images of this subject for testing.
    fn folders(self) -> (&'static str, &'static str) {
        match self {
            Self::Fabric => (CATEGORIES[0], "good"),
            Self::FabricCut => (CATEGORIES[0], "cut"),
            Self::FabricStain => (CATEGORIES[0], "stain"),
            Self::Flange => (CATEGORIES[1], "good"),
            Self::FlangeScratch => (CATEGORIES[1], "scratch"),
            Self::FlangeChip => (CATEGORIES[1], "chip"),
        }
    }

    fn is_good(self) -> bool {
        matches!(self, Self::Fabric | Self::Flange)
    }
}

/// One image of the set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) subject: Subject,
    /// `train` or `test`.
    split: &'static str,
    /// Its number in its folder.
    index: u32,
    /// Its number in the whole set: which random numbers it is made of.
    number: u32,
}

/// The pixels of an image, and of its mask where it shows a defect: row-major RGB and grey, `SIZE × SIZE`.
pub(super) struct Photograph {
    pub(super) image: Vec<u8>,
    pub(super) mask: Option<Vec<u8>>,
}

/// Every image of the set.
pub(super) fn entries() -> Vec<Entry> {
    use Subject::{Fabric, FabricCut, FabricStain, Flange, FlangeChip, FlangeScratch};
    let mut entries: Vec<Entry> = Vec::new();
    for [good, first, second] in [[Fabric, FabricCut, FabricStain], [Flange, FlangeScratch, FlangeChip]] {
        let runs = [
            (good, "train", TRAIN_GOOD),
            (good, "test", TEST_GOOD),
            (first, "test", PER_DEFECT),
            (second, "test", PER_DEFECT),
        ];
        for (subject, split, count) in runs {
            for index in 0..count {
                entries.push(Entry { subject, split, index, number: entries.len() as u32 });
            }
        }
    }
    entries
}

impl Entry {
    /// The image's path in the set, with `/` between folders.
    pub(super) fn image_path(&self) -> String {
        let (category, kind) = self.subject.folders();
        format!("{category}/{}/{kind}/{:03}.png", self.split, self.index)
    }

    /// The mask's path in the set; `None` for a good image.
    pub(super) fn mask_path(&self) -> Option<String> {
        let (category, kind) = self.subject.folders();
        (!self.subject.is_good())
            .then(|| format!("{category}/ground_truth/{kind}/{:03}_mask.png", self.index))
    }

    /// Makes the image, and its mask by comparison with the undamaged twin.
    pub(super) fn render(&self) -> Photograph {
        let mut image = self.photograph(self.subject);
        let mask = self.twin().map(|twin| {
            let mut mask = visible_change(&image, &twin);
            for pixel in specks(&mask) {
                image[3 * pixel..3 * pixel + 3].copy_from_slice(&twin[3 * pixel..3 * pixel + 3]);
                mask[pixel] = 0;
            }
            mask
        });
        Photograph { image, mask }
    }

    /// The same photograph of the undamaged part; `None` for a good image.
    pub(super) fn twin(&self) -> Option<Vec<u8>> {
        match self.subject {
            Subject::FabricCut | Subject::FabricStain => Some(self.photograph(Subject::Fabric)),
            Subject::FlangeScratch | Subject::FlangeChip => Some(self.photograph(Subject::Flange)),
            Subject::Fabric | Subject::Flange => None,
        }
    }

    /// The photograph with this image's random numbers, but of `subject`.
    pub(super) fn photograph(&self, subject: Subject) -> Vec<u8> {
        let mut draws = Draws::of_image(self.number);
        let mut defect_draws = Draws::of_defect(self.number);
        let camera = Camera::new(&mut draws);
        match subject {
            Subject::Fabric => camera.photograph(&Fabric::new(&mut draws, None)),
            Subject::FabricCut => {
                camera.photograph(&Fabric::new(&mut draws, Some(FabricDefect::cut(&mut defect_draws))))
            }
            Subject::FabricStain => {
                camera.photograph(&Fabric::new(&mut draws, Some(FabricDefect::stain(&mut defect_draws))))
            }
            Subject::Flange => camera.photograph(&Flange::new(&mut draws, None)),
            Subject::FlangeScratch => {
                camera.photograph(&Flange::new(&mut draws, Some((Damage::Scratch, defect_draws))))
            }
            Subject::FlangeChip => {
                camera.photograph(&Flange::new(&mut draws, Some((Damage::Chip, defect_draws))))
            }
        }
    }
}

/// 255 where any channel differs by more than [`VISIBLE`], else 0: one byte a pixel of two RGB images.
pub(super) fn visible_change(image: &[u8], twin: &[u8]) -> Vec<u8> {
    std::iter::zip(image.chunks_exact(3), twin.chunks_exact(3))
        .map(|(a, b)| if std::iter::zip(a, b).any(|(a, b)| a.abs_diff(*b) > VISIBLE) { 255 } else { 0 })
        .collect()
}

/// The pixels of all 8-connected regions of a mask that have fewer than [`SPECK`] of them.
///
/// Metrics that weigh every region alike would give a stray pixel the weight of the defect beside it, so
/// [`Entry::render`] undoes such specks in image and mask alike.
fn specks(mask: &[u8]) -> Vec<usize> {
    let mut seen = vec![false; mask.len()];
    let mut specks = Vec::new();
    for start in 0..mask.len() {
        if mask[start] == 0 || seen[start] {
            continue;
        }
        seen[start] = true;
        let mut region = vec![start];
        let mut next = 0;
        while let Some(&pixel) = region.get(next) {
            next += 1;
            let (x, y) = (pixel % SIZE, pixel / SIZE);
            for row in y.saturating_sub(1)..=(y + 1).min(SIZE - 1) {
                for column in x.saturating_sub(1)..=(x + 1).min(SIZE - 1) {
                    let neighbour = row * SIZE + column;
                    if mask[neighbour] != 0 && !seen[neighbour] {
                        seen[neighbour] = true;
                        region.push(neighbour);
                    }
                }
            }
        }
        if region.len() < SPECK {
            specks.extend(region);
        }
    }
    specks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_regions_are_specks() {
        let mut mask = vec![0; SIZE * SIZE];
        // A diagonal of SPECK pixels is one region; a pixel in the last corner is a speck.
        for k in 0..SPECK {
            mask[k * SIZE + k] = 255;
        }
        mask[SIZE * SIZE - 1] = 255;
        assert_eq!(specks(&mask), [SIZE * SIZE - 1]);
        mask[0] = 0;
        assert_eq!(specks(&mask).len(), SPECK);
    }
}
