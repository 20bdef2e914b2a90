"""Whether both sides run the same network: `simplenet dump` of a noise image against PyTorch on the same input."""
import pathlib
import random
import struct
import subprocess
import zlib

# Of the features. f32: fast convolutions promise 1e-4; the others: what the program promises of each precision.
TOLERANCES = {"f32": 1e-4, "tf32": 2e-3, "f16": 5e-3, "bf16": 3e-2}


def noise_png(path, side):
    """An RGB image of `side`² random bytes, the same every time."""
    draw = random.Random(0)
    rows = b"".join(b"\0" + draw.randbytes(3 * side) for _ in range(side))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def dump(program, settings, folder, environment=None):
    """Has `program` dump the features of a noise image; returns the file. `settings` are options of `dump`."""
    image, tensors = folder / "noise.png", folder / "dump.safetensors"
    noise_png(image, 320)
    command = [program, "dump", *settings, str(image), "--output", str(tensors)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    image.unlink()
    return tensors


def feature_error(tensors, task):
    """‖ours − PyTorch's‖/‖PyTorch's‖ of the aggregated features, from the network input that ours dumped."""
    import torch
    from safetensors.torch import load_file

    import engines
    import network

    ours = load_file(tensors)
    with torch.inference_mode():
        features = network.aggregate(task.net(ours["input"].permute(0, 3, 1, 2).contiguous()))
    return engines.relative_error(ours["features"], features.permute(0, 2, 3, 1))
