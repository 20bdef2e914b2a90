//! What the paper reports: its Tables 1 to 5 as data.
//!
//! Source: Z. Liu, Y. Zhou, Y. Xu, Z. Wang, "SimpleNet: A Simple Network for Image Anomaly Detection and Localization",
//! CVPR 2023 (arXiv:2303.15140). The figures are as printed there; those of other methods are as that paper quotes them.

use std::sync::LazyLock;

use serde::Deserialize;

/// MVTec AD's textures, in the paper's order.
pub const TEXTURES: [&str; 5] = ["carpet", "grid", "leather", "tile", "wood"];

/// MVTec AD's objects, in the paper's order.
pub const OBJECTS: [&str; 10] = [
    "bottle",
    "cable",
    "capsule",
    "hazelnut",
    "metal_nut",
    "pill",
    "screw",
    "toothbrush",
    "transistor",
    "zipper",
];

/// The setting that the paper's own method has in [`Table::Methods`].
pub const SIMPLENET: &str = "SimpleNet";

/// A table of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Table 1: methods on MVTec AD, by category; settings are the methods' names.
    Methods,
    /// Table 2: levels of the backbone.
    Levels,
    /// Table 3: adaptor and loss.
    Ablation,
    /// Table 4: backbones, by torchvision's names.
    Backbones,
    /// Table 5: methods on CIFAR-10, one class against the rest; image AUROC alone.
    Cifar10,
}

impl Table {
    /// Its number in the paper.
    pub fn number(self) -> u8 {
        match self {
            Self::Methods => 1,
            Self::Levels => 2,
            Self::Ablation => 3,
            Self::Backbones => 4,
            Self::Cifar10 => 5,
        }
    }
}

/// A row of one of the tables.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Published {
    /// The table's number.
    pub table: u8,
    /// `mvtec_ad` or `cifar10_one_class`.
    pub dataset: String,
    /// The category, or `mean`; in Table 1 also `mean_textures` and `mean_objects`.
    pub category: String,
    /// What the table compares: a method, levels, a backbone.
    pub setting: String,
    /// Area under the ROC curve of image scores, in percent as printed.
    pub i_auroc: Option<f64>,
    /// Area under the ROC curve of pixel scores, in percent as printed.
    pub p_auroc: Option<f64>,
    /// What must be known about the row; mostly empty.
    pub note: String,
}

static ROWS: LazyLock<Vec<Published>> = LazyLock::new(|| {
    let file = include_str!("published.csv");
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(file.as_bytes());
    // The file is part of the program, and a test reads all of it.
    let rows = reader.deserialize().collect::<Result<_, _>>();
    rows.unwrap_or_else(|error| unreachable!("published.csv is in order: {error}"))
});

/// The rows of a table, in the paper's order.
pub fn rows(table: Table) -> impl Iterator<Item = &'static Published> {
    ROWS.iter().filter(move |row| row.table == table.number())
}

/// The row of a table for a category (or one of its means) and a setting, if the paper has it.
pub fn find(table: Table, category: &str, setting: &str) -> Option<&'static Published> {
    rows(table).find(|row| row.category == category && row.setting == setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_there_whole() {
        let count = |table| rows(table).count();
        // Nine methods in fifteen categories and three means.
        assert_eq!(count(Table::Methods), 9 * (15 + 3));
        let others = [Table::Levels, Table::Ablation, Table::Backbones, Table::Cifar10].map(count);
        assert_eq!(others, [6, 4, 4, 10]);
        assert_eq!(ROWS.len(), 162 + 24);
        for name in TEXTURES.iter().chain(&OBJECTS) {
            let row = find(Table::Methods, name, SIMPLENET).unwrap();
            assert!(row.i_auroc.is_some() && row.p_auroc.is_some(), "{name}");
        }
        assert_eq!(find(Table::Cifar10, "mean", SIMPLENET).unwrap().p_auroc, None);
        assert_eq!(find(Table::Methods, "carpet", "resnet18"), None);
        assert!(
            ROWS.iter()
                .flat_map(|row| [row.i_auroc, row.p_auroc])
                .flatten()
                .all(|x| (0.0..=100.0).contains(&x))
        );
    }

    /// A slip in typing a figure would show in the means, which the paper prints too. They are of unrounded figures, so
    /// rounding to a decimal on either side leaves 0.1; one that the paper itself prints 0.06 off is among them.
    #[test]
    fn the_means_that_are_printed_are_those_of_the_categories() {
        let all: Vec<&str> = TEXTURES.into_iter().chain(OBJECTS).collect();
        for (mean, names) in [("mean_textures", &TEXTURES[..]), ("mean_objects", &OBJECTS), ("mean", &all)] {
            let printed = find(Table::Methods, mean, SIMPLENET).unwrap();
            for of in [|row: &Published| row.i_auroc.unwrap(), |row: &Published| row.p_auroc.unwrap()] {
                let figures = names.iter().map(|name| of(find(Table::Methods, name, SIMPLENET).unwrap()));
                let computed = figures.sum::<f64>() / names.len() as f64;
                assert!((computed - of(printed)).abs() <= 0.1, "{mean}: {computed} is not {}", of(printed));
            }
        }
    }
}
