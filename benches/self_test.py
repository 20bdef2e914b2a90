"""`python3 benches/side_by_side.py --self-test`: figures, pooling and table, without PyTorch and without a device."""
import contextlib
import io
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import figures
import side_by_side


def report(engine, *batches, precision="f32", scope="model", images=None, skipped=()):
    """What either side prints: (batch, seconds) for each result."""
    results = []
    for batch, seconds in batches:
        found = {"engine": engine, "scope": scope, "backbone": "resnet18", "weights": "synthetic:0", "size": 224, "batch": batch}
        found |= {"precision": precision, "threads": 2, "warmups": 1, "repeats": len(seconds)}
        found |= figures.figures(images or batch, seconds)
        if images:
            found["images"] = images
        if engine != side_by_side.OURS:
            found["relative_errors"] = {"map": 2e-7, "score": 3e-6}
        results.append(found)
    program = f"the program of {engine}"
    return {"format": 1, "program": program, "device": "CPU", "protocol": "words", "results": results, "skipped": list(skipped)}


def near(value, expected, tolerance=1e-9):
    assert math.isclose(value, expected, rel_tol=tolerance), f"{value}, not {expected}"


def test_figures_are_scipys():
    """x = [.11, .10, .14, .10, .12, .15]; scipy.stats.t.ppf(.975, ν); numpy.quantile(x, q); SciPy 1.17, NumPy 2.4."""
    for freedom, expected in ((1, 12.706204736432095), (2, 4.302652729911275), (5, 2.5705818366147395), (30, 2.042272456301238)):
        near(figures.student_t(freedom), expected, 1e-8)
    found = figures.figures(8, [0.11, 0.10, 0.14, 0.10, 0.12, 0.15])
    near(found["images_per_second"], 66.66666666666666)
    near(found["images_per_second_low"], 55.49329376722907, 1e-8)
    near(found["images_per_second_high"], 80.08975756759025, 1e-8)
    for key, expected in (("p50", 115.0), ("p95", 147.5), ("p99", 149.5)):
        near(found["latency_ms"][key], expected)


def test_runs_are_counted():
    runs = []
    warm, seconds = figures.samples(lambda: runs.append(1), 0.0, warmups=3, repeats=7)
    assert (warm, len(seconds), len(runs)) == (3, 7, 10)
    warm, seconds = figures.samples(lambda: None, 0.0)
    assert (warm, len(seconds)) == (figures.LEAST_WARMUPS, figures.LEAST_REPEATS)
    try:
        figures.samples(lambda: None, 1.0, repeats=4)
    except SystemExit:
        return
    raise AssertionError("four repeats gave a figure")


def rounds():
    """Ours twice as fast as `slow` in round 1 and eight times in round 2; `fast` twice as fast as ours, always."""
    return {
        1: [report("simplenet", (1, [0.1] * 5)), report("slow", (1, [0.2] * 5)), report("fast", (1, [0.05] * 5))],
        2: [report("simplenet", (1, [0.1] * 5)), report("slow", (1, [0.8] * 5)), report("fast", (1, [0.05] * 5))],
    }


def test_ratios_are_taken_within_rounds():
    (task, engines), *rest = side_by_side.pool(rounds()).items()
    assert not rest and task == ("model", "resnet18", "synthetic:0", 224, 1, None)
    ours = engines[("simplenet", "f32")]
    value, low, high = side_by_side.ratio(ours, engines[("slow", "f32")])
    near(value, 4.0)
    half = figures.student_t(1) * math.log(2)  # two logarithms ln 2 either side of ln 4: deviation √2·ln 2, by √2
    near(low, 4 * math.exp(-half), 1e-6)
    near(high, 4 * math.exp(half), 1e-6)
    near(side_by_side.ratio(ours, engines[("fast", "f32")])[0], 0.5)
    assert side_by_side.ratio(ours, {}) is None
    assert side_by_side.spoken(side_by_side.ratio(ours, {1: engines[("slow", "f32")][1]})) == "2.00"


def test_the_table_names_everything():
    found = rounds()
    found[1].append(report("half", (1, [0.025] * 5), precision="bf16"))
    found[1].append(report("none", skipped=[{"engine": "absent", "precision": "f32", "reason": "it is missing"}]))
    page = side_by_side.table(found, {"date": "today", "machine": "here", "commands": {"simplenet-f32": "/opt/simplenet bench"}, "same": {"f32": "1e-6"}})
    lines = page.splitlines()
    order = [line.split(" | ")[0] for line in lines if line.startswith("| ") and " f32 " in line]
    assert order == ["| fast", "| **simplenet**", "| slow"], order
    assert "| fast | f32 | 50.00 | 50.00 | 20.00 | [20.00, 20.00] | 0.50 [0.50, 0.50] | 10 | 3.0e-06 |" in lines, page
    assert "f32: ours is **0.50 [0.50, 0.50]** times as fast as the best other, fast." in lines, page
    assert any(line.startswith("| half | bf16 |") and "| 0.25 (ours in f32) |" in line for line in lines), page
    assert "- not measured: absent f32: it is missing" in lines, page
    for said in ("today; here; CPU. 2 rounds", "- `simplenet bench`", "- the program of slow", "- words", "PyTorch's in f32: 1e-6"):
        assert said in page, f"{said!r} is not in\n{page}"


def test_training_counts_its_images():
    found = {1: [report("simplenet", (4, [0.5] * 5), scope="train", images=28), report("other", (4, [1.0] * 5), scope="train", images=28)]}
    page = side_by_side.table(found, {"date": "", "machine": "", "commands": {}, "same": {}})
    assert "| **simplenet** | f32 | 500.00 | 500.00 | 56.00 |" in page and "ours is **2.00** times" in page, page
    assert "an epoch of the head on 28 images, batch 4" in page, page


@contextlib.contextmanager
def ends_with(words):
    """The block ends the program with a message that has these words."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as error:
        text = f"{error} {said.getvalue()}"
        assert words in text, f"{words!r} is not in {text}"
    else:
        raise AssertionError(f"it went on instead of saying {words!r}")


def test_rounds_alternate_and_add_up():
    """Two programs that print reports and note that they ran; a third that prints none is named, and a fourth that dies after one
    engine keeps it."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        order = folder / "order"
        lines = []
        for name, text in (("a", report("simplenet", (1, [0.1] * 5))), ("b", report("other", (1, [0.3] * 5))), ("c", None)):
            code = f"open({str(order)!r}, 'a').write({name!r}); print({json.dumps(text)!r} if {text is not None} else 'broken')"
            lines.append((name, [sys.executable, "-c", code]))
        partial = json.dumps(report("early", (1, [0.4] * 5)))
        code = f"import sys; open(sys.argv[sys.argv.index('--report') + 1], 'w').write({partial!r}); sys.exit(9)"
        lines.append(("d", [sys.executable, "-c", code]))
        program = folder / "program"
        program.write_text("one build")
        program.chmod(0o755)
        options = side_by_side.parse(["--rounds", "2", "--output", place, "--simplenet", str(program)])
        kept = side_by_side.commands, side_by_side.compare
        side_by_side.commands, side_by_side.compare = lambda _: lines, lambda _: {}
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                side_by_side.measure(options)
                assert "2 rounds, alternating" in (folder / "table.md").read_text()
                side_by_side.measure(options)
            program.write_text("another build")
            with ends_with("rounds of another build"):
                side_by_side.measure(options)
            program.write_text("one build")
            lines[0][1].append("other settings")
            with ends_with("rounds of other settings"):
                side_by_side.measure(options)
        finally:
            side_by_side.commands, side_by_side.compare = kept
        assert order.read_text() == "abccba" * 2, order.read_text()
        found = side_by_side.read(folder)
        assert sorted(found) == [1, 2, 3, 4] and all(len(reports) == 4 for reports in found.values())
        digests = {entry["simplenet_sha256"] for reports in found.values() for entry in reports}
        assert digests == {side_by_side.program_digest(options)}, digests
        page = side_by_side.table(found, json.loads((folder / "run.json").read_text()))
        assert "ours is **3.00 [3.00, 3.00]** times" in page and "- not measured: c : exit code 0 and no report" in page, page
        assert "| early | f32 | 400.00 |" in page and "- not measured: d : exit code 9 before all was measured" in page, page
        assert f"- SHA-256 of this simplenet: {digests.pop()}" in page, page


def test_both_sides_get_the_same_settings():
    options = side_by_side.parse(["--batch", "1,8", "--precision", "f32,bf16", "--seconds", "2", "--prefix", "nice -n 1", "--threads", "3"])
    lines = dict(side_by_side.commands(options))
    assert list(lines) == ["simplenet-f32", "simplenet-bf16", "baseline"]
    for command in lines.values():
        assert command[:3] == ["nice", "-n", "1"]
        for pair in (["--batch", "1,8"], ["--scope", "model"], ["--seconds", "2.0"], ["--threads", "3"], ["--weights", "synthetic:0"]):
            assert pair[1] == command[command.index(pair[0]) + 1], command


def test_threads_are_those_that_may_be_used():
    assert side_by_side.parse([]).threads == figures.usable_cpus() >= 1
    if hasattr(os, "sched_setaffinity"):
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        try:
            assert side_by_side.parse([]).threads == 1
        finally:
            os.sched_setaffinity(0, before)
    with ends_with("give --threads"):
        side_by_side.parse(["--prefix", "taskset -c 0"])


def test_a_dump_gets_the_options_that_it_has():
    assert side_by_side.dumped(["--plans", "off", "--conv", "exact", "--stages"]) == ["--conv", "exact"]
    assert side_by_side.dumped(["--conv=fast", "--plans=off"]) == ["--conv=fast"]


def test_libraries_are_for_our_program_alone():
    """A program that names its folders where its report would be; the other side has those of this process."""
    shown = [sys.executable, "-c", "import json, os; print(json.dumps(os.environ.get('LD_LIBRARY_PATH', '')))"]
    options = side_by_side.parse(["--libraries", "/of/cublaslt"])
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    ours, theirs = (side_by_side.run(options, name, shown, pathlib.Path("absent")) for name in ("simplenet-f16", "baseline"))
    assert ours.split(":")[0] == "/of/cublaslt" and theirs == inherited, (ours, theirs)
    assert side_by_side.environment(side_by_side.parse([])) is None


def test_the_shell_script_finds_the_program():
    script = pathlib.Path(__file__).with_name("side_by_side.sh")
    ran = subprocess.run(["bash", script, "--output", "/nowhere", "--table"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and "/nowhere holds no rounds" in ran.stderr, ran


def main():
    tests = [test for name, test in globals().items() if name.startswith("test_")]
    for test in tests:
        test()
        print(f"{test.__name__}: passed")
    print(f"{len(tests)} passed, 0 failed")
    return 0
