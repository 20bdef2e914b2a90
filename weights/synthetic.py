"""NumPy twin of src/backbone/weights/synthetic.rs: the weights of `--weights synthetic:SEED`, number for number.

    python weights/synthetic.py wide_resnet50_2 7 OUT.safetensors     # writes them in torchvision's names
    python weights/synthetic.py --measure PHOTO...                    # activations and features of every network

As a module: `state_dict(architecture, seed)` gives a dict of float32 arrays, `network(architecture, seed)` a torch module.
Needs numpy; safetensors to write; torch, torchvision and pillow for `network` and `--measure`.
"""
import sys

import numpy as np

STREAM = 3  # Stream::SyntheticWeights
MASK = np.uint64(0xFFFFFFFF)


def philox4x32_10(counter, key):
    """The ten-round Philox bijection over uint64 arrays that hold 32-bit words; counter is four arrays, key two ints."""
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), p1 & MASK, (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def fnv1a(name):
    """32-bit FNV-1a of the tensor's name: the `step` word of the counter."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def uniforms(seed, name, count):
    """`count` numbers in (0, 1), float64: draw x gives (x + 1/2) / 2^32. Element e is word e % 4 of block e // 4."""
    block = np.arange((count + 3) // 4, dtype=np.uint64)
    step = np.full_like(block, fnv1a(name))
    words = philox4x32_10((block & MASK, block >> np.uint64(32), step, np.full_like(block, STREAM)), (seed & 0xFFFFFFFF, seed >> 32))
    return (np.stack(words, 1).astype(np.float64) + 0.5) / 2.0**32  # [blocks, 4]


def normals(seed, name, count):
    """`count` standard normals, float64, by Box-Muller: (cos, sin) of words 0 and 1, then of words 2 and 3."""
    u = uniforms(seed, name, count)
    radius, angle = np.sqrt(-2.0 * np.log(u[:, 0::2])), 2.0 * np.pi * u[:, 1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(-1)[:count]


def tensor(seed, name, shape, bottleneck):
    """One tensor, float32: He-normal over the fan-in for a convolution, uniform around the identity for a normalisation."""
    count = int(np.prod(shape))
    if len(shape) == 4:
        return (normals(seed, name, count) * np.sqrt(2.0 / (count // shape[0]))).astype(np.float32).reshape(shape)
    spread = 2.0 * uniforms(seed, name, count).reshape(-1)[:count] - 1.0  # in (-1, 1)
    module, kind = name.rsplit(".", 1)
    if kind == "weight":
        return (centre(module, bottleneck) * (1.0 + 0.2 * spread)).astype(np.float32)
    if kind == "running_var":
        return (1.0 + 0.2 * spread).astype(np.float32)
    return (0.01 * spread).astype(np.float32)


def centre(module, bottleneck):
    """The value around which the scale of this batch normalisation is drawn."""
    if module == "bn1":
        return 0.11
    return 0.2 if module.endswith(".bn3" if bottleneck else ".bn2") else 1.0


#                   blocks of layers 1-3, bottleneck, stem width, width of layer 1 inside its branches
ARCHITECTURES = {
    "resnet18_slim": ([2, 2, 2], False, 32, 32),
    "resnet18": ([2, 2, 2], False, 64, 64),
    "resnet34": ([3, 4, 6], False, 64, 64),
    "resnet50": ([3, 4, 6], True, 64, 64),
    "resnet101": ([3, 4, 23], True, 64, 64),
    "wide_resnet50_2": ([3, 4, 6], True, 64, 128),
    "wide_resnet101_2": ([3, 4, 23], True, 64, 128),
}


def shapes(architecture):
    """Name to shape of every tensor from the stem to layer3, in torchvision's order."""
    blocks, bottleneck, stem, width = ARCHITECTURES[architecture]
    found = {}

    def conv_bn(conv, bn, shape):
        found[conv + ".weight"] = shape
        for kind in ("weight", "bias", "running_mean", "running_var"):
            found[f"{bn}.{kind}"] = (shape[0],)

    conv_bn("conv1", "bn1", (stem, 3, 7, 7))
    inputs = stem
    for level, count in enumerate(blocks):
        inner, outputs = width << level, (4 * stem if bottleneck else stem) << level
        for index in range(count):
            b = f"layer{level + 1}.{index}."
            if bottleneck:
                convs = [(inner, inputs, 1, 1), (inner, inner, 3, 3), (outputs, inner, 1, 1)]
            else:
                convs = [(inner, inputs, 3, 3), (outputs, inner, 3, 3)]
            for number, shape in enumerate(convs, 1):
                conv_bn(f"{b}conv{number}", f"{b}bn{number}", shape)
            if index == 0 and (level > 0 or inputs != outputs):
                conv_bn(b + "downsample.0", b + "downsample.1", (outputs, inputs, 1, 1))
            inputs = outputs
    return found


def state_dict(architecture, seed):
    """The synthetic weights of `architecture`, stem to layer3: name to float32 array."""
    bottleneck = ARCHITECTURES[architecture][1]
    return {name: tensor(seed, name, shape, bottleneck) for name, shape in shapes(architecture).items()}


def network(architecture, seed):
    """A torch module of `architecture` with the synthetic weights, in eval mode; layer4 and fc, where built, are random."""
    import torch, torchvision

    if architecture == "resnet18_slim":
        from distill import Slim

        net = Slim(32)
    else:
        net = getattr(torchvision.models, architecture)(weights=None)
    state = {name: torch.from_numpy(value) for name, value in state_dict(architecture, seed).items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(m.startswith(("layer4.", "fc.")) or "num_batches" in m for m in missing)
    return net.eval()


def measure(images, seeds=(0, 1, 2)):
    """Prints the largest |activation| and the features' standard deviations, over `images` and over white noise."""
    import torch
    from PIL import Image

    pixels = [np.asarray(Image.open(path).convert("RGB").resize((224, 224)), np.float32) / 255 for path in images]
    pixels.append(np.random.default_rng(0).random((224, 224, 3), np.float32))
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    inputs = [torch.from_numpy(((p - mean) / std).transpose(2, 0, 1).copy()) for p in pixels]
    batches = {"photographs": torch.stack(inputs[:-1]) if images else None, "white noise": inputs[-1][None]}
    for architecture in ARCHITECTURES:
        for seed in seeds:
            net, largest = network(architecture, seed), [0.0]
            for module in net.modules():
                module.register_forward_hook(lambda m, i, o: largest.append(o.abs().max().item()))
            for kind, x in batches.items():
                if x is None:
                    continue
                largest[:] = [0.0]
                with torch.no_grad():
                    layer2 = net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x))))))
                    layer3 = net.layer3(layer2)
                print(f"{architecture:17} seed {seed} {kind:12} largest {max(largest):5.2f}", end=" ")
                print(f"std layer2 {layer2.std():.3f} layer3 {layer3.std():.3f}", flush=True)


def main():
    if sys.argv[1:2] == ["--measure"]:
        return measure(sys.argv[2:])
    from safetensors.numpy import save_file

    architecture, seed, out = sys.argv[1:]
    save_file(state_dict(architecture, int(seed)), out)


if __name__ == "__main__":
    main()
