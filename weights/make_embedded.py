"""Writes resnet18_slim.safetensors, the backbone that is embedded in the program, from the distilled f32 weights.

    python weights/make_embedded.py SLIM32.safetensors        # what distill.py wrote

Only the tensors of the stem and of layers 1 to 3 are kept, as f16. The record in the metadata holds the hash of the
widened weights, computed as StateDict::hash in src/backbone/weights/state_dict.rs defines it.
"""
import hashlib, json, pathlib, struct, sys
import numpy as np
from safetensors.numpy import load_file, save_file


def weights_hash(tensors):
    """SHA-256 over the tensors sorted by name: name, 0x00, rank as u32, extents as u64, f32 data; all little-endian."""
    digest = hashlib.sha256()
    for name in sorted(tensors, key=str.encode):
        value = np.ascontiguousarray(tensors[name], "<f4")
        digest.update(name.encode() + b"\0" + struct.pack(f"<I{value.ndim}Q", value.ndim, *value.shape) + value.tobytes())
    return digest.hexdigest()


def main():
    source = pathlib.Path(sys.argv[1])
    exact = {k: v for k, v in load_file(source).items() if "num_batches" not in k and not k.startswith(("layer4.", "fc."))}
    half = {k: v.astype(np.float16) for k, v in exact.items()}
    for name, value in half.items():
        assert np.isfinite(value).all(), name
        assert not name.endswith("running_var") or (value >= np.finfo(np.float16).tiny).all(), f"{name} is too small for f16"
    record = {
        "architecture": "resnet18_slim",
        "source": "distilled from torchvision's resnet18-f37072fd by weights/distill.py, rounded to f16",
        "file_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "hash": weights_hash({k: v.astype(np.float32) for k, v in half.items()}),
    }
    out = pathlib.Path(__file__).parent / "resnet18_slim.safetensors"
    save_file(half, out, {"simplenet": json.dumps(record, separators=(",", ":"))})
    out.chmod(0o644)
    print(out.name, out.stat().st_size, "bytes", record)
    # safetensors hands arrays out as they lie in the file, so what is written here is what the program reads.
    assert weights_hash({k: v.astype(np.float32) for k, v in load_file(out).items()}) == record["hash"]


if __name__ == "__main__":
    main()
