//! Fixtures are written in `tests/fixtures/weights/make_pth.py`.

use std::collections::HashMap;

use safetensors::tensor::TensorView;

use super::*;

fn fixture(name: &str) -> StateDict {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights");
    StateDict::load(&folder.join(name)).unwrap()
}

/// The path of `name` in the shared test data; says so and gives `None` where it is missing.
fn test_data(name: &str) -> Option<std::path::PathBuf> {
    let shared = std::env::var_os("SIMPLENET_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join("shared"),
        std::path::PathBuf::from,
    );
    let path = shared.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is missing; set SIMPLENET_TEST_DATA", path.display());
    None
}

#[test]
fn every_container_and_nesting_gives_the_backbones_tensors_alone() {
    let plain = fixture("plain.safetensors").tensors;
    assert_eq!(
        plain.keys().collect::<Vec<_>>(),
        ["bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.weight", "conv1.weight"]
    );
    for name in ["plain.pth", "plain_legacy.pth", "nested_parallel.pth", "nested_model_legacy.pth"] {
        assert_eq!(fixture(name).tensors, plain, "{name}");
    }
    assert_eq!(fixture("types.pth").tensors, fixture("types.safetensors").tensors);
}

/// The numbers come from `weights_hash` of `weights/make_embedded.py`, which shares no code with this.
#[test]
fn the_hash_is_that_of_python_whatever_the_container() {
    let architecture = Architecture::Resnet18Slim;
    let embedded = StateDict::embedded().unwrap();
    embedded.require(architecture, 3).unwrap();
    let hash = embedded.hash(architecture, 3);
    assert_eq!(hash, "f948551322eaa1c5896b6ae56ea4cd9da7bdf7d91be23acaa7eb1d1e8ef77d79");
    assert_ne!(embedded.hash(architecture, 2), hash, "the level says which tensors count");

    let mut changed = embedded.clone();
    changed.tensors.get_mut("layer3.1.bn2.bias").unwrap().data_mut()[0] += 1e-3;
    assert_ne!(changed.hash(architecture, 3), hash);
    assert_eq!(changed.hash(architecture, 2), embedded.hash(architecture, 2));

    let mut more = embedded;
    more.tensors.insert("layer4.0.conv1.weight".into(), Tensor::full([1], 0.0));
    assert_eq!(more.hash(architecture, 3), hash);
}

#[test]
fn wrong_architectures_are_refused_with_the_right_one_named() {
    let weights = StateDict::synthetic(Architecture::Resnet34, 0);
    for architecture in Architecture::ALL {
        assert_eq!(weights.fits(architecture, 3), architecture == Architecture::Resnet34, "{architecture}");
    }
    // ResNet34 holds every tensor of ResNet18.
    let error = weights.require(Architecture::Resnet18, 3).unwrap_err().to_string();
    assert!(error.contains("layer1.2.bn1.bias is no part of resnet18"), "{error}");
    assert!(error.ends_with("they fit resnet34: use --backbone resnet34"), "{error}");

    let error = weights.require(Architecture::WideResnet50_2, 2).unwrap_err().to_string();
    assert!(
        error.contains("layer1.0.conv1.weight has shape [64, 64, 3, 3] instead of [128, 64, 1, 1]"),
        "{error}"
    );
    assert!(error.contains("more"), "{error}");

    let mut nothing = weights.clone();
    nothing.tensors.remove("conv1.weight");
    let error = nothing.require(Architecture::Resnet34, 3).unwrap_err().to_string();
    assert!(error.contains("conv1.weight is missing; they fit no known backbone"), "{error}");
    assert!(nothing.infer_architecture(3).unwrap_err().to_string().contains("no known backbone"));
}

#[test]
fn the_architecture_is_inferred_from_what_is_there() {
    for architecture in [Architecture::Resnet18Slim, Architecture::Resnet50, Architecture::Resnet101] {
        let mut weights = StateDict::synthetic(architecture, 0);
        for level in 1..=3 {
            assert_eq!(weights.infer_architecture(level).unwrap(), architecture, "by all layers");
        }
        weights.tensors.retain(|name, _| !name.starts_with("layer3."));
        assert!(weights.infer_architecture(3).is_err());
        let alike =
            if architecture == Architecture::Resnet101 { Architecture::Resnet50 } else { architecture };
        assert_eq!(weights.infer_architecture(2).unwrap(), alike);
        weights.require(architecture, 2).unwrap();
    }
}

#[test]
fn values_no_network_has_are_refused() {
    for (name, value) in
        [("conv1.weight", f32::NAN), ("layer1.0.bn1.bias", f32::INFINITY), ("layer3.1.bn2.running_var", -0.5)]
    {
        let mut weights = StateDict::embedded().unwrap();
        weights.tensors.get_mut(name).unwrap().data_mut()[1] = value;
        let error = weights.require(Architecture::Resnet18Slim, 3).unwrap_err();
        assert!(matches!(&error, WeightsError::Implausible { tensor, .. } if tensor == name), "{error}");
    }
}

fn safetensors(name: &str, dtype: Dtype, bytes: &[u8]) -> Vec<u8> {
    let view = TensorView::new(dtype, vec![bytes.len() * 8 / dtype.bitsize()], bytes).unwrap();
    safetensors::serialize([(name, view)], None::<HashMap<String, String>>).unwrap()
}

#[test]
fn integers_are_no_weights() {
    let error =
        StateDict::from_safetensors(&safetensors("conv1.weight", Dtype::I32, &[0; 8]), "f").unwrap_err();
    assert_eq!(
        error.to_string(),
        "f holds the tensor conv1.weight as I32, which is not read; save a plain state_dict() of \
         floating-point tensors"
    );
    let counter = safetensors("bn1.num_batches_tracked", Dtype::I64, &[0; 8]);
    assert!(StateDict::from_safetensors(&counter, "f").unwrap().tensors.is_empty());
}

#[test]
fn a_broken_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken");
    let message = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        let error = StateDict::load(&path).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        error
    };
    for content in [b"".as_slice(), b"GIF89a", b"<html>404 not found</html>", &[0; 64]] {
        assert!(message(content).contains("is no weights file"));
    }
    // A header length beyond the file, and one that would need 2 GB.
    assert!(message(b"\x40\0\0\0\0\0\0\0{}").contains("damaged or cut short"));
    assert!(message(b"\0\0\0\x7f\0\0\0\0{}").contains("damaged or cut short"));
    assert!(message(b"PK\x03\x04 and no more").contains("damaged or cut short"));

    let sound = safetensors("conv1.weight", Dtype::F32, &[0; 16]);
    for length in 0..sound.len() {
        message(&sound[..length]);
    }
    for at in 0..sound.len() {
        for value in [0x00, 0xff, sound[at] ^ 1] {
            let mut damaged = sound.clone();
            damaged[at] = value;
            // Whatever it gives, it does not panic and does not ask for memory the file does not hold.
            let tensors = StateDict::from_safetensors(&damaged, "f").map(|weights| weights.tensors);
            assert!(tensors.is_err() || tensors.unwrap().values().all(|tensor| tensor.len() <= 8));
        }
    }
    let missing = StateDict::load(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(missing.contains("absent") && missing.contains("check the path"), "{missing}");
    assert!(matches!(StateDict::load(folder.path()), Err(WeightsError::Read { .. })));
}

#[test]
fn the_published_resnet18_fits_its_architecture_alone() {
    let Some(path) = test_data("weights/resnet18.safetensors") else { return };
    let weights = StateDict::load(&path).unwrap();
    weights.require(Architecture::Resnet18, 3).unwrap();
    assert_eq!(weights.infer_architecture(2).unwrap(), Architecture::Resnet18);
    let error = weights.require(Architecture::Resnet50, 3).unwrap_err().to_string();
    assert!(
        error.contains("wrong architecture for resnet50") && error.contains("they fit resnet18"),
        "{error}"
    );
}
