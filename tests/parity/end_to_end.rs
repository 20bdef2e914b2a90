//! The program itself: `dump` of a picture against PyTorch, from the file to the score.
//!
//! Each check takes a [`Machine`]: the CPU, the simulated GPU or the real one.

use crate::device::{real, simulator};
use crate::draws::SEED;
use crate::findings::{Findings, Row};
use crate::head::start;
use crate::maps::every;
use crate::reference::{Reference, checkout};
use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::StateDict;
use simplenet::backend::cpu::{Bf16Unit, Cpu};
use simplenet::backend::cuda::Precision;
use simplenet::data::demo;
use simplenet::detector::{BackboneIdentity, FORMAT, Model, ModelMetadata, Thresholds};
use simplenet::head::HeadConfig;
use simplenet::settings::{Preset, Settings};
use simplenet::tensor::Tensor;
use simplenet::tensor_file::NamedTensors;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the program runs, and on what.
struct Machine {
    /// Its name in the table.
    name: &'static str,
    /// `--device`, and which convolutions.
    device: &'static str,
    convolutions: &'static str,
    /// Where the driver and cuBLASLt are, if not where the system has them.
    libraries: Option<PathBuf>,
}

fn cpu() -> Machine {
    Machine { name: "CPU f32", device: "cpu", convolutions: "exact", libraries: None }
}

fn cpu_fast() -> Machine {
    Machine { name: "CPU f32, `--conv fast`", convolutions: "fast", ..cpu() }
}

fn simulated() -> Option<Machine> {
    let libraries = Some(simulator()?.folder().to_owned());
    Some(Machine { name: "CUDA f32, simulated", device: "cuda", libraries, ..cpu() })
}

fn gpu() -> Option<Machine> {
    real(Precision::F32)?;
    Some(Machine { name: "CUDA f32", device: "cuda", ..cpu() })
}

/// The program that was built with this test; where the test was copied to another machine, `CARGO_BIN_EXE_simplenet`
/// says where the program is.
fn program() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_simplenet")
        .map_or_else(|| env!("CARGO_BIN_EXE_simplenet").into(), PathBuf::from)
}

/// The bound of every tensor behind the network's input: as for the backbone alone.
const BOUND: f64 = 1e-5;
/// The folded head sums products of products, which cancel on a trained head.
const FOLDED_BOUND: f64 = 1e-4;
/// What fast convolutions promise of a network's features; here scores keep it, too. Only AMX tiles need it: Winograd's
/// algorithm keeps the bound of exact ones.
const TILES_BOUND: f64 = 1e-4;

/// A cut in the fabric, as `generate.py` reads it.
fn picture(folder: &Path) -> PathBuf {
    demo::write(folder).unwrap();
    folder.join("fabric/test/cut/000.png")
}

impl Machine {
    /// What becomes of the bound of exact convolutions.
    fn bound(&self, exact: f64) -> f64 {
        let tiles = self.convolutions == "fast" && Cpu::<f32>::bf16_unit() == Some(Bf16Unit::AmxTiles);
        if tiles { TILES_BOUND } else { exact }
    }

    /// Runs `simplenet dump` and reads what it wrote.
    fn dump(&self, folder: &Path, arguments: &[&str], images: &[PathBuf]) -> Reference {
        let output = folder.join("dump.safetensors");
        let mut command = Command::new(program());
        command.args(["dump", "-q", "--ignore-exif", "--device", self.device, "--conv", self.convolutions]);
        command.arg("--output").arg(&output);
        if let Some(folder) = &self.libraries {
            command.env("LD_LIBRARY_PATH", folder);
        }
        let status = command.args(arguments).args(images).status().unwrap();
        assert!(status.success());
        Reference::read(&output)
    }
}

/// Writes a model around a head, for the backbone `architecture` with the weights `synthetic:0`.
fn write_model(path: &Path, architecture: Architecture, hidden: usize, head: NamedTensors) {
    let mut settings = Settings::preset(Preset::Paper);
    settings.training.hidden = hidden;
    let channels = architecture.channels()[1] + architecture.channels()[2];
    let weights = StateDict::synthetic(architecture, 0);
    let metadata = ModelMetadata {
        format: FORMAT,
        category: "parity".to_owned(),
        backbone: BackboneIdentity {
            architecture,
            sha256: weights.hash(architecture, Architecture::DEEPEST_LEVEL),
            origin: Some("synthetic:0".to_owned()),
        },
        head: settings.training.head(channels),
        settings,
        seed: SEED,
        train_images: 4,
        synthetic_data: true,
        ignore_exif: true,
        calibration: None,
        thresholds: Thresholds::default(),
        chosen_epoch: None,
    };
    Model { metadata, head, backbone: None }.save(path).unwrap();
}

/// The stored tensors of a head.
fn stored_head(reference: &Reference) -> NamedTensors {
    let narrow = |tensor: &Tensor<f64>| tensor.data().iter().map(|&value| value as f32).collect();
    reference
        .under("head/")
        .map(|(name, tensor)| (name.to_owned(), Tensor::new(tensor.shape(), narrow(tensor))))
        .collect()
}

/// Scores, map and image score of a dump.
fn check_scores(
    findings: &mut Findings,
    row: Row,
    case: &str,
    reference: &Reference,
    dump: &Reference,
    bound: f64,
) {
    for (name, out) in [
        ("scores", dump.get("scores").clone()),
        ("map", every(dump.get("map"), 4)),
        ("image_score", dump.get("image_score").clone()),
    ] {
        findings.note(row, format!("{case}{name}"), reference.error(name, &out), bound);
    }
}

#[test]
fn wide_resnet50_2_from_a_file_to_its_score() {
    check_wide_resnet50_2(&cpu());
    check_wide_resnet50_2(&cpu_fast());
}

#[test]
fn simulated_wide_resnet50_2_from_a_file_to_its_score() {
    simulated().iter().for_each(check_wide_resnet50_2);
}

#[test]
fn gpu_wide_resnet50_2_from_a_file_to_its_score() {
    gpu().iter().for_each(check_wide_resnet50_2);
}

fn check_wide_resnet50_2(machine: &Machine) {
    let folder = tempfile::tempdir().unwrap();
    let (image, model) = (picture(&folder.path().join("demo")), folder.path().join("model.safetensors"));
    let reference = Reference::load("end_to_end");
    let architecture = Architecture::WideResnet50_2;
    let config = HeadConfig { hidden: 1024, ..Settings::preset(Preset::Paper).training.head(1536) };
    let mut head = start("end to end", config);
    // The running statistics are near those of the picture, as in a trained head.
    head.extend(stored_head(&reference));
    write_model(&model, architecture, 1024, head);
    let model = model.to_str().unwrap();

    let mut findings = Findings::new(machine.name);
    let out = machine.dump(folder.path(), &["--model", model], std::slice::from_ref(&image));
    // Bytes equal Pillow's (src/data/preprocess.rs); what is left is the rounding of (x/255 − mean)/std.
    let input = out.get("input");
    let &[_, h, w, c] = input.shape() else { panic!("the input has four axes") };
    let pixels = (0..h).step_by(5).flat_map(|y| (0..w).step_by(5).map(move |x| (y * w + x) * c));
    let sample = pixels.flat_map(|start| input.data()[start..][..c].to_vec()).collect();
    let sample = Tensor::new([1, h.div_ceil(5), w.div_ceil(5), c], sample);
    findings.note(Row::Input, "fabric/test/cut/000", reference.error("input", &sample), 1e-6);
    for tensor in ["layer1", "layer2", "layer3", "features", "adapted"] {
        let error = reference.sampled_error(tensor, out.get(tensor));
        findings.note(Row::EndToEnd, tensor, error, machine.bound(BOUND));
    }
    check_scores(&mut findings, Row::EndToEnd, "", &reference, &out, machine.bound(BOUND));

    let arguments = ["--model", model, "--fast"];
    let out = machine.dump(folder.path(), &arguments, std::slice::from_ref(&image));
    let bound = machine.bound(FOLDED_BOUND);
    check_scores(&mut findings, Row::Folded, "wide_resnet50_2/", &reference, &out, bound);
    findings.hold();
}

/// resnet18 with a head that PyTorch trained on four pictures: where the folded products cancel most.
#[test]
fn a_trained_head_from_a_file_to_its_score() {
    check_trained_head(&cpu());
    check_trained_head(&cpu_fast());
}

#[test]
fn simulated_trained_head_from_a_file_to_its_score() {
    simulated().iter().for_each(check_trained_head);
}

#[test]
fn gpu_trained_head_from_a_file_to_its_score() {
    gpu().iter().for_each(check_trained_head);
}

fn check_trained_head(machine: &Machine) {
    let folder = tempfile::tempdir().unwrap();
    let (image, model) = (picture(&folder.path().join("demo")), folder.path().join("model.safetensors"));
    let reference = Reference::load("trained");
    write_model(&model, Architecture::Resnet18, 64, stored_head(&reference));
    let model = model.to_str().unwrap();
    let mut findings = Findings::new(machine.name);
    for (row, path, bound) in
        [(Row::TrainedHead, None, FOLDED_BOUND), (Row::Folded, Some("--fast"), FOLDED_BOUND)]
    {
        let mut arguments = vec!["--model", model];
        arguments.extend(path);
        let out = machine.dump(folder.path(), &arguments, std::slice::from_ref(&image));
        check_scores(&mut findings, row, "trained/", &reference, &out, machine.bound(bound));
    }
    findings.hold();
}

/// The folder with `data/` and `weights/`, if it is there.
fn test_data() -> Option<PathBuf> {
    let root =
        std::env::var_os("SIMPLENET_TEST_DATA").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    if root.join("data/grid_mini").is_dir() && root.join("weights/resnet18.safetensors").is_file() {
        return Some(root);
    }
    println!("skipped: {} holds no test data; set SIMPLENET_TEST_DATA", root.display());
    None
}

/// ImageNet weights on photographs, three in one batch. Neither is part of the project.
#[test]
fn resnet18_with_its_real_weights() {
    check_real_weights(&cpu());
    check_real_weights(&cpu_fast());
}

#[test]
fn gpu_resnet18_with_its_real_weights() {
    gpu().iter().for_each(check_real_weights);
}

fn check_real_weights(machine: &Machine) {
    let Some(root) = test_data() else { return };
    let names = ["good/000", "bent/000", "broken/000"];
    let images = names.map(|name| root.join(format!("data/grid_mini/test/{name}.png")));
    let weights = root.join("weights/resnet18.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let reference = Reference::load("real_weights");
    let mut findings = Findings::new(machine.name);
    let arguments = ["--backbone", "resnet18", "--weights", weights.to_str().unwrap()];
    let out = machine.dump(folder.path(), &arguments, &images);
    for tensor in ["layer1", "layer2", "layer3", "features"] {
        let batch = out.get(tensor);
        let shape = [&[1], &batch.shape()[1..]].concat();
        for (name, image) in names.iter().zip(batch.data().chunks(batch.len() / names.len())) {
            let case = format!("{name}/{tensor}");
            let error = reference.sampled_error(&case, &Tensor::new(shape.clone(), image.to_vec()));
            findings.note(Row::RealWeights, case, error, machine.bound(BOUND));
        }
    }
    findings.hold();
}

/// `import` of a checkpoint that a torch module of the authors' structure saved, then `dump` of the model.
#[test]
fn an_imported_checkpoint_gives_the_scores_of_the_authors_modules() {
    check_import(&cpu());
    check_import(&cpu_fast());
}

#[test]
fn simulated_import_gives_the_scores_of_the_authors_modules() {
    simulated().iter().for_each(check_import);
}

#[test]
fn gpu_import_gives_the_scores_of_the_authors_modules() {
    gpu().iter().for_each(check_import);
}

fn check_import(machine: &Machine) {
    let folder = tempfile::tempdir().unwrap();
    let (image, model) = (picture(&folder.path().join("demo")), folder.path().join("model.safetensors"));
    let checkpoint = checkout().join("tests/parity/reference/authors_ckpt.pth");
    let import = |checkpoint: &Path, preset: &str| {
        Command::new(program())
            .args(["import", "--backbone", "resnet18_slim", "--weights", "synthetic:0", "--preset", preset])
            .arg(checkpoint)
            .arg("--output")
            .arg(&model)
            .output()
            .unwrap()
    };
    // The official preset gives 1536 channels; this checkpoint is smaller.
    let refused = import(&checkpoint, "official");
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("192 channels") && message.contains("--preset"), "{message}");
    let backbone = checkout().join("tests/fixtures/weights/plain.pth");
    let refused = import(&backbone, "paper");
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("no checkpoint of the authors' code"), "{message}");
    assert!(!model.exists());

    let imported = import(&checkpoint, "paper");
    assert!(imported.status.success());
    let message = String::from_utf8(imported.stderr).unwrap();
    assert!(message.contains("best on the test set"), "{message}");
    let refused = import(&model, "paper");
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("torch.save did not write it"), "{message}");
    let reference = Reference::load("imported");
    let mut findings = Findings::new(machine.name);
    for (path, bound) in [(None, BOUND), (Some("--fast"), FOLDED_BOUND)] {
        let mut arguments = vec!["--model", model.to_str().unwrap()];
        arguments.extend(path);
        let out = machine.dump(folder.path(), &arguments, std::slice::from_ref(&image));
        let (case, bound) = (path.unwrap_or_default(), machine.bound(bound));
        check_scores(&mut findings, Row::Import, case, &reference, &out, bound);
    }
    findings.hold();
}
