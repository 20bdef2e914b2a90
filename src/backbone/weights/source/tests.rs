use super::*;
use crate::backbone::weights::store::install;

fn choose(architecture: Option<Architecture>, source: &str, folder: &Path) -> Result<Resolved, WeightsError> {
    resolve(architecture, &source.parse()?, Some(folder), 3)
}

#[test]
fn sources_are_parsed_and_printed() {
    for (text, source) in [
        ("embedded", WeightsSource::Embedded),
        ("synthetic:0", WeightsSource::Synthetic(0)),
        ("synthetic:18446744073709551615", WeightsSource::Synthetic(u64::MAX)),
        ("a/b.pth", WeightsSource::File("a/b.pth".into())),
    ] {
        assert_eq!(text.parse::<WeightsSource>().unwrap(), source);
        assert_eq!(source.to_string(), text);
    }
    for text in ["synthetic:", "synthetic:-1", "synthetic:x", "synthetic:18446744073709551616"] {
        let error = text.parse::<WeightsSource>().unwrap_err().to_string();
        assert!(error.contains(text) && error.contains("synthetic:SEED"), "{error}");
    }
}

#[test]
fn auto_takes_the_papers_backbone_where_it_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let auto = |folder| resolve(None, &WeightsSource::Installed, folder, 3).unwrap();
    for chosen in [auto(None), auto(Some(folder.path()))] {
        assert_eq!(chosen.architecture, Architecture::Resnet18Slim);
        assert_eq!(
            chosen.description,
            "resnet18_slim with embedded weights (those of wide_resnet50_2 are not installed)"
        );
    }
    let wide = Architecture::WideResnet50_2;
    let weights = StateDict::synthetic(wide, 3);
    let published = format!("95faca4d{}", "0".repeat(56));
    install(folder.path(), &weights, wide, "a published file", Some(published)).unwrap();
    assert!(auto(Some(folder.path())).has_v1_scale);
    let installed = install(folder.path(), &weights, wide, "elsewhere", None).unwrap();
    let chosen = auto(Some(folder.path()));
    assert!(!chosen.has_v1_scale);
    assert_eq!((chosen.architecture, &chosen.weights.tensors), (wide, &weights.tensors));
    assert_eq!(chosen.description, "wide_resnet50_2 with installed weights (from elsewhere)");

    // A file that is there but broken is not passed over.
    std::fs::write(installed.path, b"\x10\0\0\0\0\0\0\0{").unwrap();
    assert!(resolve(None, &WeightsSource::Installed, Some(folder.path()), 3).is_err());
}

#[test]
fn a_named_backbone_needs_its_own_weights() {
    let folder = tempfile::tempdir().unwrap();
    let missing = resolve(Some(Architecture::Resnet50), &WeightsSource::Installed, Some(folder.path()), 3);
    let error = missing.unwrap_err().to_string();
    assert!(error.contains("run `simplenet weights fetch resnet50`"), "{error}");
    let slim = resolve(Some(Architecture::Resnet18Slim), &WeightsSource::Installed, None, 3).unwrap();
    assert_eq!(slim.description, "resnet18_slim with embedded weights");
    let error = choose(Some(Architecture::Resnet50), "embedded", folder.path()).unwrap_err().to_string();
    assert!(error.contains("simplenet weights fetch resnet50"), "{error}");
}

#[test]
fn files_tell_their_architecture_and_synthetic_weights_suit_any() {
    let folder = tempfile::tempdir().unwrap();
    let weights = StateDict::synthetic(Architecture::Resnet18, 3);
    let path = install(folder.path(), &weights, Architecture::Resnet18, "elsewhere", None).unwrap().path;
    let path = path.to_str().unwrap();
    assert_eq!(choose(None, path, folder.path()).unwrap().architecture, Architecture::Resnet18);
    let error = choose(Some(Architecture::Resnet34), path, folder.path()).unwrap_err().to_string();
    assert!(error.contains("--backbone resnet18"), "{error}");

    // Random weights in a file are nobody's version 1; drawn by this program they have its scale.
    assert!(!choose(None, path, folder.path()).unwrap().has_v1_scale);
    let chosen = choose(Some(Architecture::Resnet18), "synthetic:3", folder.path()).unwrap();
    assert!(chosen.has_v1_scale);
    assert_eq!(chosen.weights.tensors, weights.tensors);
    assert_eq!(chosen.description, "resnet18 with synthetic weights (seed 3)");
}
