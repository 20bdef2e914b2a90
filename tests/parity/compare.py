"""Runs PyTorch and `simplenet dump` on one image and prints one row a tensor with the relative error.

    python tests/parity/compare.py MODEL_OR_WEIGHTS IMAGE [--backbone NAME] [--weights FILE] [--fast] [--simplenet PATH]

MODEL_OR_WEIGHTS is a model file of this program, or backbone weights: safetensors, .pth or synthetic:SEED. A model that does
not carry its backbone takes it from --weights, unless its own metadata names embedded or synthetic weights. PyTorch computes in f64.
Exit code 0 if every error is within 1e-5 (1e-4 with --fast), 1 if not. Requirements: see generate.py.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

import model
import draws  # noqa: F401  puts weights/ on the path
import synthetic

DEFAULT = {"preprocess": {"fit": "crop", "resize": 256, "crop": 224}, "levels": [2, 3], "aggregation": {"mode": "mean", "patch": 3}}


def weights_of(source, architecture):
    """torchvision's state dict from a file, from synthetic:SEED, or the one inside the program."""
    if source == "embedded":
        path = pathlib.Path(__file__).parents[2] / "weights" / "resnet18_slim.safetensors"
        return {name: tensor.astype(np.float32) for name, tensor in load_file(path).items()}
    if source.startswith("synthetic:"):
        return synthetic.state_dict(architecture, int(source.removeprefix("synthetic:")))
    if source.endswith(".safetensors"):
        return load_file(source)
    state = torch.load(source, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state.get("model", state))
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def read_model(path):
    """The metadata and tensors of a model file; None where the file is something else."""
    if not path.endswith(".safetensors"):
        return None
    with safe_open(path, "numpy") as file:
        metadata = json.loads((file.metadata() or {}).get("simplenet", "null"))
        if not metadata or "head" not in metadata:
            return None
        return metadata, {name: file.get_tensor(name) for name in file.keys()}


def read_image(path, settings):
    image = Image.open(path).convert("RGB")
    size = settings["crop"]
    if settings["fit"] == "stretch":
        return np.array(image.resize((size, size), Image.BILINEAR))[None]
    return np.array(T.CenterCrop(size)(T.Resize(settings["resize"])(image)))[None]


def pytorch(arguments, found):
    """Every tensor of `dump`, by its name."""
    metadata, tensors = found or ({}, {})
    features = metadata["settings"]["features"] if found else DEFAULT
    architecture = metadata["backbone"]["architecture"] if found else arguments.backbone
    bundled = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    source = arguments.weights or (metadata["backbone"]["origin"] if found else arguments.source)
    if not bundled and source is None:
        sys.exit("this model does not carry its backbone; give its weights with --weights")
    net = model.backbone(architecture, bundled or weights_of(source, architecture))

    x = model.normalize(read_image(arguments.image, features["preprocess"]))
    levels = model.layers(net, x)
    chosen, patch = [levels[level - 1] for level in features["levels"]], features["aggregation"]["patch"]
    mean = features["aggregation"]["mode"] == "mean"
    aggregated = (model.aggregate_mean if mean else model.aggregate_patchcore)(chosen, patch)
    out = {"input": model.nhwc(x)} | {f"layer{l}": model.nhwc(y) for l, y in enumerate(levels, 1)} | {"features": model.nhwc(aggregated)}
    if found:
        shape = metadata["head"]
        head = model.Head(shape["channels"], shape["hidden"], shape["adaptor"], shape["adaptor_bias"])
        head.fill(lambda name, _: tensors[name]).eval()
        n, h, w, _ = out["features"].shape
        adapted = head.adapt(torch.from_numpy(out["features"]).reshape(n * h * w, -1))
        scores = -head.discriminate(adapted).reshape(n, h, w).numpy()
        size = [features["preprocess"]["crop"]] * 2
        out["adapted"] = adapted.reshape(n, h, w, -1).numpy()
        out["scores"], out["map"] = scores, model.anomaly_map(scores, size, metadata["settings"]["map_sigma"])
        out["image_score"] = scores.max((1, 2))
    return out


def simplenet(arguments, found):
    """What the program writes for the same image."""
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "dump.safetensors"
        command = [arguments.simplenet, "dump", "-q", "--ignore-exif", arguments.image, "--output", str(output)]
        if found:
            command += ["--model", arguments.source] + (["--weights", arguments.weights] if arguments.weights else [])
            command += ["--fast"] if arguments.fast else []
        else:
            command += ["--backbone", arguments.backbone, "--weights", arguments.source]
        subprocess.run(command, check=True)
        return load_file(output)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="MODEL_OR_WEIGHTS")
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--backbone", default="wide_resnet50_2", help="the weights' network (default: %(default)s)")
    parser.add_argument("--weights", help="the backbone's weights, for a model that does not carry them")
    parser.add_argument("--fast", action="store_true", help="compare the deployed path of a model")
    parser.add_argument("--simplenet", default="simplenet", help="the program (default: from PATH)")
    arguments = parser.parse_args()
    found = read_model(arguments.source)
    with torch.no_grad():
        reference = pytorch(arguments, found)
    out = simplenet(arguments, found)
    assert set(out) <= set(reference), f"dump wrote {set(out) - set(reference)}, of which this script knows nothing"

    bound, agree = 1e-4 if arguments.fast else 1e-5, True
    print(f"{'tensor':12} {'shape':20} {'norm':>11} {'error':>9}")
    for name, expected in reference.items():
        # The deployed path has no `adapted`, and levels that are not used are not computed.
        if name not in out:
            continue
        tensor = out[name]
        assert tensor.shape == expected.shape, f"{name}: {tensor.shape} against {expected.shape}"
        norm = np.linalg.norm(expected)
        error = np.linalg.norm(tensor.astype(np.float64) - expected) / norm
        agree &= bool(error <= bound)
        print(f"{name:12} {'×'.join(map(str, tensor.shape)):20} {norm:11.4e} {error:9.1e}{'' if error <= bound else '  differs'}")
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
