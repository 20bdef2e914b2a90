"""The networks that the baselines run: a residual network to layer3, neighbourhood means, the head, the anomaly map.

Plain is the computation as the paper states it, folded the same with everything constant multiplied together
beforehand, which any engine may do. Both take u8 images `[N, H, W, 3]`. Layer names are torchvision's.
"""
import copy
import pathlib
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "weights"))
import synthetic  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HIDDEN = 1024
SIGMA = 4.0
SLOPE = 0.2


class Basic(nn.Module):
    def __init__(self, inputs, inner, outputs, stride, shortcut):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = shortcut

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + residual)


class Bottleneck(nn.Module):
    def __init__(self, inputs, inner, outputs, stride, shortcut):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = shortcut

    def forward(self, x):
        residual = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(x)) + residual)


class ResNet(nn.Module):
    """Stem to layer3; with `whole`, layer4 and the classifier too, as the authors' code runs them."""

    def __init__(self, architecture, whole=False):
        super().__init__()
        blocks, bottleneck, stem, width = synthetic.ARCHITECTURES[architecture]
        block = Bottleneck if bottleneck else Basic
        self.conv1, self.bn1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False), nn.BatchNorm2d(stem)
        inputs = stem
        self.channels = []
        for level, count in enumerate([*blocks, 3 if bottleneck or blocks[1] == 4 else 2] if whole else blocks):
            inner, outputs = width << level, (4 * stem if bottleneck else stem) << level
            layer = []
            for index in range(count):
                stride = 2 if index == 0 and level > 0 else 1
                shortcut = None
                if stride != 1 or inputs != outputs:
                    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
                layer.append(block(inputs, inner, outputs, stride, shortcut))
                inputs = outputs
            setattr(self, f"layer{level + 1}", nn.Sequential(*layer))
            self.channels.append(outputs)
        self.fc = nn.Linear(inputs, 1000) if whole else None

    def forward(self, x):
        """Normalised images to the outputs of layers 2 and 3."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        layer2 = self.layer2(self.layer1(x))
        layer3 = self.layer3(layer2)
        if self.fc is not None:
            self.fc(self.layer4(layer3).mean((2, 3)))
        return layer2, layer3


def backbone_state(architecture, weights, cache):
    """The tensors of `--weights`: `synthetic:SEED`, `embedded` (resnet18_slim's own), or a safetensors or `.pth` file."""
    from safetensors.torch import load_file, save_file

    if weights == "embedded":
        if architecture != "resnet18_slim":
            raise SystemExit(f"only resnet18_slim has embedded weights: give {architecture} a file or synthetic:SEED")
        return load_file(ROOT / "weights" / "resnet18_slim.safetensors")
    if not weights.startswith("synthetic:"):
        if weights.endswith(".safetensors"):
            return load_file(weights)
        return torch.load(weights, map_location="cpu", weights_only=True)
    seed = int(weights.split(":")[1])
    kept = cache / f"{architecture}-synthetic-{seed}.safetensors"
    if not kept.exists():  # drawing 25 million normals takes longer than many a measurement
        tensors = {name: torch.from_numpy(value) for name, value in synthetic.state_dict(architecture, seed).items()}
        part = kept.with_suffix(".part")
        save_file(tensors, part)
        part.rename(kept)
    return load_file(kept)


def backbone(architecture, state, whole=False):
    """A network in eval mode with the tensors of `state`; what layers 4 and fc lack there stays as initialised."""
    torch.manual_seed(0)
    net = ResNet(architecture, whole)
    missing, _ = net.load_state_dict(state, strict=False)
    lacking = [m for m in missing if not m.startswith(("layer4.", "fc.")) and not m.endswith("num_batches_tracked")]
    if lacking:
        raise SystemExit(f"the weights lack {len(lacking)} tensors of {architecture}, {lacking[0]} for one")
    return net.eval().requires_grad_(False)


def fold_batch_norms(net):
    """Every BatchNorm multiplied into the convolution before it, in f64; the same module, identities in their places."""
    net = net.double()
    for module in list(net.modules()):
        names = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)] if not isinstance(module, nn.Sequential) else [("0", "1")]
        for conv, bn in names:
            if isinstance(getattr(module, bn, None), nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, bn)))
                setattr(module, bn, nn.Identity())
    return net.float()


class Head(nn.Module):
    """Adaptor without bias, discriminator: the head of preset `paper`, on rows `[R, C]`."""

    def __init__(self, channels, hidden=HIDDEN):
        super().__init__()
        self.adaptor = nn.Linear(channels, channels, bias=False)
        self.hidden, self.norm, self.score = nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 1, bias=False)
        for layer in (self.adaptor, self.hidden, self.score):
            nn.init.xavier_normal_(layer.weight)

    def discriminate(self, adapted):
        return self.score(F.leaky_relu(self.norm(self.hidden(adapted)), SLOPE)).squeeze(1)


def trained_head(channels):
    """A head whose statistics and affines are not the identity, so that folding one wrongly shows; always the same."""
    torch.manual_seed(1)
    head = Head(channels)
    with torch.no_grad():
        for tensor, centre, spread in (
            (head.norm.weight, 1.0, 0.2),
            (head.norm.bias, 0.0, 0.2),
            (head.norm.running_mean, 0.0, 0.1),
            (head.norm.running_var, 0.5, 0.2),
        ):
            tensor.uniform_(centre - spread, centre + spread)
    return head.eval().requires_grad_(False)


class Normalize(nn.Module):
    """u8 `[N, H, W, 3]` to f32 `[N, 3, H, W]` in the memory order of NHWC."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1) * 255)

    def forward(self, images):
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std


def aggregate(levels):
    """3×3 means, layer3 resized to layer2's grid, side by side: `[N, C, H0, W0]`."""
    first, second = (F.avg_pool2d(level, 3, 1, 1) for level in levels)
    second = F.interpolate(second, size=first.shape[2:], mode="bilinear", align_corners=False)
    return torch.cat([first, second], 1)


class Plain(nn.Module):
    """Images to the scores on the network's grid `[N, 1, H0, W0]`, operation by operation. NCHW."""

    def __init__(self, net, head):
        super().__init__()
        self.normalize, self.net, self.head = Normalize(), net, head

    def forward(self, images):
        features = aggregate(self.net(self.normalize(images).contiguous()))
        n, channels, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        return -self.head.discriminate(self.head.adaptor(rows)).view(n, 1, height, width)


def smooth_on_the_host(scores, size):
    """`[N, 1, H0, W0]` scores to f32 maps `[N, H, W]`: resized where they are, blurred by SciPy."""
    import scipy.ndimage

    resized = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)[:, 0].cpu().numpy()
    return np.stack([scipy.ndimage.gaussian_filter(one, sigma=SIGMA) for one in resized])


def map_matrix(grid, size):
    """`[size, grid]` f64: bilinear resizing of one axis, then SciPy's Gaussian."""
    import scipy.ndimage

    columns = torch.eye(grid, dtype=torch.float64)[:, None, :]
    resized = F.interpolate(columns, size=size, mode="linear", align_corners=False)[:, 0].numpy()
    return torch.from_numpy(scipy.ndimage.gaussian_filter1d(resized, SIGMA, axis=1).T.copy())


class Folded(nn.Module):
    """Images to maps `[N, H, W]` and image scores `[N]`, f32: BatchNorm in the convolutions, the head one affine map before its
    LeakyReLU, which each level passes on its own grid before it is resized (`by_level`) or behind the concatenated features,
    as the network is written; resizing and Gaussian one product `A·s·Bᵀ`. `dtype` is that of everything between the images
    and the scores."""

    def __init__(self, net, head, size, channels_last=False, dtype=torch.float32, by_level=True):
        super().__init__()
        self.by_level = by_level
        net, head = fold_batch_norms(copy.deepcopy(net)), copy.deepcopy(head).double()
        order = torch.channels_last if channels_last else torch.contiguous_format
        self.normalize = Normalize()
        self.net, self.order, self.dtype = net.to(dtype=dtype, memory_format=order), order, dtype
        scale = head.norm.weight / torch.sqrt(head.norm.running_var + head.norm.eps)
        weight = (scale[:, None] * head.hidden.weight) @ head.adaptor.weight
        bias = scale * (head.hidden.bias - head.norm.running_mean) + head.norm.bias
        # layer3 is twice as wide as layer2 in every ResNet.
        hidden, inputs = weight.shape
        first = inputs // 3
        widths = [first, inputs - first] if by_level else [inputs]
        self.project = nn.ModuleList(nn.Conv2d(width, hidden, 1, bias=index == 0) for index, width in enumerate(widths))
        self.score = nn.Conv2d(weight.shape[0], 1, 1, bias=False)
        with torch.no_grad():
            for project, part in zip(self.project, weight.split(widths, 1)):
                project.weight.copy_(part[:, :, None, None])
            self.project[0].bias.copy_(bias)
            self.score.weight.copy_(-head.score.weight[:, :, None, None])
        for layer in (self.project, self.score):
            layer.to(dtype=dtype, memory_format=order).requires_grad_(False)
        grid = -(-size // 8)  # each of the three halvings rounds up
        self.register_buffer("rows", map_matrix(grid, size).float())
        self.register_buffer("columns", map_matrix(grid, size).float().T.contiguous())

    def forward(self, images):
        x = self.normalize(images).to(self.dtype)
        if self.order is torch.contiguous_format:
            x = x.contiguous()
        if self.by_level:
            first, second = (project(F.avg_pool2d(level, 3, 1, 1)) for project, level in zip(self.project, self.net(x)))
            hidden = first + F.interpolate(second, size=first.shape[2:], mode="bilinear", align_corners=False)
        else:
            hidden = self.project[0](aggregate(self.net(x)))
        scores = self.score(F.leaky_relu(hidden, SLOPE)).float()[:, 0]
        return self.rows @ scores @ self.columns, scores.amax((1, 2))


class Authors(nn.Module):
    """The authors' evaluation: the whole classifier, unfolded patches, pooling to 1536 twice, features upsampled to the image's
    size and copied to the host together with the scores; the Gaussian is SciPy's. Images to numpy maps and scores.

    What is computed is theirs (github.com/DonaldRR/SimpleNet: common.py, simplenet.py), with fewer copies in between."""

    def __init__(self, net, head, length=1536):
        super().__init__()
        self.normalize, self.net, self.head, self.length = Normalize(), net, head, length

    def grid_scores(self, images):
        """Scores `[N, 1, H0, W0]` and features `[N, length, H0, W0]`."""
        levels = self.net(self.normalize(images).contiguous())
        n, _, height, width = levels[0].shape
        vectors = []
        for x in levels:
            c, h, w = x.shape[1:]
            unfolded = F.unfold(x, 3, padding=1).reshape(n, c * 9, h, w)
            if (h, w) != (height, width):
                unfolded = F.interpolate(unfolded, size=(height, width), mode="bilinear", align_corners=False)
            rows = unfolded.permute(0, 2, 3, 1).reshape(n * height * width, 1, c * 9)
            vectors.append(F.adaptive_avg_pool1d(rows, self.length).squeeze(1))
        stacked = torch.stack(vectors, 1)
        features = F.adaptive_avg_pool1d(stacked.reshape(len(stacked), 1, -1), self.length).squeeze(1)
        scores = -self.head.discriminate(self.head.adaptor(features))
        return scores.view(n, 1, height, width), features.view(n, height, width, -1).permute(0, 3, 1, 2)

    def forward(self, images):
        size = images.shape[1:3]
        scores, features = self.grid_scores(images)
        maps = smooth_on_the_host(scores, size)
        # As many images at once as 32-bit offsets reach, as theirs.
        for part in features.split(max(1, (2**31 - 1) // (features.shape[1] * size[0] * size[1]))):
            F.interpolate(part, size=size, mode="bilinear", align_corners=False).cpu().numpy()
        return maps, scores.amax((1, 2, 3)).cpu().numpy()
