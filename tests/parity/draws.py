"""Numbers that Rust draws alike (tests/parity/draws.rs), so that inputs need not be stored.

Philox4x32-10 comes from weights/synthetic.py; a tensor is drawn under its name. Values are built from integers by operations
that IEEE 754 rounds exactly, so both languages get the same bits.
"""
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "weights"))
from synthetic import MASK, fnv1a, philox4x32_10  # noqa: E402

SEED = 20_230_427
NOISE, SHUFFLE, INITIALISATION, SYNTHETIC, NOISE_MIXTURE = 0, 1, 2, 3, 6  # Stream of src/random/philox.rs


def words(seed, stream, step, count):
    """Draws 0 to `count` of a stream as uint64: draw i is word i % 4 of block i // 4."""
    block = np.arange((count + 3) // 4, dtype=np.uint64)
    counter = (block & MASK, block >> np.uint64(32), np.full_like(block, step), np.full_like(block, stream))
    return np.stack(philox4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32)), 1).reshape(-1)[:count]


def values(name, shape, centre, spread):
    """float32 of `centre + spread·u`, u uniform in (-1, 1)."""
    draws = words(SEED, SYNTHETIC, fnv1a(name), int(np.prod(shape))).astype(np.float64)
    u = (2.0 * draws + 1.0) / 4294967296.0 - 1.0
    return (centre + spread * u).astype(np.float32).reshape(shape)


def pixels(name, shape):
    """Bytes: the top eight bits of each draw."""
    return (words(SEED, SYNTHETIC, fnv1a(name), int(np.prod(shape))) >> np.uint64(24)).astype(np.uint8).reshape(shape)


def uniforms(seed, stream, step, count):
    """Numbers in (0, 1), float64."""
    return (words(seed, stream, step, count).astype(np.float64) + 0.5) / 4294967296.0


def normals(seed, step, count, stream=NOISE):
    """The training noise before sigma: Box-Muller, (cos, sin) of words 0 and 1 of a block, then of words 2 and 3."""
    u = uniforms(seed, stream, step, (count + 3) // 4 * 4)
    radius, angle = np.sqrt(-2.0 * np.log(u[0::2])), 2.0 * np.pi * u[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:count]


def deviations(seed, step, rows, sigma, mixtures):
    """The standard deviation of every row's noise, sigma·1.1^k: k is the row's draw, reduced to 0..mixtures by multiplication."""
    k = words(seed, NOISE_MIXTURE, step, rows) * np.uint64(mixtures) >> np.uint64(32)
    return sigma * 1.1 ** k.astype(np.float64)


def initial(seed, shapes):
    """A head before training, float32 by name: what `Head::initial` of src/head/mod.rs documents. `shapes` has the parameters in
    the order of a model file; parameter i draws from step i."""
    out = {}
    for step, (name, shape) in enumerate(shapes.items()):
        count = int(np.prod(shape))
        if name.endswith("weight"):  # xavier_normal_
            drawn = normals(seed, step, count, INITIALISATION) * np.sqrt(2.0 / (shape[0] + shape[1]))
        elif name in ("adaptor.bias", "discriminator.hidden.bias"):  # as nn.Linear
            inputs = shapes[name.replace("bias", "weight")][1]
            drawn = (2.0 * uniforms(seed, INITIALISATION, step, count) - 1.0) / np.sqrt(inputs)
        else:
            drawn = np.full(count, 1.0 if name.endswith(("gamma", "running_var")) else 0.0)
        out[name] = drawn.astype(np.float32).reshape(shape)
    return out


def permutation(seed, epoch, count):
    """The order of an epoch: Fisher-Yates from the end, position i with draw i, reduced by multiplication."""
    draws, order = words(seed, SHUFFLE, epoch, count), list(range(count))
    for i in range(count - 1, 0, -1):
        j = int(draws[i]) * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    return order


def positions(height, width):
    """Where feature maps are sampled: three corners, whose neighbourhoods are padded, and two places within."""
    return [(0, 0), (0, width - 1), (height - 1, width // 2), (height // 2, width // 3), (height - 1, width - 1)]


def sample(name, maps):
    """Reference tensors for feature maps `[N, H, W, C]`: every channel at a few positions of the last image, and the norms
    of every channel and of every position, in which no element is left out."""
    maps = np.asarray(maps, np.float64)
    _, height, width, _ = maps.shape
    return {
        f"{name}/sample": np.stack([maps[-1, y, x] for y, x in positions(height, width)]).astype(np.float32),
        f"{name}/channel_norms": np.sqrt((maps**2).sum((0, 1, 2))).astype(np.float32),
        f"{name}/position_norms": np.sqrt((maps**2).sum(3)).astype(np.float32),
    }


def sketch(name, matrix, width=4):
    """`[R, C]` times drawn columns of +1 and -1, `[R, width]`, in f64. Each element counts, with its sign, and the expected square
    of the sketch of a difference is `width` times the square of its norm: relative errors keep their size. Vectors stay whole."""
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim < 2 or matrix.shape[0] == 1:
        return matrix
    draws = words(SEED, SYNTHETIC, fnv1a(f"sketch {name}"), matrix.shape[1] * width)
    return matrix @ (1.0 - 2.0 * (draws >> np.uint64(31)).astype(np.float64)).reshape(-1, width)
