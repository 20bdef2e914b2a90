//! How features are kept between epochs.

/// How features are kept between epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureCacheOptions {
    /// Half precision halves the memory at a relative error of 2⁻¹¹.
    pub precision: CachePrecision,
    /// Above this many bytes the cache goes to a file in `spill_folder`.
    pub limit_bytes: u64,
    /// Where that file is made (unnamed: nothing is left behind, whatever happens).
    pub spill_folder: std::path::PathBuf,
}

/// Element type of the feature cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePrecision {
    /// Exact.
    F32,
    /// IEEE half, rounded to nearest even.
    F16,
}
