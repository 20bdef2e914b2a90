"""Alternates `simplenet bench` with pytorch_baseline.py and makes one table of both. Started by side_by_side.sh.

    benches/side_by_side.sh --batch 1,8                        # three rounds: ours, theirs; theirs, ours; ours, theirs
    benches/side_by_side.sh --scope train --backbone resnet18 --images 28
    benches/side_by_side.sh --device cuda --precision f16 --batch 1,16,64
    benches/side_by_side.sh --table --output DIR               # the table of a folder again, nothing measured

Every round leaves its JSON in the output folder; more rounds with the same folder, settings and program add to them. The table is
written to table.md there after each round, and printed at the end. `python3 benches/side_by_side.py --self-test` checks figures
and table without PyTorch.
"""
import argparse
import datetime
import hashlib
import json
import math
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys

import figures
import same_network

HERE = pathlib.Path(__file__).resolve().parent
OURS = "simplenet"


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="side_by_side.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scope", choices=("model", "train"), default="model")
    parser.add_argument("--backbone", default="wide_resnet50_2")
    parser.add_argument("--weights", default="synthetic:0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", default="1,8", help="scope model")
    parser.add_argument("--images", type=int, default=28, help="scope train")
    parser.add_argument("--precision", default="f32", help="by commas; one that a side lacks is named and left out there")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--threads", type=int, help="default: the CPUs that this process may use; needed with --prefix")
    parser.add_argument("--warmups", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--seconds", type=float, default=5.0, help="time of a figure in a round, where --repeats does not say")
    parser.add_argument("--engine", default="all", help="of pytorch_baseline.py, by commas")
    parser.add_argument("--project", choices=("levels", "features"), default="levels", help="of pytorch_baseline.py")
    parser.add_argument("--ours", default="", help="more options for `simplenet bench`, in one string")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefix", default="", help="put before each command that measures, as 'taskset -c 0,1'")
    parser.add_argument("--simplenet", default=os.environ.get("SIMPLENET") or str(HERE.parent / "target" / "release" / "simplenet"))
    parser.add_argument("--libraries", help="folders, by colons, where our program, and it alone, looks first for cuBLASLt")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--table", action="store_true", help="only the table of what is in the output folder")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args(arguments)
    if options.threads is None:
        if options.prefix:
            parser.error("--prefix may choose the CPUs of what it starts, which cannot be seen from here; give --threads")
        options.threads = figures.usable_cpus()
    return options


def commands(options):
    """(name, command line) of each side; ours once for each precision, since it takes one."""
    shared = ["--json", "--scope", options.scope, "--backbone", options.backbone, "--weights", options.weights]
    shared += ["--size", str(options.size), "--device", options.device, "--threads", str(options.threads)]
    shared += ["--seconds", str(options.seconds)]
    for name in ("warmups", "repeats"):
        if getattr(options, name) is not None:
            shared += [f"--{name}", str(getattr(options, name))]
    shared += ["--batch", options.batch] if options.scope == "model" else ["--images", str(options.images)]
    before = shlex.split(options.prefix)
    for precision in options.precision.split(","):
        ours = [options.simplenet, "bench", *shared, "--precision", precision, *shlex.split(options.ours)]
        yield f"{OURS}-{precision}", [*before, *ours]
    baseline = [sys.executable, str(HERE / "pytorch_baseline.py"), *shared]
    theirs = ["--precision", options.precision, "--engine", options.engine, "--project", options.project]
    yield "baseline", [*before, *baseline, *theirs]


def environment(options):
    """That of our program. PyTorch brings libraries of its own, which another folder must not come before."""
    if options.libraries is None:
        return None
    folders = [options.libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(folders)}


def dumped(words):
    """Those options for `simplenet bench` that change features, and that `dump` has, too."""
    kept = []
    for word, following in zip(words, [*words[1:], ""]):
        if word == "--conv":
            kept += [word, following]
        elif word.startswith("--conv="):
            kept.append(word)
    return kept


def compare(options):
    """Relative error of our features against PyTorch's, by precision, before anything is timed; one too large ends the run."""
    found = {}
    for precision in options.precision.split(","):
        shared = ["--backbone", options.backbone, "--weights", options.weights, "--size", str(options.size), "--precision", precision]
        resize = ["--resize", str(max(options.size, 256)), "--device", options.device, *dumped(shlex.split(options.ours))]
        try:
            tensors = same_network.dump(options.simplenet, [*shared, *resize], options.output, environment(options))
        except subprocess.CalledProcessError as error:
            # A device or an arithmetic that this machine lacks; anything else must not pass for a comparison.
            if error.returncode != 3:
                sys.exit(f"our {precision} features could not be dumped (exit code {error.returncode}): nothing is timed")
            found[precision] = f"not compared, the dump ended with exit code {error.returncode}"
            print(f"our {precision} is {found[precision]}", file=sys.stderr)
            continue
        command = [sys.executable, str(HERE / "pytorch_baseline.py"), *shared, "--device", "cpu", "--compare", str(tensors)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        tensors.unlink()
        if ran.returncode != 0:
            sys.exit(f"our {precision} features are not PyTorch's ({ran.stdout.strip() or 'no figure'}): nothing is timed")
        found[precision] = ran.stdout.strip()
    return found


def measure(options):
    """Runs the rounds; each report lies in the output folder as soon as there is one."""
    if not shutil.which(options.simplenet):
        sys.exit(f"{options.simplenet} is no program: build it (cargo build --release), or name it with SIMPLENET=PATH")
    lines = list(commands(options))
    settings = {name: shlex.join(command) for name, command in lines}
    digest = program_digest(options)
    record = options.output / "run.json"
    if record.exists():
        before = json.loads(record.read_text())
        if before["commands"] != settings:
            sys.exit(f"{options.output} holds rounds of other settings; take another --output")
        if before.get("simplenet_sha256") != digest:
            sys.exit(f"{options.output} holds rounds of another build of {options.simplenet}; take another --output")
    else:
        machine = f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs"
        date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        same = compare(options)
        found = {"date": date, "machine": machine, "simplenet_sha256": digest, "commands": settings, "same": same}
        record.write_text(json.dumps(found, indent=1))
    first = 1 + max((int(path.name.split("-")[1]) for path in options.output.glob("round-*.json")), default=0)
    for number in range(first, first + options.rounds):
        # Whoever comes second finds a device that is warm: each side does every other time.
        for name, command in lines if number % 2 == 1 else lines[::-1]:
            print(f"round {number}: {shlex.join(command)}", file=sys.stderr, flush=True)
            if program_digest(options) != digest:
                sys.exit(f"{options.simplenet} was built anew between two measurements; measure again, with another --output")
            path = options.output / f"round-{number:02}-{name}.json"
            report = run(options, name, command, path)
            path.write_text(json.dumps({**report, "simplenet_sha256": digest}))
        write_table(options.output)


def program_digest(options):
    """SHA-256 of our program."""
    return hashlib.sha256(pathlib.Path(shutil.which(options.simplenet)).read_bytes()).hexdigest()


def run(options, name, command, path):
    """The report that a command prints; of a baseline that died, what it had written to `path` by then."""
    if name.startswith(OURS):
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment(options))
    else:
        ran = subprocess.run([*command, "--report", str(path)], stdout=subprocess.PIPE, text=True, check=False)
    try:
        return json.loads(ran.stdout)
    except json.JSONDecodeError:
        reason = f"exit code {ran.returncode} and no report; its last words are above"
        print(f"{name}: {reason}", file=sys.stderr)
    report = {"program": name, "results": [], "skipped": []}
    if path.exists():
        report = json.loads(path.read_text())
        reason = f"exit code {ran.returncode} before all was measured; its last words are above"
    report["skipped"].append({"engine": name, "precision": "", "reason": reason})
    return report


def read(folder):
    """The rounds of a folder: lists of reports, by number."""
    rounds = {}
    for path in sorted(folder.glob("round-*.json")):
        rounds.setdefault(int(path.name.split("-")[1]), []).append(json.loads(path.read_text()))
    return rounds


def pool(rounds):
    """{(scope, backbone, weights, size, batch, images): {(engine, precision): {round: result}}}."""
    groups = {}
    for number, reports in rounds.items():
        for report in reports:
            for result in report["results"]:
                task = tuple(result.get(key) for key in ("scope", "backbone", "weights", "size", "batch", "images"))
                by_round = groups.setdefault(task, {}).setdefault((result["engine"], result["precision"]), {})
                if number in by_round:
                    raise SystemExit(f"round {number} has {result['engine']} twice at {task}")
                by_round[number] = result
    return groups


def ratio(ours, theirs):
    """How many times faster ours is: medians of the rounds both have, geometric mean, and its interval over the rounds."""
    shared = sorted(set(ours) & set(theirs))
    if not shared:
        return None
    middle = lambda result: figures.quantile(result["seconds"], 0.5)  # noqa: E731
    logs = [math.log(middle(theirs[number]) / middle(ours[number])) for number in shared]
    if len(logs) == 1:
        return math.exp(logs[0]), None, None
    mean, deviation = figures.mean_and_deviation(logs)
    half = figures.student_t(len(logs) - 1) * deviation / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def spoken(found):
    """`1.42 [1.39, 1.45]`; one round has no interval."""
    if found is None:
        return "–"
    value, low, high = found
    return f"{value:.2f}" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def group_table(task, engines):
    """One group's lines: every engine pooled over its rounds, fastest first within a precision, and the verdicts."""
    scope, backbone, weights, size, batch, images = task
    what = f"batch {batch}" if scope == "model" else f"an epoch of the head on {images} images, batch {batch}"
    lines = [f"### {backbone}, {weights}, {size} px, scope {scope}: {what}", ""]
    unit = "ms" if scope == "model" else "ms an epoch"
    lines += [f"| engine | precision | p50, {unit} | p95, {unit} | images/s | 95 % interval | ours is … times faster | repeats | error |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    verdicts = []
    for precision in dict.fromkeys(precision for _, precision in engines):
        ours = engines.get((OURS, precision))
        reference = ours or engines.get((OURS, "f32"))
        of_precision = {name: by_round for (name, other), by_round in engines.items() if other == precision}
        pooled = {}
        for name, by_round in of_precision.items():
            seconds = [time for number in sorted(by_round) for time in by_round[number]["seconds"]]
            units = next(iter(by_round.values()))
            pooled[name] = figures.figures(units["images"] if scope == "train" else batch, seconds)
        for name in sorted(pooled, key=lambda name: pooled[name]["latency_ms"]["p50"]):
            found, by_round = pooled[name], of_precision[name]
            faster = "1" if name == OURS else spoken(reference and ratio(reference, by_round))
            if name != OURS and ours is None and reference is not None:
                faster += " (ours in f32)"
            errors = [max(errors.values()) for errors in (r.get("relative_errors") for r in by_round.values()) if errors]
            error = f"{max(errors):.1e}" if errors else ""
            times = found["latency_ms"]
            rates = [found[key] for key in ("images_per_second", "images_per_second_low", "images_per_second_high")]
            lines.append(
                f"| {'**' + OURS + '**' if name == OURS else name} | {precision} | {times['p50']:.2f} | {times['p95']:.2f} | "
                f"{rates[0]:.2f} | [{rates[1]:.2f}, {rates[2]:.2f}] | {faster} | {len(found['seconds'])} | {error} |"
            )
        others = {name: ratio(ours, by_round) for name, by_round in of_precision.items() if ours and name != OURS}
        others = {name: found for name, found in others.items() if found}
        if others:
            best = min(others, key=lambda name: others[name][0])
            verdicts.append(f"{precision}: ours is **{spoken(others[best])}** times as fast as the best other, {best}.")
        # Where the device works beside the host, two batches on their way are what a stream of images gets.
        overlapped = [time for by_round in (ours or {}).values() for time in by_round.get("pipelined_seconds", [])]
        if overlapped:
            rate = figures.figures(batch, overlapped)["images_per_second"]
            verdicts.append(f"{precision}: the table is of single passes; with two batches on their way ours reaches {rate:.2f} images/s.")
    return lines + ["", *verdicts, ""]


def without_folders(command):
    """A command line whose programs and files are named without the folders of one machine."""
    return shlex.join(pathlib.Path(word).name if word.startswith("/") else word for word in shlex.split(command))


def table(rounds, record):
    """The whole page in markdown."""
    reports = [report for number in sorted(rounds) for report in rounds[number]]
    one_each = lambda key: list(dict.fromkeys(report[key] for report in reports if report.get(key)))  # noqa: E731
    lines = [f"{record['date']}; {record['machine']}; {'; '.join(one_each('device'))}. {len(rounds)} rounds, alternating.", ""]
    lines += [f"- {program}" for program in one_each("program")]
    lines += [f"- SHA-256 of this {OURS}: {digest}" for digest in one_each("simplenet_sha256")]
    lines += [f"- `{without_folders(command)}`" for command in record["commands"].values()]
    lines += [f"- {' '.join(protocol.split())}" for protocol in one_each("protocol")]
    lines += [f"- features of {OURS} in {precision} against PyTorch's in f32: {error}" for precision, error in record["same"].items()]
    lines.append("")
    for task, engines in pool(rounds).items():
        lines += group_table(task, engines)
    skipped = [entry for report in reports for entry in report.get("skipped", [])]
    said = dict.fromkeys(f"- not measured: {entry['engine']} {entry['precision']}: {entry['reason']}" for entry in skipped)
    lines += said
    lines += [
        "",
        "p50, p95, images/s and their interval pool the repeats of all rounds. The ratio is of the rounds' median times: geometric mean, "
        "95 % interval by Student's t over the rounds. Error: largest ‖out − ref‖/‖ref‖ against PyTorch in f32 (training: f64).",
    ]
    return "\n".join(lines) + "\n"


def write_table(folder):
    """Writes the table of the rounds so far and returns it; None if nothing was measured in them."""
    rounds = read(folder)
    if not any(report["results"] for reports in rounds.values() for report in reports):
        return None
    page = table(rounds, json.loads((folder / "run.json").read_text()))
    (folder / "table.md").write_text(page)
    return page


def main(arguments=None):
    options = parse(arguments)
    if options.self_test:
        import self_test

        return self_test.main()
    if options.output is None:
        when = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        options.output = HERE.parent / "target" / "benches" / f"{options.scope}-{options.backbone}-{when}"
    if options.table and not (options.output / "run.json").exists():
        sys.exit(f"{options.output} holds no rounds")
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.table:
        measure(options)
    rounds = read(options.output)
    page = write_table(options.output)
    if page is None:
        sys.exit("nothing was measured; the reasons are above")
    print(page)
    print(f"written to {options.output / 'table.md'}", file=sys.stderr)
    sides = {result["engine"] == OURS for reports in rounds.values() for report in reports for result in report["results"]}
    if len(sides) < 2:
        print("only one side was measured: there is no ratio", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
