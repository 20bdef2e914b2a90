//! What can go wrong between a weights file and a backbone.

use std::path::{Path, PathBuf};

use crate::backbone::architecture::Architecture;
use crate::files::WriteError;

/// Why weights could not be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be opened or read.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Neither safetensors nor one of PyTorch's two containers.
    #[error("{file} is no weights file: it is neither safetensors nor a PyTorch .pth; pass one of these")]
    UnknownContainer {
        /// The file.
        file: String,
    },
    /// The file contradicts itself or ends too early.
    #[error("{file} is damaged or cut short ({what}); fetch or export it again")]
    Damaged {
        /// The file.
        file: String,
        /// What was found.
        what: String,
    },
    /// A pickle that wants something other than tensors.
    #[error(
        "{file}: the file asks to run `{global}`; it is refused, because only tensors are read: save it with \
         torch.save(model.state_dict(), FILE) or as safetensors"
    )]
    Refused {
        /// The file.
        file: String,
        /// The Python name it asked for.
        global: String,
    },
    /// Sound, but of a kind that is not read.
    #[error("{file} holds {what}, which is not read; save a plain state_dict() of floating-point tensors")]
    Unsupported {
        /// The file.
        file: String,
        /// What was found.
        what: String,
    },
    /// Tensors are missing, superfluous or of another shape.
    #[error(
        "{origin} holds weights of the wrong architecture for {wanted}: {}{}",
        differences.join(", "),
        match fits {
            Some(other) => format!("; they fit {other}: use --backbone {other}"),
            None => "; they fit no known backbone: pass a torchvision ResNet's state dict".to_owned(),
        }
    )]
    WrongArchitecture {
        /// Where the weights came from.
        origin: String,
        /// What they were to be.
        wanted: Architecture,
        /// The first few differences, and how many more there are.
        differences: Vec<String>,
        /// The architecture they are of.
        fits: Option<Architecture>,
    },
    /// No known architecture has these tensors.
    #[error("{origin} fits no known backbone; pass a torchvision ResNet's state dict, one of {}",
        Architecture::ALL.map(Architecture::name).join(", "))]
    NoArchitecture {
        /// Where the weights came from.
        origin: String,
    },
    /// NaN, infinity or a negative variance.
    #[error(
        "{origin}: tensor {tensor} holds {value}, which no trained network has; fetch or export it again"
    )]
    Implausible {
        /// Where the weights came from.
        origin: String,
        /// The tensor.
        tensor: String,
        /// Its value.
        value: f32,
    },
    /// A named architecture whose weights are not on this machine.
    #[error(
        "the weights of {architecture} are not installed in {}; run `simplenet weights fetch {architecture}`, \
         install a file of yours with `simplenet weights import FILE` or pass --weights FILE where a command takes it",
        folder.display()
    )]
    NotInstalled {
        /// What was asked for.
        architecture: Architecture,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// `--weights embedded` together with a backbone that is not embedded.
    #[error("only resnet18_slim is embedded, not {wanted}; run `simplenet weights fetch {wanted}` instead")]
    NotEmbedded {
        /// What was asked for.
        wanted: Architecture,
    },
    /// `resnet18_slim` has no file to fetch.
    #[error("resnet18_slim is embedded in the program; there is nothing to fetch")]
    NothingToFetch,
    /// `--weights synthetic:…` without a number.
    #[error("`{given}` names no seed; write synthetic:SEED with a whole number from 0 to {}", u64::MAX)]
    BadSeed {
        /// What was typed.
        given: String,
    },
    /// No cache folder on this system.
    #[error("no folder for weights is known on this system; set SIMPLENET_WEIGHTS_DIR")]
    NoFolder,
    /// An installed file that is not what was installed.
    #[error(
        "{}: the weights hash to {found}, but {recorded} was recorded when they were installed; remove the file \
         and install it again",
        path.display()
    )]
    Changed {
        /// The installed file.
        path: PathBuf,
        /// The hash in its record.
        recorded: String,
        /// The hash of its tensors.
        found: String,
    },
    /// A downloaded file that is not the one that was asked for.
    #[error(
        "{url} gave a file with SHA-256 {found} where {expected} was expected; nothing was installed: try again, \
         or check the mirror"
    )]
    WrongDigest {
        /// Where it came from.
        url: String,
        /// The expected digest, or its first digits.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// The server could not be reached, or stalled, or broke off.
    #[error(
        "cannot download {url}: {what}; run the command again to go on where it stopped, or set SIMPLENET_WEIGHTS_URL to a mirror"
    )]
    Download {
        /// The address.
        url: String,
        /// What happened.
        what: String,
    },
    /// The server answered, but not with the file.
    #[error(
        "{url} answers with HTTP status {status}; check the address, or set SIMPLENET_WEIGHTS_URL to a mirror"
    )]
    Status {
        /// The address.
        url: String,
        /// The status code.
        status: u16,
    },
    /// Two fetches of one file at the same time.
    #[error("another process is downloading {}; wait until it is done", path.display())]
    Busy {
        /// The partial file.
        path: PathBuf,
    },
    /// A file of the weights folder could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl WeightsError {
    /// For `map_err` on anything that opens or reads `path`.
    pub(super) fn reading(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Read { path: path.to_owned(), source }
    }

    /// For `map_err` on anything that writes `path`.
    pub(super) fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Write(WriteError { path: path.to_owned(), source })
    }
}
