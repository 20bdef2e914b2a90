//! Official weight files that are known by name and digest.

use crate::backbone::architecture::Architecture;

/// A published file of ImageNet weights, version 1. (Version 2 has another feature scale, for which the noise of
/// σ = 0.015 is wrong.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KnownFile<'a> {
    /// Whose weights it holds.
    pub architecture: Architecture,
    /// The folder it is published in, without a slash at the end.
    pub folder: &'a str,
    /// Its name there.
    pub file: &'a str,
    /// The SHA-256 of the file in hexadecimal digits, or as many of the first as are published.
    pub sha256: &'a str,
}

impl KnownFile<'_> {
    /// Its address: in `mirror` where one is given, else where it is published.
    pub fn url(&self, mirror: Option<&str>) -> String {
        format!("{}/{}", mirror.unwrap_or(self.folder).trim_end_matches('/'), self.file)
    }

    /// Whether a file with this SHA-256 is this one.
    pub fn is(&self, sha256: &str) -> bool {
        sha256.starts_with(self.sha256)
    }
}

/// torchvision's folder.
const TORCHVISION: &str = "https://download.pytorch.org/models";

const fn torchvision(
    architecture: Architecture,
    file: &'static str,
    sha256: &'static str,
) -> KnownFile<'static> {
    KnownFile { architecture, folder: TORCHVISION, file, sha256 }
}

/// torchvision's files, whose names carry the first eight digits of their digest, then those of others.
pub const KNOWN_FILES: [KnownFile<'static>; 7] = [
    torchvision(Architecture::Resnet18, "resnet18-f37072fd.pth", "f37072fd"),
    torchvision(Architecture::Resnet34, "resnet34-b627a593.pth", "b627a593"),
    torchvision(Architecture::Resnet50, "resnet50-0676ba61.pth", "0676ba61"),
    torchvision(Architecture::Resnet101, "resnet101-63fe2227.pth", "63fe2227"),
    torchvision(Architecture::WideResnet50_2, "wide_resnet50_2-95faca4d.pth", "95faca4d"),
    torchvision(Architecture::WideResnet101_2, "wide_resnet101_2-32ee1156.pth", "32ee1156"),
    KnownFile {
        architecture: Architecture::WideResnet50_2,
        folder: "https://huggingface.co/timm/wide_resnet50_2.tv_in1k/resolve/main",
        file: "model.safetensors",
        sha256: "df6fb6c4824769769de18e14088475fd6ee94236849aa4e5d8022ba9d9a9a16c",
    },
];

/// The file that `weights fetch` gets; `None` for the network that is embedded in the program.
pub fn official(architecture: Architecture) -> Option<&'static KnownFile<'static>> {
    KNOWN_FILES.iter().find(|known| known.architecture == architecture)
}

/// The known file with this SHA-256.
pub fn identify(sha256: &str) -> Option<&'static KnownFile<'static>> {
    KNOWN_FILES.iter().find(|known| known.is(sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_but_the_embedded_one_has_an_official_file() {
        for architecture in Architecture::ALL {
            let Some(known) = official(architecture) else {
                assert_eq!(architecture, Architecture::Resnet18Slim);
                continue;
            };
            assert_eq!(known.file, format!("{architecture}-{}.pth", known.sha256));
        }
        let wide = official(Architecture::WideResnet50_2).unwrap();
        assert_eq!(wide.url(None), "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth");
        assert_eq!(wide.url(Some("http://mirror/w/")), "http://mirror/w/wide_resnet50_2-95faca4d.pth");
    }

    #[test]
    fn files_are_known_by_their_digest() {
        let timm = "df6fb6c4824769769de18e14088475fd6ee94236849aa4e5d8022ba9d9a9a16c";
        assert_eq!(identify(timm).unwrap().architecture, Architecture::WideResnet50_2);
        assert_eq!(identify("f37072fd00").unwrap().architecture, Architecture::Resnet18);
        assert!(identify(&"0".repeat(64)).is_none());
    }
}
