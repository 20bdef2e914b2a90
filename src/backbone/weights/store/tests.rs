use super::*;

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// The synthetic weights of `architecture` as a bare safetensors file in `folder`, without a record.
fn bare_file(folder: &Path, architecture: Architecture) -> PathBuf {
    let weights = StateDict::synthetic(architecture, 5);
    let views = weights.tensors.iter().map(|(name, tensor)| {
        let bytes = bytemuck::cast_slice(tensor.data());
        (name, TensorView::new(safetensors::Dtype::F32, tensor.shape().to_vec(), bytes).unwrap())
    });
    let path = folder.join("given.safetensors");
    let content = safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn an_imported_file_is_listed_verified_and_the_same_bytes_each_time() {
    let (given, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let architecture = Architecture::Resnet18;
    let path = bare_file(given.path(), architecture);

    let installed = import(folder.path(), &path, None).unwrap();
    assert_eq!(installed.path, folder.path().join("resnet18.safetensors"));
    assert_eq!(installed.record.architecture, architecture);
    assert_eq!(installed.record.source, "given.safetensors");
    let hash = StateDict::synthetic(architecture, 5).hash(architecture, 3);
    assert_eq!(installed.record.hash, hash);
    assert_eq!(installed.record.file_sha256, Some(sha256(&std::fs::read(&path).unwrap())));
    let first = std::fs::read(&installed.path).unwrap();
    assert_eq!(installed.bytes, first.len() as u64);
    import(folder.path(), &path, Some(architecture)).unwrap();
    assert_eq!(std::fs::read(&installed.path).unwrap(), first);
    assert_eq!(names(folder.path()), ["resnet18.safetensors"]);

    let verified = verify(Some(folder.path()), "resnet18").unwrap();
    assert_eq!((verified.hash, verified.record), (hash, Some(installed.record)));
    assert!(verified.known.is_none());
    let bare = verify(None, path.to_str().unwrap()).unwrap();
    assert_eq!((bare.architecture, bare.record), (architecture, None));

    for listing in list(Some(folder.path())).unwrap() {
        let expected = match listing.architecture {
            Architecture::Resnet18Slim => "embedded",
            Architecture::Resnet18 => "installed",
            _ => "missing",
        };
        let json = serde_json::to_value(&listing).unwrap();
        assert_eq!(json["status"], expected, "{json}");
        assert_eq!(json["architecture"], listing.architecture.name());
    }
}

#[test]
fn a_pytorch_file_of_the_wrong_architecture_is_not_installed() {
    let (given, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = bare_file(given.path(), Architecture::Resnet18);
    let error = import(folder.path(), &path, Some(Architecture::Resnet34)).unwrap_err().to_string();
    assert!(error.contains("given.safetensors") && error.contains("they fit resnet18"), "{error}");
    let plain = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights/plain.pth");
    let error = import(folder.path(), &plain, None).unwrap_err().to_string();
    assert!(error.contains("plain.pth fits no known backbone"), "{error}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn verify_finds_a_changed_weight() {
    let (given, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let installed = import(folder.path(), &bare_file(given.path(), Architecture::Resnet18), None).unwrap();
    let mut content = std::fs::read(&installed.path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&installed.path, &content).unwrap();
    let error = verify(Some(folder.path()), "resnet18").unwrap_err();
    assert!(matches!(error, WeightsError::Changed { .. }), "{error}");
    assert!(error.to_string().contains(&installed.record.hash), "{error}");

    std::fs::write(&installed.path, &content[..1000]).unwrap();
    assert!(verify(Some(folder.path()), "resnet18").unwrap_err().to_string().contains("cut short"));
    let listing = list(Some(folder.path())).unwrap().swap_remove(1);
    assert!(matches!(listing.status, Status::Unusable { .. }), "{listing:?}");
}

#[test]
fn the_embedded_weights_verify_and_missing_ones_name_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let verified = verify(None, "resnet18_slim").unwrap();
    assert_eq!(verified.record.unwrap().hash, verified.hash);
    let error = verify(Some(folder.path()), "wide_resnet50_2").unwrap_err().to_string();
    assert!(error.contains("`simplenet weights fetch wide_resnet50_2`"), "{error}");
}
