//! Plans: which way of computing each product and convolution was the fastest, as a table that is kept in a file.
//!
//! Algorithms and figures belong to the device, the driver, the library and the program they were measured with. A
//! table says which those were, and serves nowhere else.

use super::Precision;
use crate::files::{WriteError, write_whole};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The version this program writes, and the only one it reads.
const FORMAT: u32 = 1;

/// What can be wrong with a table of plans.
#[derive(Debug, thiserror::Error)]
pub enum PlansError {
    /// The file could not be read.
    #[error("cannot read the plans {}: {source}; check the path", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is something else, damaged, or of another version.
    #[error("{} holds no plans of this program: {reason}; delete it, and they are made anew", path.display())]
    NotPlans {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What a table of plans was made with, and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The device's name.
    pub device: String,
    /// Its compute capability, such as `9.0`.
    pub compute_capability: String,
    /// The driver's CUDA version, such as `13.0`.
    pub driver: String,
    /// The version of cuBLASLt, such as `13.1.0`.
    pub cublaslt: String,
    /// The arithmetic, by its name under `--precision`.
    pub precision: String,
    /// The version of this program.
    pub program: String,
}

impl Origin {
    /// That of this program on a device.
    pub(super) fn new(
        device: &super::probe::Device,
        driver: i32,
        cublaslt: String,
        precision: Precision,
    ) -> Self {
        Self {
            device: device.name.clone(),
            compute_capability: format!("{}.{}", device.capability.0, device.capability.1),
            driver: format!("{}.{}", driver / 1000, driver % 1000 / 10),
            cublaslt,
            precision: precision.name().to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, compute_capability, driver, cublaslt, precision, program } = self;
        write!(
            f,
            "{device} (compute capability {compute_capability}, CUDA {driver}, cuBLASLt {cublaslt}), {precision}, \
             program {program}"
        )
    }
}

/// What was chosen for one product or convolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The algorithm or the implementation.
    pub chosen: String,
    /// How many there were to choose from: those that worked.
    pub candidates: usize,
    /// What it took; none where nothing was to be chosen, and so nothing was measured.
    pub microseconds: Option<f64>,
    /// What the second fastest took.
    pub runner_up_microseconds: Option<f64>,
}

/// A table of plans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plans {
    format: u32,
    /// What it was made with.
    pub origin: Origin,
    /// By product or convolution in words.
    pub choices: BTreeMap<String, Choice>,
}

impl Plans {
    /// An empty table.
    pub(super) fn new(origin: Origin) -> Self {
        Self { format: FORMAT, origin, choices: BTreeMap::new() }
    }

    /// Reads a table; `None` where there is no such file.
    ///
    /// # Errors
    /// [`PlansError`] for a file that cannot be read, or that is no table of this version.
    pub fn read(path: &Path) -> Result<Option<Self>, PlansError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PlansError::Read { path: path.to_owned(), source }),
        };
        let not_plans = |reason: String| PlansError::NotPlans { path: path.to_owned(), reason };

        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } =
            serde_json::from_slice(&text).map_err(|error| not_plans(error.to_string()))?;
        if format != FORMAT {
            return Err(not_plans(format!("it has format {format}, and this program reads {FORMAT}")));
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| not_plans(error.to_string()))
    }

    /// Writes the table, whole or not at all.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        write_whole(path, |out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Plans {
        let device = super::super::probe::Device {
            ordinal: 0,
            name: "a device".to_owned(),
            capability: (8, 6),
            memory: 0,
            l2_cache: 0,
        };
        let mut plans = Plans::new(Origin::new(&device, 13_010, "13.1.0".to_owned(), Precision::F16));
        let choice = Choice {
            chosen: "ff".to_owned(),
            candidates: 3,
            microseconds: Some(12.25),
            runner_up_microseconds: Some(0.1 + 0.2),
        };
        plans.choices.insert("product".to_owned(), choice);
        plans
    }

    #[test]
    fn a_table_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.plans.json");
        assert_eq!(Plans::read(&path).unwrap(), None);
        plans().write(&path).unwrap();
        assert_eq!(Plans::read(&path).unwrap(), Some(plans()));
        let origin = plans().origin.to_string();
        assert!(origin.contains("8.6") && origin.contains("CUDA 13.1") && origin.contains("f16"), "{origin}");
    }

    #[test]
    fn what_is_no_table_of_this_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let whole = serde_json::to_string(&plans()).unwrap();
        let damaged = [
            (String::new(), "EOF"),
            (whole[..whole.len() / 2].to_owned(), "EOF"),
            (whole.replace(r#""format":1"#, r#""format":2"#), "format 2"),
            (whole.replace("candidates", "candidate"), "unknown field"),
            (r#"{"format":1}"#.to_owned(), "missing field"),
        ];
        for (text, reason) in damaged {
            std::fs::write(&path, &text).unwrap();
            let error = Plans::read(&path).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("delete it"), "{text}: {error}");
        }
        let unreadable = Plans::read(folder.path()).unwrap_err().to_string();
        assert!(unreadable.contains("cannot read the plans"), "{unreadable}");
    }
}
