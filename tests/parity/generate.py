"""Writes the reference tensors of the parity suite: tests/parity/reference/*.safetensors.

    pip install torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 pillow==13.0.0 safetensors==0.8.0
    python tests/parity/generate.py DEMO [--data DIR] [--only NAME...]

DEMO is the folder that `simplenet demo DEMO` wrote. With --data, the folder with `weights/resnet18.safetensors` and
`data/grid_mini`, the samples of real weights on real photographs are written too. Everything is computed in f64 by the operators
of PyTorch and SciPy; inputs are drawn by draws.py, which the tests repeat, so that only results are stored.
"""
import argparse
import math
import pathlib

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

import model
from draws import SEED, deviations, normals, pixels, sample, values
from loop import SIGMA, epoch_batches, epoch_means, noise, train
from model import nhwc, picture
from official import official
from synthetic import ARCHITECTURES, state_dict

REFERENCE = pathlib.Path(__file__).parent / "reference"


def level_samples(prefix, levels):
    out = {}
    for level, x in enumerate(levels, 1):
        out |= sample(f"{prefix}layer{level}", nhwc(x))
    return out


# --- Backbones and aggregation --------------------------------------------------------------------------------------------------


def backbones(_):
    out = {}
    for architecture in ARCHITECTURES:
        net = model.backbone(architecture, state_dict(architecture, 0))
        for size in ((224, 224), (197, 260)):
            x = model.normalize(pixels(f"image {size[0]}x{size[1]}", (1, *size, 3)))
            out |= level_samples(f"{architecture}/{size[0]}x{size[1]}/", model.layers(net, x))
    return out


def aggregation(_):
    shapes = {1: (2, 9, 11, 40), 2: (2, 5, 6, 80), 3: (2, 3, 3, 200)}
    maps = {l: torch.from_numpy(values(f"level {l}", s, 0.4, 0.6)).double().permute(0, 3, 1, 2) for l, s in shapes.items()}
    out = {}
    for p in (1, 3, 5, 7):
        for subset in ((1,), (2,), (3,), (1, 2), (2, 3), (1, 2, 3)):
            levels, case = [maps[l] for l in subset], f"{p}/{'+'.join(map(str, subset))}"
            out |= sample(f"mean/{case}", nhwc(model.aggregate_mean(levels, p)))
            out |= sample(f"patchcore/{case}", nhwc(model.aggregate_patchcore(levels, p)))
    return out


# --- The head -------------------------------------------------------------------------------------------------------------------

ADAPTORS = {"linear": ("linear", False), "linear+bias": ("linear", True), "mlp": ("mlp", True), "none": ("none", False)}


def start(case):
    """The initial values of a head; running statistics as PyTorch starts them unless the case draws its own."""

    def value_of(name, shape):
        if name.endswith("gamma"):
            return values(f"{case} {name}", shape, 1.0, 0.3)
        if name.endswith("running_var"):
            return values(f"{case} {name}", shape, 1.0, 0.5)
        return values(f"{case} {name}", shape, 0.0, math.sqrt(3.0 / shape[-1]))

    return value_of


def new_head(case, channels, hidden, adaptor):
    return model.Head(channels, hidden, *ADAPTORS[adaptor]).fill(start(case))


def mixtures(_):
    """The noise of one training step: of one component, and of several that every row draws from."""
    rows, channels, step, out = 50, 7, 3, {}
    for components in (1, 3, 8):
        sigma = deviations(SEED, step, rows, SIGMA, components)
        out[f"{components}"] = sigma[:, None] * normals(SEED, step, rows * channels).reshape(rows, channels)
    return out


def heads(_):
    """One training forward and backward of every kind, and what the head says in evaluation afterwards."""
    out = {}
    for rows, channels, hidden in ((15, 13, 17), (98, 37, 65)):
        for adaptor in ADAPTORS:
            for loss_kind in ("truncated-l1", "cross-entropy"):
                case = f"{rows}x{channels}x{hidden}/{adaptor}/{loss_kind}"
                head = new_head(case, channels, hidden, adaptor)
                features = torch.from_numpy(values(f"{case} features", (rows, channels), 0.4, 0.5)).double()
                loss, scores = head.loss(features, noise(3, rows, channels), loss_kind)
                loss.backward()
                out |= {f"{case}/loss": loss.detach(), f"{case}/train_scores": scores.detach()}
                for name, tensor in head.tensors().items():
                    if "running" in name:
                        out[f"{case}/{name}"] = tensor
                    else:
                        out[f"{case}/grad/{name}"] = tensor.grad
                head.eval()
                with torch.no_grad():
                    out[f"{case}/scores"] = head.discriminate(head.adapt(features))
    return {name: np.asarray(tensor, np.float64).reshape(tensor.shape or (1,)) for name, tensor in out.items()}


def adam(_):
    """Twenty steps of Adam and AdamW on given gradients, of which one element is always zero."""
    rules = {
        "adam": (2e-4, 1e-5, False),
        "adamw": (1e-4, 1e-2, True),
        # Rates at which the twenty steps, not the start, make up the result.
        "adam_fast": (0.05, 0.1, False),
        "adamw_fast": (0.05, 0.1, True),
    }
    shapes, out = {"5x7": (5, 7), "33": (33,)}, {}
    for case, (rate, decay, decoupled) in rules.items():
        start = {name: torch.from_numpy(values(f"{case} {name}", shape, 0.0, 0.5)).double() for name, shape in shapes.items()}
        parameters = {name: torch.nn.Parameter(value) for name, value in start.items()}
        kind = torch.optim.AdamW if decoupled else torch.optim.Adam
        steps = kind(parameters.values(), lr=rate, weight_decay=decay)
        for t in range(1, 21):
            for name, p in parameters.items():
                gradient = values(f"{case} {name} gradient {t}", shapes[name], 0.1, 1.0)
                gradient.reshape(-1)[0] = 0.0
                p.grad = torch.from_numpy(gradient).double()
            steps.step()
        out |= {f"{case}/{name}": p.detach().numpy() for name, p in parameters.items()}
    return out


# --- Training -------------------------------------------------------------------------------------------------------------------


def training(_):
    images, rows, channels, hidden, batch = 10, 21, 24, 40, 4
    cases = [
        ("paper", "linear", "truncated-l1", (0.5, -0.5), 0.4),
        ("official", "linear+bias", "truncated-l1", (0.5, -0.5), 0.4),
        ("paper", "mlp", "cross-entropy", (0.5, -0.5), 0.4),
        ("paper", "none", "truncated-l1", (0.8, -0.3), 0.4),
        # Around zero: a unit that no row takes to the other side of the LeakyReLU is linear, and its bias idle.
        ("official", "mlp", "truncated-l1", (0.2, -0.7), 0.0),
        ("official", "linear+bias", "cross-entropy", (0.3, -0.1), 0.4),
    ]
    out = {}
    for rules, adaptor, loss_kind, margins, centre in cases:
        case = f"{rules}/{adaptor}/{loss_kind}"
        features = torch.from_numpy(values(f"{case} features", (images, rows, channels), centre, 0.5)).double()

        batches = [[(batch * step + i) % images for i in range(batch)] for step in range(20)]
        head = new_head(case, channels, hidden, adaptor)
        out[f"{case}/steps/losses"] = train(head, rules, features, batches, loss_kind, margins)[:, 0]
        out |= {f"{case}/steps/{name}": tensor.detach().numpy() for name, tensor in head.tensors().items()}

        # Three epochs, each in an order of its own, the last batch of each smaller.
        head, batches = new_head(case, channels, hidden, adaptor), epoch_batches(3, images, batch)
        means = epoch_means(3, batches, train(head, rules, features, batches, loss_kind, margins))
        out |= {f"{case}/epochs/losses": means[:, 0], f"{case}/epochs/decided": means[:, 1:]}
        out |= {f"{case}/epochs/{name}": tensor.detach().numpy() for name, tensor in head.tensors().items()}
    return {name: np.ascontiguousarray(tensor) for name, tensor in out.items()}


# --- Maps -----------------------------------------------------------------------------------------------------------------------


def maps(_):
    out = {}
    # A height of 9 is less than the Gaussian's radius, so the border is mirrored more than once.
    cases = [
        ((28, 28), (224, 224), 4.0),
        ((36, 36), (288, 288), 4.0),
        ((7, 9), (50, 61), 4.0),
        ((1, 5), (9, 40), 4.0),
        ((3, 3), (3, 3), 1.5),
        ((5, 4), (17, 30), 0.0),
    ]
    for grid, size, sigma in cases:
        case = f"{grid[0]}x{grid[1]}/{size[0]}x{size[1]}/{sigma}"
        full = model.anomaly_map(values(f"scores {case}", (2, *grid), 0.0, 1.0), size, sigma)
        step = 1 if size[0] * size[1] < 4000 else 7
        out |= {
            f"{case}/map": np.ascontiguousarray(full[:, ::step, ::step]).astype(np.float32),
            f"{case}/row_norms": np.sqrt((full**2).sum(2)),
            f"{case}/column_norms": np.sqrt((full**2).sum(1)),
        }
    return out


# --- End to end -----------------------------------------------------------------------------------------------------------------


def inference(prefix, head, features, size):
    """What `dump` gives behind the features, in f64."""
    n, _, h, w = features.shape
    rows = features.permute(0, 2, 3, 1).reshape(n * h * w, -1)
    with torch.no_grad():
        adapted = head.eval().adapt(rows)
        scores = -head.discriminate(adapted).reshape(n, h, w).numpy()
    full = model.anomaly_map(scores, size, 4.0)
    return sample(f"{prefix}adapted", adapted.reshape(n, h, w, -1).numpy()) | {
        f"{prefix}scores": scores.astype(np.float32),
        f"{prefix}map": np.ascontiguousarray(full[:, ::4, ::4]).astype(np.float32),
        f"{prefix}image_score": scores.max((1, 2)).astype(np.float32),
    }


def end_to_end(arguments):
    """wide_resnet50_2 on a picture of the demo set, with a head whose running statistics are near those of the picture."""
    net = model.backbone("wide_resnet50_2", state_dict("wide_resnet50_2", 0))
    x = model.normalize(picture(arguments.demo / "fabric/test/cut/000.png"))
    levels = model.layers(net, x)
    features = model.aggregate_mean(levels[1:], 3)
    head = new_head("end to end", 1536, 1024, "linear")
    rows = nhwc(features).reshape(-1, 1536)
    with torch.no_grad():
        hidden = head.discriminator["hidden"](head.adapt(torch.from_numpy(rows)))
        norm = head.discriminator["batch_norm"]
        for buffer, value in ((norm.running_mean, hidden.mean(0)), (norm.running_var, hidden.var(0))):
            buffer.copy_(value.float())
    out = {"input": np.ascontiguousarray(nhwc(x)[:, ::5, ::5]).astype(np.float32)}
    out |= level_samples("", levels) | sample("features", nhwc(features))
    out |= {f"head/{name}": t.numpy().astype(np.float32) for name, t in head.tensors().items() if "running" in name}
    return out | inference("", head, features, (224, 224))


def trained(arguments):
    """A head trained on four pictures until it tells noise from features, stored in f16 with the scores it gives a defect."""
    net = model.backbone("resnet18", state_dict("resnet18", 0))

    def features(name):
        with torch.no_grad():
            return model.aggregate_mean(model.layers(net, model.normalize(picture(arguments.demo / name)))[1:], 3)

    good = torch.cat([features(f"fabric/train/good/{i:03}.png") for i in range(4)])
    good = good.permute(0, 2, 3, 1).reshape(4, -1, 384)
    head = new_head("trained", 384, 64, "linear")
    losses = train(head, "paper", good, [[0, 1, 2, 3]] * 300, "truncated-l1")[:, 0]
    print(f"trained head: loss {losses[0]:.3f} to {losses[-1]:.3f}")
    # Rounded first, so that the stored head is exactly the one that gave the scores.
    rounded = {name: t.detach().half() if name.endswith("weight") else t.detach().float() for name, t in head.tensors().items()}
    head.fill(lambda name, _: rounded[name].double())
    out = {f"head/{name}": tensor.numpy() for name, tensor in rounded.items()}
    return out | inference("", head, features("fabric/test/cut/000.png"), (224, 224))


class AuthorsProjection(torch.nn.Module):
    """The structure of the authors' `Projection` with one layer."""

    def __init__(self, planes):
        super().__init__()
        self.layers = torch.nn.Sequential()
        self.layers.add_module("0fc", torch.nn.Linear(planes, planes))

    def forward(self, x):
        return self.layers(x)


class AuthorsDiscriminator(torch.nn.Module):
    """The structure of the authors' `Discriminator` with two layers."""

    def __init__(self, planes, hidden):
        super().__init__()
        block = torch.nn.Sequential(torch.nn.Linear(planes, hidden), torch.nn.BatchNorm1d(hidden), torch.nn.LeakyReLU(0.2))
        self.body = torch.nn.Sequential()
        self.body.add_module("block1", block)
        self.tail = torch.nn.Linear(hidden, 1, bias=False)

    def forward(self, x):
        return self.tail(self.body(x))


def imported(arguments):
    """A checkpoint as the authors' code saves it, and its scores of a picture, on resnet18_slim to keep it small."""
    net = model.backbone("resnet18_slim", state_dict("resnet18_slim", 0))
    x = model.normalize(picture(arguments.demo / "fabric/test/cut/000.png"))
    features = model.aggregate_mean(model.layers(net, x)[1:], 3)
    n, channels, h, w = features.shape
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
    modules = {"discriminator": AuthorsDiscriminator(channels, 24), "pre_projection": AuthorsProjection(channels)}
    for kind, module in modules.items():
        for name, parameter in module.named_parameters():
            centre = 1.0 if name == "body.block1.1.weight" else 0.0
            spread = math.sqrt(3.0 / parameter.shape[-1]) if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.from_numpy(values(f"imported {kind}.{name}", tuple(parameter.shape), centre, spread)))
    # One pass in training moves the running statistics towards those of the picture.
    discriminator, projection = modules["discriminator"], modules["pre_projection"]
    discriminator.body.block1[1].momentum = 0.9
    discriminator(projection(rows.float()))
    torch.save({kind: module.state_dict() for kind, module in modules.items()}, REFERENCE / "authors_ckpt.pth")
    scores = -discriminator.double().eval()(projection.double()(rows)).reshape(n, h, w).numpy()
    full = model.anomaly_map(scores, (224, 224), 4.0)
    return {
        "scores": scores.astype(np.float32),
        "map": np.ascontiguousarray(full[:, ::4, ::4]).astype(np.float32),
        "image_score": scores.max((1, 2)).astype(np.float32),
    }


def real_weights(arguments):
    """resnet18 as torchvision trained it, on three photographs of grid_mini."""
    state = load_file(arguments.data / "weights/resnet18.safetensors")
    net = model.backbone("resnet18", state)
    out = {}
    for name in ("good/000", "bent/000", "broken/000"):
        x = model.normalize(picture(arguments.data / "data/grid_mini/test" / f"{name}.png"))
        levels = model.layers(net, x)
        out |= level_samples(f"{name}/", levels) | sample(f"{name}/features", nhwc(model.aggregate_mean(levels[1:], 3)))
    return out


PARTS = [
    backbones, aggregation, mixtures, heads, adam, training, official, maps, end_to_end, trained, imported, real_weights,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--only", nargs="+", default=[part.__name__ for part in PARTS])
    arguments = parser.parse_args()
    # One thread: sums in an order of their own, so the same bytes every time.
    torch.set_num_threads(1)
    REFERENCE.mkdir(exist_ok=True)
    for part in PARTS:
        name = part.__name__
        if name not in arguments.only or (part is real_weights and arguments.data is None):
            continue
        with torch.set_grad_enabled(part in (heads, training, official, trained)):
            tensors = part(arguments)
        path = REFERENCE / f"{name}.safetensors"
        save_file({key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}, path)
        print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
