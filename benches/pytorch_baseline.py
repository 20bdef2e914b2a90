#!/usr/bin/env python3
"""Times the same network, weights and protocol as `simplenet bench` in PyTorch, ONNX Runtime and OpenVINO.

    pip install -r benches/requirements.txt
    python benches/pytorch_baseline.py --batch 1,8                         # every engine of this device, f32
    python benches/pytorch_baseline.py --precision f16 --device cuda --batch 1,16,64
    python benches/pytorch_baseline.py --scope train --backbone resnet18 --images 28

A table goes to stderr, `--json` prints on stdout what `simplenet bench --json` prints. An engine is timed only after its
output was compared with the plain network's; one that is missing or wrong is named. Exit 1 if one was wrong.
"""
import argparse
import json
import os
import pathlib
import platform
import sys

import figures


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--scope", choices=("model", "train"), default="model")
    parser.add_argument("--engine", type=several, default=["all"], help="names, by commas (default: all of the device)")
    parser.add_argument("--backbone", default="wide_resnet50_2")
    parser.add_argument("--weights", default="synthetic:0", help="synthetic:SEED, embedded, or a .safetensors or .pth file")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=several, default=["1"], help="images a batch, by commas (scope model)")
    parser.add_argument("--images", type=int, default=28, help="training images (scope train)")
    parser.add_argument("--precision", type=several, default=["f32"], help="f32, tf32, f16, bf16, by commas")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=figures.usable_cpus())
    parser.add_argument("--project", choices=("levels", "features"), default="levels", help="what the folded head projects: each level"
                        " on its own grid, or the resized and concatenated features, as the network is written")
    parser.add_argument("--warmups", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--seconds", type=float, default=5.0, help="time of one figure where --repeats does not say")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent / "target" / "benches")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="also write the JSON there, after each engine, so that one"
                        " that is stopped loses no other")
    parser.add_argument("--compare", metavar="DUMP", help="time nothing; compare the features of a `simplenet dump` with PyTorch's")
    return parser.parse_args(arguments)


def device_in_words(device):
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    return f"CPU {name}"


def versions():
    """Names and versions of what computes here."""
    import importlib.metadata

    found = []
    for package in ("torch", "onnxruntime", "openvino", "numpy", "scipy"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def words(options, device):
    covers = {
        "model": "the clock covers one call, u8 images [N, size, size, 3] in host memory to maps and scores in host memory, "
        "normalisation included; BatchNorm and head are folded beforehand (not in pytorch-plain and pytorch-authors)",
        "train": "the clock covers one epoch of the head, features precomputed and cached in f32 on the device, noise drawn, "
        "forward, backward and two Adam updates a batch of 4 images; evaluation is outside",
    }[options.scope]
    if options.repeats:
        runs = f"{options.repeats} repeats"
    else:
        runs = f"repeats for {options.seconds:g} s, at least {figures.LEAST_REPEATS}"
    threads = "PyTorch intra-op, ONNX Runtime intra-op and OpenVINO inference threads"
    end = "; images and results in pinned memory, every call ends synchronised" if device.type == "cuda" else ""
    return f"{covers}; warm-ups, then {runs}; {options.threads} CPU threads ({threads}); each output was checked first{end}"


class Log:
    """Lines on stderr, and what has been left out."""

    def __init__(self):
        self.skipped, self.wrong = [], 0

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def skip(self, engine, precision, reason):
        self.say(f"{engine} {precision}: skipped, {reason}")
        self.skipped.append({"engine": engine, "precision": precision, "reason": reason})


def attempt(log, name, precision, prepare):
    """What `prepare` returns, or None after saying why there is nothing: a reason, a failure, a wrong output."""
    import engines

    try:
        return prepare()
    except engines.Unavailable as reason:
        log.skip(name, precision, str(reason))
    except Exception as error:  # whatever a library throws, the other engines go on
        log.wrong += 1
        log.skip(name, precision, f"FAILED: {type(error).__name__}: {str(error)[:500]}")
    return None


def result(log, options, engine, precision, batch, units, errors, run):
    warmups, seconds = figures.samples(run, options.seconds, options.warmups, options.repeats)
    found = {
        "engine": engine,
        "scope": options.scope,
        "backbone": options.backbone,
        "weights": options.weights,
        "size": options.size,
        "batch": batch,
        "precision": precision,
        "threads": options.threads,
        "warmups": warmups,
        "repeats": len(seconds),
        **figures.figures(units, seconds),
        "relative_errors": errors,
    }
    if options.scope == "train":
        found["images"] = units
    shown = ", ".join(f"{key} {value:.1e}" for key, value in errors.items())
    log.say(
        f"{engine:28} {precision:5} batch {batch:<4} {found['images_per_second']:10.2f} images/s "
        f"[{found['images_per_second_low']:.2f}, {found['images_per_second_high']:.2f}]  "
        f"p50 {found['latency_ms']['p50']:9.2f} ms  x{len(seconds):<4} error {shown}"
    )
    return found


def measure_model(options, log, task, names):
    import engines

    for batch in map(int, options.batch):
        images = task.images(batch)
        for precision in options.precision:
            for name in names(engines.ENGINES):

                def prepare():
                    engine = engines.build(name, task, precision, batch)
                    return engine, engines.verify(engine, task, images, precision)

                ready = attempt(log, name, precision, prepare)
                if ready:
                    engine, errors = ready
                    staged = engine.prepare(images)
                    yield result(log, options, name, precision, batch, batch, errors, lambda: engine(staged))


def measure_training(options, log, task, names):
    import head_training

    cached = head_training.features(task, options.images)
    for precision in options.precision:
        for name in names(head_training.ENGINES):

            def prepare():
                trainer = head_training.build(name, cached, precision, options.cache)
                return trainer, head_training.verify(trainer)

            ready = attempt(log, name, precision, prepare)
            if ready:
                trainer, errors = ready
                yield result(log, options, name, precision, head_training.BATCH, options.images, errors, trainer.epoch)


def write(path, report):
    """The report as a whole file, whenever the program is stopped."""
    if path is not None:
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(report))
        unfinished.rename(path)


def main(arguments=None):
    options = parse(arguments)
    try:
        import torch
    except ImportError as error:
        sys.exit(f"PyTorch is missing ({error}); pip install -r benches/requirements.txt")
    import engines

    torch.set_num_threads(options.threads)
    log = Log()
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(chosen if options.device == "auto" else options.device)
    if options.device == "auto" and device.type == "cpu":
        log.say("no CUDA device answers: measuring on the CPU")
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device answers PyTorch; --device cpu measures on the CPU")
    torch.backends.cudnn.benchmark = True
    options.cache.mkdir(parents=True, exist_ok=True)

    def names(table):
        unknown = [name for name in options.engine if name not in (*table, "all")]
        if unknown:
            sys.exit(f"no engine {unknown[0]} in scope {options.scope}; there are {', '.join(table)}")
        return list(table) if "all" in options.engine else options.engine

    task = engines.Task(options.backbone, options.weights, options.size, options.threads, device, options.cache, options.project == "levels")
    if options.compare:
        import same_network

        error = same_network.feature_error(options.compare, task)
        print(f"{error:.2e}")
        return 0 if error <= same_network.TOLERANCES[options.precision[0]] else 1
    measure = measure_model if options.scope == "model" else measure_training
    report = {
        "format": 1,
        "program": versions(),
        "device": device_in_words(device),
        "protocol": words(options, device),
        "results": [],
        "skipped": log.skipped,
    }
    for found in measure(options, log, task, names):
        report["results"].append(found)
        write(options.report, report)
    write(options.report, report)
    log.say(f"{report['program']}; {report['device']}\n{report['protocol']}")
    if options.json:
        print(json.dumps(report, indent=1))
    return 1 if log.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
