#!/usr/bin/env python3
"""Lays the ELPV solar-cell images out as an MVTec AD category, for `simplenet train --data`.

What it reads
    The PyPI package `elpv-dataset` (tried with 1.0.0.post1), which holds 2,624 electroluminescence images of solar cells, 300x300
    pixels, 8-bit grey PNG, cut from 44 modules and freed of lens distortion and perspective. An expert gave each a
    probability of being defective (0, 1/3, 2/3 or 1) and the kind of its module (mono- or polycrystalline):

              0     1/3   2/3     1
        mono  588   117    56   313
        poly  920   178    50   402

Source and licence
    https://github.com/zae-bayern/elpv-dataset: Buerhop-Lutz et al., EU PVSEC 2018; Deitsch et al., Solar Energy 185, 2019;
    Deitsch et al., Machine Vision and Applications 32, 2021 (please cite them). The images are licensed CC BY-NC-SA 4.0,
    so not for commercial use; the package's loader, which is not used here, is Apache-2.0. The licence text is copied
    into the output.

How to run
    pip install --no-deps elpv-dataset
    python scripts/elpv_to_mvtec.py --output data/elpv --type mono
    simplenet train --data data/elpv --category elpv_mono
    Python 3.9 or newer, nothing besides that package.

What it makes
    OUTPUT/elpv_TYPE/train/good/cellNNNN.png       good cells to learn from
    OUTPUT/elpv_TYPE/test/good/cellNNNN.png        the other good cells, none of them in train
    OUTPUT/elpv_TYPE/test/defective/cellNNNN.png   defective cells
    OUTPUT/elpv_TYPE/LICENSE.md                    the package's licence
    OUTPUT/elpv_TYPE/split.json                    the arguments, the counts, what was left out
    Good is probability 0, defective is probability 1; cells at 1/3 and 2/3, on which the expert was not sure, are left out and
    counted. Files are the package's, byte for byte. By default 70 % of the good cells (rounded down) are for
    training, and all defective cells for testing:

              train/good  test/good  test/defective  left out
        mono         411        177             313       173
        poly         644        276             402       228
        all         1055        453             715       401

    Which good cells train is decided by the SHA-256 of "seed:file name": the same seed gives the same split on every machine and
    Python version. There are no masks, so no `ground_truth` folder: image metrics can be had, pixel metrics and AUPRO
    cannot. The package does not tell which cells come from one module, so cells of one module stand on both sides of
    the split; a detector meets new cells here, not new modules.

Exit codes: 0 done, 2 wrong arguments or an output that is not empty, 3 the package is missing or not as expected.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

GOOD, DEFECTIVE = 0.0, 1.0


def fail(code, message):
    print(f"elpv_to_mvtec: {message}", file=sys.stderr)
    raise SystemExit(code)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to make; must not exist or be empty")
    parser.add_argument("--type", choices=["mono", "poly", "all"], default="all", help="kind of solar module (default: all)")
    parser.add_argument("--train-count", type=int, help="good cells to train on (default: 70 %% of them)")
    parser.add_argument("--defective-count", type=int, help="defective cells to test on (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (default: 0)")
    return parser.parse_args()


def find_package():
    """The folder with labels.csv and images/, found without importing the package, which would need NumPy."""
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        fail(3, "the package elpv-dataset is not installed; run `pip install --no-deps elpv-dataset`")
    data = Path(spec.submodule_search_locations[0]) / "data"
    if not (data / "labels.csv").is_file():
        fail(3, f"{data} has no labels.csv; this script was written for elpv-dataset 1.0.0.post1")
    return data


def read_labels(data):
    """(path, probability, type) of every cell, in the order of labels.csv."""
    cells = []
    for number, line in enumerate((data / "labels.csv").read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            name, probability, kind = line.split()
            cells.append((data / name, float(probability), kind))
        except ValueError:
            fail(3, f"line {number} of {data / 'labels.csv'} is not `path probability type`: {line!r}")
    return cells


def licence_file():
    for file in metadata.files("elpv-dataset") or []:
        if file.name == "LICENSE.md":
            return Path(file.locate())
    fail(3, "elpv-dataset came without its LICENSE.md; install it again")


def shuffled(paths, seed):
    """The paths in an order that depends on the seed and the file names alone."""
    return sorted(paths, key=lambda path: hashlib.sha256(f"{seed}:{path.name}".encode()).digest())


def choose(count, available, default, what, least):
    if count is None:
        return default
    if not least <= count <= available:
        fail(2, f"{count} {what} cells were asked for, but {least} to {available} can be had")
    return count


def main():
    arguments = parse_arguments()
    output = arguments.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        fail(2, f"{output} exists and is not an empty folder; name another, or empty it first")

    data = find_package()
    cells = [cell for cell in read_labels(data) if arguments.type in ("all", cell[2])]
    good = shuffled([path for path, probability, _ in cells if probability == GOOD], arguments.seed)
    defective = shuffled([path for path, probability, _ in cells if probability == DEFECTIVE], arguments.seed)
    left_out = {}
    for _, probability, _ in cells:
        if probability not in (GOOD, DEFECTIVE):
            key = f"probability {probability:.2f}"
            left_out[key] = left_out.get(key, 0) + 1

    # At least one good cell must stay for the test set: without one there is no AUROC.
    train_count = choose(arguments.train_count, len(good) - 1, len(good) * 7 // 10, "training", 1)
    defective_count = choose(arguments.defective_count, len(defective), len(defective), "defective", 1)
    parts = {
        "train/good": good[:train_count],
        "test/good": good[train_count:],
        "test/defective": defective[:defective_count],
    }
    if defective_count < len(defective):
        left_out["defective, by --defective-count"] = len(defective) - defective_count

    summary = {
        "source": f"elpv-dataset {metadata.version('elpv-dataset')}",
        "licence": "CC BY-NC-SA 4.0",
        "type": arguments.type,
        "seed": arguments.seed,
        "counts": {part: len(paths) for part, paths in parts.items()},
        "left_out": left_out,
    }
    # Made whole beside the output and then renamed, so that an interrupted run leaves nothing that looks finished.
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".elpv-") as folder:
        whole = Path(folder) / "whole"
        category = whole / f"elpv_{arguments.type}"
        for part, paths in parts.items():
            (category / part).mkdir(parents=True)
            for path in paths:
                shutil.copyfile(path, category / part / path.name)
        shutil.copyfile(licence_file(), category / "LICENSE.md")
        (category / "split.json").write_text(json.dumps(summary, indent=2) + "\n")
        if output.exists():
            output.rmdir()  # refuses a folder that has been filled meanwhile
        os.replace(whole, output)

    for part, paths in parts.items():
        print(f"{part}: {len(paths)}")
    print(f"left out: {sum(left_out.values())}", *(f"({count}: {reason})" for reason, count in left_out.items()))


if __name__ == "__main__":
    main()
