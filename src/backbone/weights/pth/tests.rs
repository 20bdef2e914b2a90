//! Fixtures are written by torch.save in `tests/fixtures/weights/make_pth.py`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;
use crate::tensor::Tensor;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

fn parse_bytes(bytes: Vec<u8>) -> Option<Result<Value, PthError>> {
    let bytes: FileBytes = Arc::new(bytes);
    parse(&bytes)
}

/// A pickle of protocol 2 in the first place of a legacy file.
fn run(pickle: &[u8]) -> PthError {
    parse_bytes([b"\x80\x02", pickle].concat()).unwrap().unwrap_err()
}

/// The floating-point tensors of a `.pth`, by name.
fn floats(name: &str) -> BTreeMap<String, Tensor> {
    let value = load_pth(&fixture(name)).unwrap();
    value.flatten().into_iter().filter_map(|(name, tensor)| Some((name, tensor.to_f32()?))).collect()
}

/// The tensors of a safetensors file, by name.
fn expected(name: &str) -> BTreeMap<String, Tensor> {
    let content = bytes(name);
    let file = SafeTensors::deserialize(&content).unwrap();
    file.iter()
        .map(|(name, view)| {
            let element = match view.dtype() {
                safetensors::Dtype::F32 => super::super::ElementType::F32,
                safetensors::Dtype::F16 => super::super::ElementType::F16,
                safetensors::Dtype::BF16 => super::super::ElementType::Bf16,
                safetensors::Dtype::F64 => super::super::ElementType::F64,
                other => panic!("unexpected {other}"),
            };
            (name.to_owned(), Tensor::new(view.shape(), element.to_f32(view.data()).unwrap()))
        })
        .collect()
}

#[test]
fn views_of_every_kind_give_pytorchs_values() {
    for name in ["views.pth", "views_legacy.pth"] {
        assert_eq!(floats(name), expected("views.safetensors"), "{name}");
    }
    assert_eq!(floats("storage_views_legacy.pth"), expected("storage_views.safetensors"));
}

#[test]
fn every_floating_point_type_is_read() {
    for name in ["types.pth", "types_legacy.pth"] {
        let tensors = floats(name);
        assert_eq!(tensors, expected("types.safetensors"), "{name}");
        assert_eq!(tensors["layer1.half"].data(), [0.0, -1.5, 65504.0, 6.103_515_6e-5]);
        assert_eq!(tensors["layer1.double"].data(), [1.0 / 3.0, f32::INFINITY, -5.0]);
        assert_eq!(tensors["layer1.scalar"].shape(), [0usize; 0]);
        assert_eq!(tensors["layer1.empty"].shape(), [0, 3]);
    }
}

#[test]
fn both_containers_and_all_protocols_hold_the_same() {
    let plain = floats("plain.pth");
    assert_eq!(plain.len(), 8, "conv1, bn1 without its counter, layer4, fc");
    for name in ["plain_legacy.pth", "plain_protocol4.pth", "plain_protocol5.pth"] {
        assert_eq!(floats(name), plain, "{name}");
    }
    let counter = load_pth(&fixture("plain.pth")).unwrap();
    let counter = counter.flatten()["bn1.num_batches_tracked"];
    assert_eq!(counter.element().size(), 8);
    assert!(counter.to_f32().is_none());
}

#[test]
fn other_values_keep_their_place_in_the_tree() {
    let value = load_pth(&fixture("nested_parallel.pth")).unwrap();
    assert!(matches!(value.get("epoch"), Some(Value::Int(3))));
    assert!(matches!(value.get("best"), Some(Value::Float(0.5))));
    assert!(matches!(value.get("done"), Some(Value::Bool(true))));
    assert!(value.flatten().contains_key("state_dict.module.conv1.weight"));

    let value = load_pth(&fixture("nested_model_legacy.pth")).unwrap();
    assert!(matches!(value.get("optimizer"), Some(Value::None)));
    assert!(matches!(value.get("large"), Some(Value::Int(1_099_511_627_776))));
    let Some(Value::List(steps)) = value.get("steps") else { panic!("steps is a list") };
    assert!(matches!(steps[..], [Value::Int(1), Value::Int(-2), Value::Int(70_000)]));
}

#[test]
fn a_checkpoint_of_simplenets_authors_is_a_tree() {
    let value = load_pth(&fixture("checkpoint.pth")).unwrap();
    let projection = value.get("pre_projection").unwrap().flatten();
    assert_eq!(projection["layers.0fc.weight"].shape(), [3, 3]);
    assert_eq!(projection["layers.0fc.bias"].to_f32().unwrap().data(), [-1.0, -0.63, -0.26]);
    assert_eq!(value.flatten()["discriminator.tail.0.weight"].shape(), [1, 2]);
}

#[test]
fn what_is_no_tensor_is_refused_by_name() {
    for name in ["malicious.pth", "malicious_legacy.pth"] {
        let error = load_pth(&fixture(name)).unwrap_err();
        assert!(matches!(error, WeightsError::Refused { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("asks to run `os.system`; it is refused") && text.contains(name), "{text}");
    }
    let refused = |pickle: &[u8]| match run(pickle) {
        PthError::Refused(name) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b"cbuiltins\neval\nX\x01\0\0\x001\x85R."), "builtins.eval");
    assert_eq!(refused(b"(X\x01\0\0\x001ios\nsystem\n."), "os.system");
    assert_eq!(refused(b"\x8c\x05posix\x8c\x06system\x93."), "posix.system");
    assert_eq!(refused(b"ctorch._utils\n_rebuild_tensor\n."), "torch._utils._rebuild_tensor");
    // NEWOBJ, EXT1 and PERSID are ways to name objects too; they are not understood at all.
    for opcode in [b"\x81.".as_slice(), b"\x82\x01.", b"P0\n."] {
        assert!(matches!(run(opcode), PthError::Unsupported(_)));
    }
}

/// A legacy file whose object is `pickle`, with no storages.
fn legacy_file(pickle: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let system = b"\x80\x02}X\x0d\0\0\0little_endian\x88s.";
    [magic.as_slice(), b"\x80\x02M\xe9\x03.", system, b"\x80\x02", pickle, b"\x80\x02]."].concat()
}

#[test]
fn an_ordered_dict_of_python_2_is_read() {
    let pickle = b"ccollections\nOrderedDict\n](]U\x01aK\x01e]U\x01bNea\x85R.";
    // A list of [key, value] lists: the first by APPENDS under a mark, the second likewise.
    let pickle = [&pickle[..25], b"](](U\x01aK\x01e](U\x01bNee\x85R."].concat();
    let value = parse_bytes(legacy_file(&pickle)).unwrap().unwrap();
    assert!(matches!(value.get("a"), Some(Value::Int(1))));
    assert!(matches!(value.get("b"), Some(Value::None)));
}

#[test]
fn sharing_and_nesting_without_end_are_refused() {
    let endless = |pickle: &[u8]| {
        let error = parse_bytes(legacy_file(pickle)).unwrap().unwrap_err();
        assert!(matches!(&error, PthError::Damaged(what) if what.contains("without end")), "{error:?}");
    };
    // A list that holds itself.
    endless(b"]q\x00h\x00a.");
    // A hundred thousand tuples, each in the next.
    endless(&[b")".as_slice(), &[0x85; 100_000], b"."].concat());
    // Thirty tuples, each twice in the next: 2³⁰ leaves.
    endless(&[b"N".as_slice(), &b"q\x00h\x00\x86".repeat(30), b"."].concat());
}

#[test]
fn lying_sizes_are_refused() {
    for (shape, strides, offset) in [
        (vec![5], vec![1], 0),
        (vec![4], vec![1], 1),
        (vec![2, 2], vec![3, 1], 0),
        (vec![1 << 40], vec![0], 0),
        (vec![usize::MAX, usize::MAX], vec![0, 0], 0),
        (vec![2], vec![usize::MAX], 0),
        (vec![1], vec![1], usize::MAX),
        (vec![2], vec![], 0),
    ] {
        let file: FileBytes = Arc::new(vec![0u8; 16]);
        let element = super::super::ElementType::F32;
        let tensor = TorchTensor::new(&file, 0..16, element, offset, shape.clone(), strides);
        assert!(matches!(tensor, Err(PthError::Damaged(_))), "{shape:?}");
    }
    // A legacy storage of 2⁶³ elements, and one of 2⁴⁰ that is not there.
    let content = bytes("storage_views_legacy.pth");
    let count = content.len() - 12 * 4 - 8;
    for lie in [1u64 << 63, 1 << 40] {
        let mut content = content.clone();
        content[count..count + 8].copy_from_slice(&lie.to_le_bytes());
        assert!(matches!(parse_bytes(content), Some(Err(PthError::Damaged(_)))));
    }
}

/// Tensors up to which a file was understood are no use: every shortened file is an error, and none a panic.
#[test]
fn a_file_cut_at_any_length_is_an_error() {
    for name in ["plain.pth", "plain_legacy.pth", "plain_protocol5.pth", "views_legacy.pth", "types.pth"] {
        let whole = bytes(name);
        for length in 0..whole.len() {
            let result = parse_bytes(whole[..length].to_vec());
            assert!(!matches!(result, Some(Ok(_))), "{name} cut to {length} bytes");
        }
    }
}

/// A changed byte may go unnoticed in the legacy container, which has no checksums, but may not cause a panic; in
/// the zip container, a changed weight is noticed.
#[test]
fn a_damaged_byte_anywhere_never_panics() {
    for name in ["plain.pth", "plain_legacy.pth", "views.pth", "storage_views_legacy.pth"] {
        let whole = bytes(name);
        for at in 0..whole.len() {
            for value in [0x00, 0xff, whole[at] ^ 1] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                if let Some(Ok(value)) = parse_bytes(damaged) {
                    value.flatten().values().for_each(|tensor| drop(tensor.to_f32()));
                }
            }
        }
    }
    let mut content = bytes("plain.pth");
    let weight = (-1.0f32 + 0.37).to_le_bytes();
    let at = content.windows(4).position(|window| window == weight).unwrap();
    content[at] ^= 1;
    assert!(matches!(parse_bytes(content), Some(Err(PthError::Damaged(what))) if what.contains("checksum")));
}

proptest! {
    #[test]
    fn random_opcodes_never_panic(pickle in proptest::collection::vec(
        prop_oneof![any::<u8>(), proptest::sample::select(b"NKMJX(t)]}\x85\x86\x87aesuqhjbQR.".to_vec())], 0..200)) {
        if let Some(Ok(value)) = parse_bytes(legacy_file(&pickle)) {
            value.flatten().values().for_each(|tensor| drop(tensor.to_f32()));
        }
    }
}
