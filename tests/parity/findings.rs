//! Measured errors, their bounds, and the table of `docs/parity.md`.

use crate::reference::{checkout, worse};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What is compared: a row of the table, in its order. The text is (what, PyTorch's side).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    Backbone,
    Mean,
    PatchCore,
    Noise,
    HeadForward,
    HeadLoss,
    RunningStatistics,
    WeightGradients,
    BiasGradients,
    HeadInference,
    Adam,
    StepLosses,
    StepParameters,
    EpochLosses,
    EpochDecided,
    EpochParameters,
    OfficialFeatures,
    OfficialLosses,
    OfficialDecided,
    OfficialFinal,
    OfficialChange,
    OfficialRunningMean,
    OfficialIdleBiases,
    Map,
    Input,
    EndToEnd,
    TrainedHead,
    Folded,
    RealWeights,
    Import,
}

impl Row {
    /// What is compared, and with what.
    fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Backbone => {
                ("layers 1–3 of all seven backbones, 224×224 and 197×260", "torchvision modules, f64")
            }
            Self::Mean => {
                ("aggregation `mean`, p 1/3/5/7, six sets of levels", "`avg_pool2d`, `interpolate`")
            }
            Self::PatchCore => (
                "aggregation `patchcore`, p 1/3/5/7, six sets of levels",
                "`Unfold`, `interpolate`, `adaptive_avg_pool1d`",
            ),
            Self::Noise => {
                ("noise of a training step, mixtures of 1/3/8 components", "the same draws in NumPy, f64")
            }
            Self::HeadForward => ("head: scores of a training forward", "`nn.Linear`, `nn.BatchNorm1d`, f64"),
            Self::HeadLoss => {
                ("head: truncated L1 and cross-entropy", "`clamp`, `binary_cross_entropy_with_logits`")
            }
            Self::RunningStatistics => ("head: BatchNorm's running statistics", "`nn.BatchNorm1d`"),
            Self::WeightGradients => ("head: gradient of every parameter", "autograd, f64"),
            Self::BiasGradients => {
                ("head: gradient of a bias before BatchNorm, ‖g‖/‖∂W‖", "zero, as algebra says")
            }
            Self::HeadInference => ("head: scores in evaluation", "the module in eval mode"),
            Self::Adam => ("Adam and AdamW, 20 steps on given gradients", "`torch.optim`"),
            Self::StepLosses => ("20 training steps: losses", "autograd and `torch.optim`, f64"),
            Self::StepParameters => ("20 training steps: parameters", "the same"),
            Self::EpochLosses => ("a training of 3 epochs: losses", "the same loop in PyTorch"),
            Self::EpochDecided => ("a training of 3 epochs: p⁺ and p⁻", "the same"),
            Self::EpochParameters => ("a training of 3 epochs: parameters", "the same"),
            Self::OfficialFeatures => {
                ("`official` from files: features, `resnet18_slim`", "torchvision, `Unfold`, f64")
            }
            Self::OfficialLosses => {
                ("`official` from files: losses of 3 epochs", "the same loop in PyTorch, f64")
            }
            Self::OfficialDecided => ("`official` from files: p⁺ and p⁻ of 3 epochs", "the same"),
            Self::OfficialFinal => ("`official` from files: parameters, running variance", "the same"),
            Self::OfficialChange => {
                ("`official` from files: the same, ‖out − ref‖ / ‖ref − start‖", "the same")
            }
            Self::OfficialRunningMean => ("`official` from files: running mean", "the same"),
            Self::OfficialIdleBiases => {
                ("`official` from files: biases before BatchNorm, ‖out − ref‖ / ‖ref − start‖", "the same")
            }
            Self::Map => ("map and image score", "`interpolate`, `scipy.ndimage.gaussian_filter`"),
            Self::Input => ("end to end: the network's input", "Pillow, torchvision transforms"),
            Self::EndToEnd => ("end to end, wide_resnet50_2: every tensor of `dump`", "PyTorch, f64"),
            Self::TrainedHead => ("end to end, resnet18 with a trained head, unfolded", "PyTorch, f64"),
            Self::Folded => ("`dump --fast` (folded head, trained and not)", "the unfolded head, f64"),
            Self::RealWeights => ("resnet18's ImageNet weights on three photographs", "torchvision, f64"),
            Self::Import => ("scores of an imported checkpoint of the authors' code", "their structure, f64"),
        }
    }
}

/// What one check measured on one backend.
#[derive(Debug)]
pub(crate) struct Findings {
    backend: &'static str,
    found: Vec<Finding>,
}

#[derive(Debug)]
struct Finding {
    row: Row,
    case: String,
    error: f64,
    bound: f64,
}

impl Findings {
    /// Nothing measured yet. `backend` names a column of the table.
    pub(crate) fn new(backend: &'static str) -> Self {
        Self { backend, found: Vec::new() }
    }

    /// Notes an error and the bound it must keep.
    pub(crate) fn note(&mut self, row: Row, case: impl Into<String>, error: f64, bound: f64) {
        self.found.push(Finding { row, case: case.into(), error, bound });
    }

    /// Whether a comparison of this row failed.
    pub(crate) fn exceeds(&self, row: Row) -> bool {
        self.found.iter().any(|f| f.row == row && !f.within())
    }

    /// The largest error of a row, as a multiple of its bound.
    pub(crate) fn excess(&self, row: Row) -> f64 {
        self.found.iter().filter(|f| f.row == row).map(|f| f.error / f.bound).fold(0.0, worse)
    }

    /// Asserts every bound; with `SIMPLENET_PARITY_TABLE=1` the errors also go into the table.
    pub(crate) fn hold(self) {
        assert!(!self.found.is_empty(), "a check that measures nothing proves nothing");
        let broken: Vec<String> = self
            .found
            .iter()
            .filter(|f| !f.within())
            .map(|f| format!("{:?}, {}: {:.2e} exceeds {:.0e}", f.row, f.case, f.error, f.bound))
            .collect();
        if std::env::var_os("SIMPLENET_PARITY_TABLE").is_some_and(|value| value == "1") {
            publish(&self);
        }
        assert!(broken.is_empty(), "on {}:\n{}", self.backend, broken.join("\n"));
    }
}

impl Finding {
    fn within(&self) -> bool {
        self.error <= self.bound
    }
}

/// Largest error, its case, and the bound; by row and backend.
type Table = BTreeMap<(Row, &'static str), (f64, String, f64)>;

/// Everything measured by this process so far.
static TABLE: Mutex<Table> = Mutex::new(BTreeMap::new());

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->";

/// Adds findings to the table and writes what is known so far into `docs/parity.md`; the last test to finish
/// writes the whole.
fn publish(findings: &Findings) {
    let mut table = TABLE.lock().unwrap();
    for f in &findings.found {
        let cell = table.entry((f.row, findings.backend)).or_insert((f.error, f.case.clone(), f.bound));
        if worse(cell.0, f.error) != cell.0 {
            *cell = (f.error, f.case.clone(), f.bound);
        }
    }
    let mut text = String::from(
        "| what | against | backend | bound | measured | in the case |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for ((row, backend), (error, case, bound)) in table.iter() {
        let (what, against) = row.text();
        text += &format!("| {what} | {against} | {backend} | {bound:.0e} | {error:.1e} | {case} |\n");
    }
    let path = checkout().join("docs/parity.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("docs/parity.md has the mark of the table's begin");
    let (_, after) = rest.split_once(END).expect("docs/parity.md has the mark of the table's end");
    std::fs::write(&path, format!("{before}{BEGIN}{text}{END}{after}")).unwrap();
}
