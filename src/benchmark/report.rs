//! What was measured, as `bench --json` prints it.

use super::clock::Samples;
use super::statistics::{self, Latency};
use super::{ProductRate, StageTime, memory};
use crate::backbone::architecture::Architecture;
use crate::backend::Backend;
use crate::settings::{KEYS, Preset, Settings};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Images a second that the paper states of its network, on an RTX 3080 Ti at batch 1.
pub const PAPER_RATE: f64 = 77.0;
/// Side of that network's input.
const PAPER_SIZE: usize = 224;

/// What the clock covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// u8 images in host memory to maps and scores in host memory.
    Model,
    /// Files to maps and scores in host memory.
    Files,
    /// An epoch of the head.
    Train,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Model => "model",
            Self::Files => "files",
            Self::Train => "train",
        })
    }
}

/// Settings by name, with their values.
pub type Network = BTreeMap<String, toml::Value>;

/// The settings that make one network slower than another on the same backbone at the same size.
pub fn network(settings: &Settings) -> Network {
    let decide = ["levels", "patch", "aggregation", "adaptor", "hidden"];
    let keys = KEYS.iter().filter(|key| decide.contains(&key.name));
    keys.map(|key| (key.name.to_owned(), key.get(settings))).collect()
}

/// What was measured, in the words of the command line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setup {
    /// The network.
    pub backbone: String,
    /// Its weights: a file, `embedded`, `synthetic:SEED`.
    pub weights: String,
    /// Side of the network's input.
    pub size: usize,
    /// What else its speed depends on: see [`network`].
    pub network: Network,
    /// `--precision`.
    pub precision: String,
    /// `--conv`.
    pub conv: String,
    /// CPU threads.
    pub threads: usize,
    /// The device in words, with the reason where it is a fallback.
    pub device: String,
}

impl Setup {
    /// A rate by the one that the paper states, where this is its network.
    fn ratio_to_paper(&self, images_per_second: f64) -> Option<f64> {
        let is_papers = self.backbone == Architecture::WideResnet50_2.name()
            && self.size == PAPER_SIZE
            && self.network == network(&Settings::preset(Preset::Paper));
        is_papers.then(|| images_per_second / PAPER_RATE)
    }
}

/// Everything of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Version of this layout.
    pub format: u32,
    /// Program and version.
    pub program: String,
    /// The device in words, with the reason where it is a fallback.
    pub device: String,
    /// How was measured, in words.
    pub protocol: String,
    /// TFLOP/s of a plain matrix product in this run.
    pub product_tflops: f64,
    /// One a scope and batch size.
    pub results: Vec<Measurement>,
}

/// One scope at one batch size. Times are of one batch (`model`), one pass over the files (`files`) or one epoch
/// (`train`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// Who computed: this program, beside others in a comparison.
    pub engine: &'static str,
    /// What the clock covers.
    pub scope: Scope,
    /// What was measured.
    #[serde(flatten)]
    pub setup: Setup,
    /// Images a batch.
    pub batch: usize,
    /// Runs before the clock counted.
    pub warmups: usize,
    /// Runs that counted.
    pub repeats: usize,
    /// The time of each.
    pub seconds: Vec<f64>,
    /// The time between two answers with two batches on their way, where the device works beside the host: then the rate
    /// is of these, and the latency of `seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipelined_seconds: Option<Vec<f64>>,
    /// Runs before those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipelined_warmups: Option<usize>,
    /// Images by seconds; in training, images × epochs.
    pub images_per_second: f64,
    /// Lower end of the 95 % interval.
    pub images_per_second_low: f64,
    /// Upper end of the 95 % interval.
    pub images_per_second_high: f64,
    /// `model`: by the 77 images/s that the paper states, of the paper's network alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_paper: Option<f64>,
    /// Quantiles of the times.
    pub latency_ms: Latency,
    /// Work reached, see [`super::work`].
    pub tflops: f64,
    /// The same by the rate of a plain product.
    pub share_of_gemm_peak: f64,
    /// Largest resident set while it was measured; null where the system does not tell.
    pub host_memory_bytes: Option<u64>,
    /// Held on the device after it; null where tensors live in host memory.
    pub device_memory_bytes: Option<u64>,
    /// Times of stages, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<StageTime>>,
    /// Images of a pass or of an epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// `files`: which files these are, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// `train`: from files to cached features, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extraction_seconds: Option<f64>,
    /// `files`: decoding and preprocessing in a pass, summed over threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_seconds: Option<f64>,
    /// `files`: the detector in a pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_seconds: Option<f64>,
}

impl Measurement {
    /// Figures from times; `images` and `macs` (of one image) are those of one timed run.
    pub(super) fn new<B: Backend>(
        backend: &B,
        scope: Scope,
        setup: &Setup,
        batch: usize,
        samples: Samples,
        (images, macs): (usize, u64),
        product: &ProductRate,
    ) -> Self {
        let rate = statistics::rate(images as f64, &samples.seconds);
        let tflops = 2.0 * macs as f64 * rate.value / 1e12;
        Self {
            engine: "simplenet",
            scope,
            setup: setup.clone(),
            batch,
            warmups: samples.warmups,
            repeats: samples.seconds.len(),
            images_per_second: rate.value,
            images_per_second_low: rate.low,
            images_per_second_high: rate.high,
            ratio_to_paper: (scope == Scope::Model).then(|| setup.ratio_to_paper(rate.value)).flatten(),
            latency_ms: statistics::latency(&samples.seconds),
            seconds: samples.seconds,
            pipelined_seconds: None,
            pipelined_warmups: None,
            tflops,
            share_of_gemm_peak: tflops / product.tflops(),
            host_memory_bytes: memory::peak(),
            device_memory_bytes: backend.memory_held(),
            stages: None,
            images: None,
            files: None,
            extraction_seconds: None,
            decode_seconds: None,
            model_seconds: None,
        }
    }

    /// The same with the rate of other runs, in which batches overlapped; the latency stays.
    pub(super) fn with_rate_of<B: Backend>(
        self,
        backend: &B,
        samples: Samples,
        (images, macs): (usize, u64),
        product: &ProductRate,
    ) -> Self {
        let rate = statistics::rate(images as f64, &samples.seconds);
        let tflops = 2.0 * macs as f64 * rate.value / 1e12;
        Self {
            images_per_second: rate.value,
            images_per_second_low: rate.low,
            images_per_second_high: rate.high,
            ratio_to_paper: self.setup.ratio_to_paper(rate.value),
            tflops,
            share_of_gemm_peak: tflops / product.tflops(),
            pipelined_seconds: Some(samples.seconds),
            pipelined_warmups: Some(samples.warmups),
            host_memory_bytes: memory::peak(),
            device_memory_bytes: backend.memory_held(),
            ..self
        }
    }
}
