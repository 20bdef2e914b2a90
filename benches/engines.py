"""The engines of scope `model`: each takes u8 images `[N, size, size, 3]` in host memory, and returns maps and scores there."""
import contextlib
import copy
import hashlib
import importlib.util
import logging
import os
import pathlib
import warnings

import numpy as np
import torch
import torch.nn.functional as F

import network

# Largest ‖out − ref‖/‖ref‖ of maps and scores against plain f32. f32: another order of sums, and Winograd where a
# library has it. The others: their rounding unit (2⁻¹¹, 2⁻¹¹, 2⁻⁹) through some fifty layers; scores of an untrained head are
# differences near 0, which makes the error of bf16 features, 0.01, up to 0.07 of the scores.
TOLERANCES = {"f32": 1e-4, "tf32": 2e-2, "f16": 2e-2, "bf16": 1.5e-1}
DTYPES = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Unavailable(Exception):
    """Why an engine cannot run here."""


def relative_error(out, reference):
    out, reference = np.asarray(out, np.float64), np.asarray(reference, np.float64)
    if out.shape != reference.shape:
        raise ValueError(f"an output is {out.shape} instead of {reference.shape}")
    return float(np.linalg.norm(out - reference) / np.linalg.norm(reference))


@contextlib.contextmanager
def tf32(allowed):
    """Lets products and convolutions of a GPU use tf32, or forbids it."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class Task:
    """What every engine computes: the network's parts, made once, and where it runs."""

    def __init__(self, architecture, weights, size, threads, device, cache, by_level=True):
        self.architecture, self.weights, self.size = architecture, weights, size
        self.threads, self.device, self.cache = threads, torch.device(device), cache
        self.by_level = by_level
        self.state = network.backbone_state(architecture, weights, cache)
        self.net = network.backbone(architecture, self.state)
        self.head = network.trained_head(self.net.channels[1] + self.net.channels[2])
        self.references = {}

    def images(self, batch):
        """Noise in u8, the same for every engine."""
        return np.random.default_rng(0).integers(0, 256, (batch, self.size, self.size, 3), np.uint8)

    def folded(self, channels_last=False, dtype=torch.float32):
        return network.Folded(self.net, self.head, self.size, channels_last, dtype, self.by_level).eval()

    def authors(self):
        whole = network.backbone(self.architecture, self.state, whole=True)
        return network.Authors(whole, network.trained_head(1536)).eval()

    def reference(self, images):
        """Maps and scores of the plain network in eager f32 on the CPU, blurred by SciPy; computed once for each batch of
        `images()`, since a CPU takes longer than what is compared with it."""
        if len(images) not in self.references:
            with torch.inference_mode():
                scores = network.Plain(self.net, self.head)(torch.from_numpy(images))
                maps = network.smooth_on_the_host(scores, (self.size, self.size))
                self.references[len(images)] = maps, scores.amax((1, 2, 3)).numpy()
        return self.references[len(images)]


def compile_whole(function, device, cache, freezing=False):
    """`torch.compile` without fall-backs: one graph, on a GPU autotuned and with CUDA graphs. `freezing` lays weights out once, as
    ONNX Runtime and OpenVINO do."""
    from torch._dynamo.utils import counters
    from torch._inductor import config

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "inductor"))
    torch.compiler.reset()  # so that the limit on recompiling one function, after which it runs eagerly, is never met
    counters["inductor"]["cudagraph_skips"] = 0
    config.freezing = freezing
    return torch.compile(function, mode="max-autotune" if device.type == "cuda" else None, dynamic=False, fullgraph=True)


def refuse_skipped_graphs():
    """Raises if the compiler has gone without a CUDA graph since `compile_whole`."""
    from torch._dynamo.utils import counters

    if skips := counters["inductor"]["cudagraph_skips"]:
        raise Unavailable(f"the compiler went without a CUDA graph {skips} times")


class Torch:
    """PyTorch, eager or compiled. On a GPU images and results lie in pinned memory, and a call ends synchronised."""

    def __init__(self, task, precision, batch, channels_last=False, compiled=False):
        self.device, self.tf32, self.compiled = task.device, precision == "tf32", compiled
        module = task.folded(channels_last, DTYPES[precision]).to(self.device)
        self.mode = torch.no_grad if compiled else torch.inference_mode
        if compiled:
            module = compile_whole(module, self.device, task.cache, freezing=self.device.type == "cpu")
        self.module = module
        if self.device.type == "cuda":
            self.staged = torch.empty((batch, task.size, task.size, 3), dtype=torch.uint8, pin_memory=True)
            self.maps = torch.empty((batch, task.size, task.size), pin_memory=True)
            self.scores = torch.empty((batch,), pin_memory=True)

    def prepare(self, images):
        """Images where the clock finds them: in host memory, pinned if there is a GPU."""
        if self.device.type == "cuda":
            self.staged.copy_(torch.from_numpy(images))
            return self.staged
        return torch.from_numpy(images)

    def __call__(self, images):
        with self.mode(), tf32(self.tf32):
            maps, scores = self.module(images.to(self.device, non_blocking=True))
            if self.device.type == "cpu":
                return maps.numpy(), scores.numpy()
            self.maps.copy_(maps, non_blocking=True)
            self.scores.copy_(scores, non_blocking=True)
            torch.cuda.synchronize()
            return self.maps.numpy(), self.scores.numpy()


class TorchPlain(Torch):
    """The network as the paper states it: BatchNorm, adaptor and discriminator apart, Gaussian by SciPy."""

    def __init__(self, task, precision, batch):
        self.device, self.size, self.tf32 = task.device, task.size, precision == "tf32"
        self.module = network.Plain(task.net, task.head).to(self.device)
        if self.device.type == "cuda":
            self.staged = torch.empty((batch, task.size, task.size, 3), dtype=torch.uint8, pin_memory=True)

    def __call__(self, images):
        with torch.inference_mode(), tf32(self.tf32):
            scores = self.module(images.to(self.device, non_blocking=True))
            return network.smooth_on_the_host(scores, (self.size, self.size)), scores.amax((1, 2, 3)).cpu().numpy()


class TorchAuthors(Torch):
    """The authors' own path, whose aggregation is another: it has a reference of its own."""

    def __init__(self, task, precision, batch):
        self.task, self.device, self.tf32 = task, task.device, precision == "tf32"
        self.module = task.authors().to(self.device)
        if self.device.type == "cuda":
            self.staged = torch.empty((batch, task.size, task.size, 3), dtype=torch.uint8, pin_memory=True)

    def reference(self, images):
        """By the definition, in f64: bin i of n over a vector of length L is the mean of `[⌊iL/n⌋, ⌈(i+1)L/n⌉)`."""

        def bins(length, n):
            edges = [(i * length // n, -(-(i + 1) * length // n)) for i in range(n)]
            return torch.stack([torch.zeros(length).double().index_fill_(0, torch.arange(a, b), 1 / (b - a)) for a, b in edges])

        count, size = self.module.length, self.task.size
        net, head = copy.deepcopy(self.task.net).double(), network.trained_head(count).double()
        with torch.inference_mode():
            levels = net(network.Normalize()(torch.from_numpy(images)).double())
            n, _, height, width = levels[0].shape
            pooled = []
            for level in levels:
                patches = F.unfold(level, 3, padding=1).view(n, -1, *level.shape[2:])
                patches = F.interpolate(patches, size=(height, width), mode="bilinear", align_corners=False)
                pooled.append(torch.einsum("bl,nlhw->nhwb", bins(patches.shape[1], count), patches))
            rows = torch.cat(pooled, 3).reshape(-1, 2 * count) @ bins(2 * count, count).T
            scores = -head.discriminate(head.adaptor(rows)).view(n, 1, height, width)
            return network.smooth_on_the_host(scores, (size, size)), scores.amax((1, 2, 3)).numpy()

    def __call__(self, images):
        with torch.inference_mode(), tf32(self.tf32):
            return self.module(images.to(self.device, non_blocking=True))


def exported(task, batch):
    """The folded network as an ONNX file for this batch size, from images to maps and scores; made once for each."""
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise Unavailable(f"the package {package} is missing, which exports the network")
    source = pathlib.Path(network.__file__).read_bytes() + task.weights.encode() + file_stamp(task.weights) + torch.__version__.encode()
    order = "levels" if task.by_level else "features"
    name = f"{task.architecture}-{task.size}-{batch}-{order}-{hashlib.sha256(source).hexdigest()[:12]}.onnx"
    path = task.cache / name
    if not path.exists():
        part = path.with_suffix(".part")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example = torch.zeros((batch, task.size, task.size, 3), dtype=torch.uint8)
            program = torch.onnx.export(
                task.folded(), (example,), dynamo=True, verbose=False, input_names=["images"], output_names=["maps", "scores"]
            )
            program.save(part, external_data=False)
        part.rename(path)
    return path


def file_stamp(path):
    """Size and time of a weight file, so that another one under the same name is exported again."""
    if not os.path.exists(path):
        return b""
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns}".encode()


class OnnxRuntime:
    def __init__(self, task, precision, batch):
        try:
            import onnxruntime
        except ImportError as error:
            raise Unavailable(f"the package onnxruntime is missing ({error})") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(exported(task, batch), options, ["CPUExecutionProvider"])

    def prepare(self, images):
        return images

    def __call__(self, images):
        return self.session.run(["maps", "scores"], {"images": images})


class OpenVino:
    def __init__(self, task, precision, batch):
        try:
            import openvino
        except ImportError as error:
            raise Unavailable(f"the package openvino is missing ({error})") from error
        self.model = openvino.Core().compile_model(
            str(exported(task, batch)),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": task.threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": precision,
            },
        )
        taken = self.model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if taken != precision:
            raise Unavailable(f"OpenVINO computes in {taken} here when asked for {precision}")
        self.request = self.model.create_infer_request()

    def prepare(self, images):
        return images

    def __call__(self, images):
        found = self.request.infer({"images": images}, share_inputs=True, share_outputs=True)
        return found["maps"], found["scores"]


# name: (constructor, precisions on the CPU, precisions on a GPU); in the order of the table.
ENGINES = {
    "pytorch-eager": (Torch, ("f32", "bf16"), ("f32", "tf32", "f16", "bf16")),
    "pytorch-eager-channels-last": (
        lambda *task: Torch(*task, channels_last=True),
        ("f32", "bf16"),
        ("f32", "tf32", "f16", "bf16"),
    ),
    "pytorch-compile": (
        lambda *task: Torch(*task, channels_last=True, compiled=True),
        ("f32", "bf16"),
        ("f32", "tf32", "f16", "bf16"),
    ),
    "pytorch-plain": (TorchPlain, ("f32",), ("f32", "tf32")),
    "pytorch-authors": (TorchAuthors, ("f32",), ("f32", "tf32")),
    "onnxruntime": (OnnxRuntime, ("f32",), ()),
    "openvino": (OpenVino, ("f32", "bf16"), ()),
}


def build(name, task, precision, batch):
    """The engine, or `Unavailable` with the reason."""
    constructor, on_cpu, on_gpu = ENGINES[name]
    offered = on_gpu if task.device.type == "cuda" else on_cpu
    if precision not in offered:
        raise Unavailable(f"it has no {precision} on this device")
    return constructor(task, precision, batch)


def verify(engine, task, images, precision):
    """Relative errors of maps and scores against the plain f32 network; raises if they are no rounding errors."""
    reference = engine.reference(images) if hasattr(engine, "reference") else task.reference(images)
    out = engine(engine.prepare(images))
    if getattr(engine, "compiled", False):
        refuse_skipped_graphs()
    errors = {key: relative_error(a, b) for key, a, b in zip(("map", "score"), out, reference)}
    wrong = {key: e for key, e in errors.items() if not e <= TOLERANCES[precision]}
    if wrong:
        raise ValueError(f"it computes something else: relative errors {wrong}, allowed {TOLERANCES[precision]}")
    return errors
