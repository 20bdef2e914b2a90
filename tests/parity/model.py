"""SimpleNet out of PyTorch's and SciPy's own operators: what the program is compared with. NCHW, as PyTorch has it."""
import numpy as np
import scipy.ndimage
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
import torchvision.transforms as T
from PIL import Image
from torchvision.models.resnet import BasicBlock

MEAN, STD = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


class Slim(nn.Module):
    """resnet18_slim: torchvision's blocks at half of resnet18's width, stem to layer3."""

    def __init__(self, width=32):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(width, width), BasicBlock(width, width))
        for level, inputs in ((2, width), (3, 2 * width)):
            shortcut = nn.Sequential(nn.Conv2d(inputs, 2 * inputs, 1, 2, bias=False), nn.BatchNorm2d(2 * inputs))
            blocks = nn.Sequential(BasicBlock(inputs, 2 * inputs, 2, shortcut), BasicBlock(2 * inputs, 2 * inputs))
            setattr(self, f"layer{level}", blocks)


def backbone(architecture, state):
    """A torchvision module in eval mode and f64 with the tensors of `state` (stem to layer3); the rest is removed."""
    net = Slim() if architecture == "resnet18_slim" else getattr(torchvision.models, architecture)(weights=None)
    missing, _ = net.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()}, strict=False)
    wanted = [m for m in missing if not m.startswith(("layer4.", "fc.")) and not m.endswith("num_batches_tracked")]
    assert not wanted, f"the weights lack {wanted[:3]}"
    net.layer4 = net.avgpool = net.fc = None
    return net.double().eval()


def picture(path, resize=256, crop=224):
    """A file as the paper's code reads it, u8 `[1, crop, crop, 3]`."""
    image = T.CenterCrop(crop)(T.Resize(resize)(Image.open(path).convert("RGB")))
    return np.array(image)[None]


def nhwc(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


def normalize(images):
    """u8 `[N, H, W, 3]` to f64 `[N, 3, H, W]`."""
    return (torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2).double() / 255 - MEAN) / STD


def layers(net, x):
    """The outputs of layers 1 to 3."""
    out = [net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))]
    out.append(net.layer2(out[-1]))
    out.append(net.layer3(out[-1]))
    return out


def aggregate_mean(levels, p, count_include_pad=True):
    """The paper: neighbourhood means, resized to the first level's grid, side by side."""
    pooled = [F.avg_pool2d(x, p, stride=1, padding=p // 2, count_include_pad=count_include_pad) for x in levels]
    size = levels[0].shape[2:]
    return torch.cat([F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in pooled], 1)


def aggregate_patchcore(levels, p, length=1536):
    """The authors' code: unfold, resize the unfolded tensor, pool each vector, stack, pool again."""
    n, _, height, width = levels[0].shape
    vectors = []
    for x in levels:
        c, h, w = x.shape[1:]
        unfolded = nn.Unfold(kernel_size=p, stride=1, padding=p // 2)(x).reshape(n, c * p * p, h, w)
        resized = F.interpolate(unfolded, size=(height, width), mode="bilinear", align_corners=False)
        rows = resized.permute(0, 2, 3, 1).reshape(n * height * width, 1, c * p * p)
        vectors.append(F.adaptive_avg_pool1d(rows, length).squeeze(1))
    stacked = torch.stack(vectors, 1)
    features = F.adaptive_avg_pool1d(stacked.reshape(len(stacked), 1, -1), length).squeeze(1)
    return features.reshape(n, height, width, length).permute(0, 3, 1, 2)


class Head(nn.Module):
    """Adaptor and discriminator, with the parameter names of the program's model files."""

    def __init__(self, channels, hidden, adaptor="linear", adaptor_bias=False):
        super().__init__()
        self.kind = adaptor
        self.adaptor = None if adaptor == "none" else nn.Linear(channels, channels, bias=adaptor_bias)
        self.discriminator = nn.ModuleDict(
            {
                "hidden": nn.Linear(channels, hidden),
                "batch_norm": nn.BatchNorm1d(hidden),
                "score": nn.Linear(hidden, 1, bias=False),
            }
        )
        self.double()

    def tensors(self):
        """Every tensor under the name it has in a model file, parameters before running statistics."""
        renamed = lambda name: name.replace("norm.weight", "norm.gamma").replace("norm.bias", "norm.beta")  # noqa: E731
        found = {renamed(name): value for name, value in self.named_parameters()}
        norm = self.discriminator["batch_norm"]
        found["discriminator.batch_norm.running_mean"] = norm.running_mean
        found["discriminator.batch_norm.running_var"] = norm.running_var
        return found

    def fill(self, value_of):
        """Sets every tensor to `value_of(name, shape)`."""
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(torch.as_tensor(value_of(name, tuple(tensor.shape))))
        return self

    def adapt(self, features):
        if self.kind == "none":
            return features
        adapted = self.adaptor(features)
        return F.leaky_relu(adapted, 0.2) if self.kind == "mlp" else adapted

    def discriminate(self, adapted):
        d = self.discriminator
        return d["score"](F.leaky_relu(d["batch_norm"](d["hidden"](adapted)), 0.2)).squeeze(1)

    def loss(self, features, noise, kind, margins=(0.5, -0.5)):
        """The training forward over `[q ; q + noise]` and its loss; the scores D come with it. `margins` are th+ and th-."""
        q = self.adapt(features)
        scores = self.discriminate(torch.cat([q, q + noise]))
        good, bad = scores.chunk(2)
        if kind == "cross-entropy":
            labels = torch.cat([torch.ones_like(good), torch.zeros_like(bad)])
            return F.binary_cross_entropy_with_logits(scores, labels), scores
        positive, negative = margins
        return torch.clamp(positive - good, min=0).mean() + torch.clamp(bad - negative, min=0).mean(), scores


def optimizer(head, adaptor_rule, discriminator_rule):
    """One torch optimiser for each half; a rule is (learning rate, weight decay, whether it is AdamW)."""
    halves = []
    for module, (rate, decay, decoupled) in ((head.adaptor, adaptor_rule), (head.discriminator, discriminator_rule)):
        if module is not None:
            kind = torch.optim.AdamW if decoupled else torch.optim.Adam
            halves.append(kind(module.parameters(), lr=rate, weight_decay=decay))
    return halves


def anomaly_map(scores, size, sigma):
    """`[N, H0, W0]` scores to `[N, H, W]` maps."""
    scores = torch.as_tensor(scores, dtype=torch.float64)[:, None]
    resized = F.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)[:, 0].numpy()
    return np.stack([scipy.ndimage.gaussian_filter(m, sigma=sigma) if sigma > 0 else m for m in resized])
