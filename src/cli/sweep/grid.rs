//! What a sweep varies: points, each some settings with their values.

use crate::backbone::architecture::Architecture;
use crate::report::published::{Published, Table, find};
use crate::settings::{Key, Overrides, Preset, SettingError, Settings};
use serde::{Deserialize, Serialize};

/// A key that is no setting of the head: the network in front of it.
pub(super) const BACKBONE: &str = "backbone";

/// A key and the values it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Axis {
    /// The key.
    pub key: String,
    /// Its values, as typed.
    pub values: Vec<String>,
}

/// One combination of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Point {
    /// What it is called in tables.
    pub label: String,
    /// Keys and values that differ from the base.
    pub values: Vec<(String, String)>,
    /// Its setting's name in the paper's table, if the paper has it.
    pub published: Option<String>,
}

/// All points of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grid {
    /// What it is, for headings.
    pub title: String,
    /// The number of the paper's table it repeats, if it does.
    pub table: Option<u8>,
    /// What varies; empty where points are no grid.
    pub axes: Vec<Axis>,
    /// The points, in the order of rows.
    pub points: Vec<Point>,
    /// Whether points whose backbone has no weights here are left out, and named, instead of stopping the sweep.
    pub may_leave_out: bool,
}

/// Why a grid cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum GridError {
    /// `--over` is malformed.
    #[error(
        "--over {0}: write KEY=V1,V2…, such as noise-sigma=0.01,0.015 (levels with a plus: levels=2,2+3)"
    )]
    Malformed(String),
    /// The same key in two `--over`.
    #[error("--over names {0} twice; give all its values at once")]
    Repeated(String),
    /// A value twice.
    #[error("--over {key}: the value {value} is there twice")]
    RepeatedValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// An unknown key.
    #[error(transparent)]
    Key(#[from] SettingError),
    /// A value that the key cannot have.
    #[error("--over {key}={value}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Grid {
    /// Every combination of the values of `--over KEY=V1,V2…`; the last key varies fastest.
    pub(super) fn over(arguments: &[String]) -> Result<Self, GridError> {
        let mut axes: Vec<Axis> = Vec::new();
        for argument in arguments {
            let axis = Axis::parse(argument)?;
            if axes.iter().any(|known| known.key == axis.key) {
                return Err(GridError::Repeated(axis.key));
            }
            axes.push(axis);
        }
        let mut combinations: Vec<Vec<(String, String)>> = vec![Vec::new()];
        for axis in &axes {
            combinations = combinations
                .iter()
                .flat_map(|point| {
                    axis.values.iter().map(|value| {
                        let mut point = point.clone();
                        point.push((axis.key.clone(), value.clone()));
                        point
                    })
                })
                .collect();
        }
        let points = combinations
            .into_iter()
            .map(|values| {
                let label: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
                Point { label: label.join(", "), values, published: None }
            })
            .collect();
        let title = axes.iter().map(|axis| axis.key.as_str()).collect::<Vec<_>>().join(" × ");
        Ok(Self { title, table: None, axes, points, may_leave_out: false })
    }

    /// The paper's Table 2 (levels), 3 (adaptor and loss) or 4 (backbones); none for another number.
    pub(super) fn table(number: u8) -> Option<Self> {
        let grid = match number {
            2 => {
                let mut grid = Self::single("levels", &["1", "2", "3", "1+2", "2+3", "1+2+3"]);
                for point in &mut grid.points {
                    point.published = Some(format!("levels {}", point.values[0].1));
                }
                Self { title: "Table 2: levels of the backbone".to_owned(), ..grid }
            }
            3 => {
                // Both are set in every point: what flags or a file make of them must not pass for the paper's row.
                let point = |label: &str, adaptor: &str, loss: &str, published: &str| Point {
                    label: label.to_owned(),
                    values: [("adaptor", adaptor), ("loss", loss)]
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                    published: Some(published.to_owned()),
                };
                let points = vec![
                    point("adaptor=linear", "linear", "truncated-l1", "ours"),
                    point("adaptor=mlp", "mlp", "truncated-l1", "complex-FA (adaptor mlp)"),
                    point("adaptor=none", "none", "truncated-l1", "w/o-FA (adaptor none)"),
                    point("loss=cross-entropy", "linear", "cross-entropy", "CE (cross-entropy)"),
                ];
                let title = "Table 3: adaptor and loss".to_owned();
                Self { title, table: None, axes: Vec::new(), points, may_leave_out: false }
            }
            4 => {
                let names = ["resnet18", "resnet50", "resnet101", "wide_resnet50_2"];
                let mut grid = Self::single(BACKBONE, &names);
                for point in &mut grid.points {
                    point.published = Some(point.values[0].1.clone());
                }
                Self { title: "Table 4: backbones".to_owned(), may_leave_out: true, ..grid }
            }
            _ => return None,
        };
        Some(Self { table: Some(number), ..grid })
    }

    /// The paper's Figure 5 (noise) or 6 (neighbourhood); none for another number.
    pub(super) fn figure(number: u8) -> Option<Self> {
        match number {
            5 => {
                let sigmas = ["0.005", "0.01", "0.015", "0.02", "0.03", "0.05", "0.1"];
                let grid = Self::single("noise-sigma", &sigmas);
                Some(Self { title: "Figure 5: standard deviation of the noise".to_owned(), ..grid })
            }
            6 => {
                let grid = Self::single("patch", &["1", "3", "5", "7"]);
                Some(Self { title: "Figure 6: side of the neighbourhood".to_owned(), ..grid })
            }
            _ => None,
        }
    }

    fn single(key: &str, values: &[&str]) -> Self {
        let point = |value: &&str| Point {
            label: format!("{key}={value}"),
            values: vec![(key.to_owned(), (*value).to_owned())],
            published: None,
        };
        let axis = Axis { key: key.to_owned(), values: values.iter().map(|v| (*v).to_owned()).collect() };
        Self {
            title: key.to_owned(),
            table: None,
            axes: vec![axis],
            points: values.iter().map(point).collect(),
            may_leave_out: false,
        }
    }

    /// The paper's table that [`Point::published`] names rows of.
    fn published_table(&self) -> Option<Table> {
        match self.table? {
            2 => Some(Table::Levels),
            3 => Some(Table::Ablation),
            4 => Some(Table::Backbones),
            _ => None,
        }
    }

    /// What the paper reports for a point.
    pub(super) fn published(&self, point: &Point) -> Option<&'static Published> {
        find(self.published_table()?, "mean", point.published.as_deref()?)
    }

    /// Whether any point sets this key.
    pub(super) fn varies(&self, key: &str) -> bool {
        self.points.iter().any(|point| point.value(key).is_some())
    }
}

impl Axis {
    fn parse(argument: &str) -> Result<Self, GridError> {
        let malformed = || GridError::Malformed(argument.to_owned());
        let (key, values) = argument.split_once('=').ok_or_else(malformed)?;
        let key = key.trim();
        let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        if values.iter().any(String::is_empty) {
            return Err(malformed());
        }
        // What values mean, not how they are written, tells them apart: 0.1 and 0.10 would be one point twice.
        let mut meanings: Vec<String> = Vec::new();
        for value in &values {
            let meaning = meaning(key, value)?;
            if meanings.contains(&meaning) {
                return Err(GridError::RepeatedValue { key: key.to_owned(), value: value.clone() });
            }
            meanings.push(meaning);
        }
        Ok(Self { key: key.to_owned(), values })
    }

    /// The values as numbers, if all are.
    pub(super) fn numbers(&self) -> Option<Vec<f64>> {
        self.values.iter().map(|value| value.parse().ok()).collect()
    }
}

/// What a value of a key means, as text. By itself; whether values fit together is found when points are made.
fn meaning(key: &str, value: &str) -> Result<String, GridError> {
    let refused = |reason| GridError::Value { key: key.to_owned(), value: value.to_owned(), reason };
    if key == BACKBONE {
        let architecture: Architecture = value.parse().map_err(|error| refused(format!("{error}")))?;
        return Ok(architecture.to_string());
    }
    let (key, mut settings) = (Key::find(key)?, Settings::preset(Preset::Paper));
    key.set(&mut settings, value).map_err(refused)?;
    Ok(key.get(&settings).to_string())
}

impl Point {
    /// The value of a key, if the point sets it.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Its settings, without the backbone.
    pub(super) fn overrides(&self) -> Result<Overrides, SettingError> {
        let mut overrides = Overrides::default();
        for (key, value) in self.values.iter().filter(|(key, _)| key != BACKBONE) {
            overrides.insert(key, value.clone())?;
        }
        Ok(overrides)
    }

    /// A folder's name for the point at `index`: its label as far as file systems take it.
    pub(super) fn folder_name(&self, index: usize) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "=+.-_".contains(c) { c } else { '_' };
        let label: String = self.label.replace(", ", ",").chars().map(plain).take(80).collect();
        format!("{:02}-{label}", index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(arguments: &[&str]) -> Result<Grid, GridError> {
        Grid::over(&arguments.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_combination_is_a_point() {
        let grid = over(&["noise-sigma=0.01, 0.02", "levels=2,2+3"]).unwrap();
        let labels: Vec<&str> = grid.points.iter().map(|point| point.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "noise-sigma=0.01, levels=2",
                "noise-sigma=0.01, levels=2+3",
                "noise-sigma=0.02, levels=2",
                "noise-sigma=0.02, levels=2+3"
            ]
        );
        assert_eq!(grid.points[3].value("levels"), Some("2+3"));
        assert_eq!(grid.points[1].folder_name(1), "02-noise-sigma=0.01_levels=2+3");
        let settings = Settings::with_overrides(Preset::Paper, &grid.points[2].overrides().unwrap()).unwrap();
        assert_eq!((settings.training.noise_sigma, settings.features.levels.deepest()), (0.02, 2));
        assert_eq!(grid.axes[0].numbers(), Some(vec![0.01, 0.02]));
        assert_eq!(grid.axes[1].numbers(), None);
    }

    #[test]
    fn what_is_mistyped_is_named() {
        for (arguments, expected) in [
            (&["noise-sigma"][..], "write KEY=V1,V2"),
            (&["patch=1,,3"], "write KEY=V1,V2"),
            (&["noise=0.1"], "there is no setting `noise`"),
            (&["patch=1,x"], "patch=x: give a number"),
            (&["loss=l2"], "choose one of truncated-l1"),
            (&["patch=1,3,1"], "is there twice"),
            (&["noise-sigma=0.1,0.10"], "the value 0.10 is there twice"),
            (&["levels=2+3,3+2"], "the value 3+2 is there twice"),
            (&["backbone=resnet18,resnet19"], "backbone=resnet19"),
            (&["patch=1", "patch=3"], "names patch twice"),
        ] {
            let error = over(arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn the_papers_tables_name_rows_that_the_paper_has() {
        for number in 2..=4 {
            let grid = Grid::table(number).unwrap();
            let table = grid.published_table().unwrap();
            assert_eq!(table.number(), number);
            assert_eq!(grid.points.len(), crate::report::published::rows(table).count());
            let keys = |point: &Point| point.values.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
            for point in &grid.points {
                assert!(grid.published(point).is_some(), "{point:?}");
                assert_eq!(keys(point), keys(&grid.points[0]), "every point sets what varies");
                let settings = Settings::with_overrides(Preset::Paper, &point.overrides().unwrap());
                assert!(settings.is_ok(), "{point:?}");
            }
        }
        for number in [5, 6] {
            assert!(Grid::figure(number).unwrap().axes[0].numbers().is_some());
        }
        assert!(Grid::table(1).is_none() && Grid::figure(4).is_none());
    }
}
