"""The preset `official` from image files to a trained head: torchvision's network, the authors' aggregation, `torch.nn`, autograd,
AdamW and Adam, once in f64 and once in f32. A part of generate.py.

The geometry is the preset's at about a third of its size: 104 of 119 pixels, as 288 of 329. A batch of eight then has
8 * 13 * 13 = 1352 rows, with which the program multiplies the weights of adaptor and hidden layer before it multiplies features;
the last batch of an epoch has three images, with which it does not.

The images are, of six sets tried, the one whose scores stay farthest from their margins. With the two sets where a score came
within 4e-5 and 1e-6, an f32 head left the f64 one on the same features by up to 4e-3 of a step's loss, with the others by at most
5e-5: a row on the other side of its margin changes a gradient by its whole share, and Adam makes of that another direction.
"""
import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

import model
from draws import SEED, initial, sample, sketch
from loop import epoch_batches, epoch_means, train
from synthetic import state_dict

ARCHITECTURE, FIRST, IMAGES, RESIZE, CROP = "resnet18_slim", 3, 11, 119, 104
CHANNELS, HIDDEN, BATCH, EPOCHS = 1536, 1024, 8, 3
CLEARANCE = 3e-4  # of scores from margins; a score errs by about 4e-6 in f32


def rounded_folding(module):
    """Fuses every BatchNorm of an f64 network into its convolution, and rounds the result to f32: the weights that the program
    gives a device of any type. Without the rounding f64 would differ by it, 6e-8."""
    children = list(module.named_children())
    for (name, child), (norm_name, norm) in zip(children, children[1:]):
        if isinstance(norm, torch.nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, norm).float().double())
            setattr(module, norm_name, torch.nn.Identity())
    for _, child in children:
        rounded_folding(child)
    return module


def features(net, images):
    """`[images, rows, C]` in the network's type, and as a map `[images, H, W, C]`."""
    x = model.normalize(images).to(next(net.parameters()).dtype)
    with torch.no_grad():
        maps = model.aggregate_patchcore(model.layers(net, x)[1:], 3, CHANNELS)
    return maps.permute(0, 2, 3, 1).reshape(IMAGES, -1, CHANNELS), model.nhwc(maps)


def trained(rows):
    """The epochs' means, and the head's parameters before and tensors after."""
    head = model.Head(CHANNELS, HIDDEN, "linear", True)
    shapes = {name: tuple(tensor.shape) for name, tensor in head.tensors().items()}
    start = initial(SEED, shapes)
    head.fill(lambda name, _: start[name]).to(rows.dtype)
    batches = epoch_batches(EPOCHS, IMAGES, BATCH)
    steps = train(head, "official", rows, batches, "truncated-l1")
    assert steps[:, 3].min() > CLEARANCE, f"a score comes as near as {steps[:, 3].min()} to its margin; choose other images"
    return epoch_means(EPOCHS, batches, steps), start, {name: tensor.detach().double().numpy() for name, tensor in head.tensors().items()}


def official(arguments):
    folder = arguments.demo / "fabric/train/good"
    images = np.concatenate([model.picture(folder / f"{i:03}.png", RESIZE, CROP) for i in range(FIRST, FIRST + IMAGES)])
    weights = state_dict(ARCHITECTURE, 0)
    rows, maps = features(rounded_folding(model.backbone(ARCHITECTURE, weights)), images)
    # The program keeps features in f32.
    means, start, final = trained(rows.float().double())
    out = sample("features", maps) | {"losses": means[:, 0], "decided": means[:, 1:]}
    out |= {f"final/{name}": sketch(name, tensor) for name, tensor in final.items()}

    # How far PyTorch's own f32 is from its f64: every tensor's error, relative to the tensor and to the way it went.
    rows, _ = features(model.backbone(ARCHITECTURE, weights).float(), images)
    means, _, single = trained(rows)
    out |= {"f32/losses": means[:, 0], "f32/decided": means[:, 1:]}
    norm = np.linalg.norm
    for name, tensor in final.items():
        error = norm(single[name] - tensor)
        out[f"f32/{name}"] = np.array([error / norm(tensor), error / norm(tensor - start[name])])
        print(f"PyTorch's f32, {name}: {out[f'f32/{name}']}")
    return out
