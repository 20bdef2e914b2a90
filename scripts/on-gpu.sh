#!/usr/bin/env bash
# Everything that only a real GPU can show, in one command, on a machine that need not have Rust.
#
#   scripts/on-gpu.sh prepare             where Rust and nvcc are: builds and gathers the binaries in target/on-gpu
#   scripts/on-gpu.sh [OUTPUT [PATTERN]]  where the GPU is: runs them; writes OUTPUT/log.txt and OUTPUT/table.md, and packs
#                                         all of OUTPUT as OUTPUT.tar.gz, the one file to bring home
#
# Steps come in the order of what they are worth where time is short: whether answers are right, how fast the network is, what
# training takes, the same beside PyTorch, and last what only a checker of memory sees. PATTERN (a regular expression) chooses
# among their names. SECONDS_AT_MOST is what all of them may take: the one that runs then is stopped, the others are left out,
# and the table says so.
#
# The checkout must be there on both machines (tests read tests/parity/reference), with target/on-gpu copied over.
# SIMPLENET_TEST_DATA names the folder of real images and weights; the tests that want it say so where it is missing.
set -uo pipefail
cd "$(dirname "$0")/.."
binaries="target/on-gpu"
suites=(conformance parity cuda)
# Put before our own programs, and only before those: where they find cuBLASLt. PyTorch brings libraries of its own.
own=()

# lacks SUBJECT…: those that `doctor` does not find good, by commas; without words where there are none.
lacks() {
    local found subject lacking=""
    found="$("${own[@]}" "$binaries/simplenet" doctor --json)"
    for subject in "$@"; do
        [[ "$found" =~ \"subject\":\ \"$subject\",[[:space:]]*\"good\":\ true ]] || lacking+=", $subject"
    done
    echo "${lacking#, }"
}

prepare() {
    set -e
    # Named, so that a build without kernels is an error.
    if [ "${NVCC:-}" = none ]; then
        echo "NVCC=none builds without kernels, and there would be nothing to run on a GPU; unset it"
        exit 2
    elif [ -z "${NVCC:-}" ] && ! NVCC="$(command -v nvcc)"; then
        scripts/get-nvcc.sh
        NVCC="$PWD/.cuda/bin/nvcc"
    fi
    export NVCC
    cargo build --release --locked --bin simplenet
    rm -rf "$binaries"
    mkdir -p "$binaries"
    cp target/release/simplenet "$binaries/"
    for suite in "${suites[@]}"; do
        # The program itself, which the tests run, is among what cargo tells of.
        executable="$(cargo test --release --locked --test "$suite" --no-run --message-format=json \
            | sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p')"
        cp "$executable" "$binaries/$suite"
        if [[ "$("$binaries/$suite" --list)" != *gpu_*": test"* ]]; then
            echo "$executable holds no tests for a GPU"
            exit 3
        fi
    done
    strip "$binaries"/*
    "$binaries/simplenet" doctor
    if [ -n "$(lacks kernels)" ]; then
        echo "the program has no kernels, although nvcc is $NVCC"
        exit 3
    fi
    echo "gathered in $binaries: $(du -sh "$binaries" | cut -f1)"
}

if [ "${1:-}" = prepare ]; then
    prepare
    exit
fi

output="${1:-target/on-gpu-results}"
output="${output%/}"
pattern="${2:-.}"
limit="${SECONDS_AT_MOST:-0}"
if ! [[ "$limit" =~ ^[0-9]+$ ]]; then
    echo "SECONDS_AT_MOST=$limit is no number of seconds"
    exit 2
fi
[[ x =~ $pattern ]]
if [ $? = 2 ]; then
    echo "PATTERN $pattern is no regular expression"
    exit 2
fi
mkdir -p "$output"
log="$output/log.txt"
table="$output/table.md"
: >"$log"
# Of an earlier build, perhaps: rounds of two builds are not added up, and an old table is no new one.
rm -rf "$output"/beside-*
printf '| step | result | seconds |\n| --- | --- | --- |\n' >"$table"
started=0
failures=0
left_out=0

# Everything that will be needed, found or named, before anything runs.
missing=0
for binary in simplenet "${suites[@]}"; do
    if [ ! -x "$binaries/$binary" ]; then
        echo "missing: $binaries/$binary (make it with scripts/on-gpu.sh prepare, and copy the folder)"
        missing=1
    fi
done
if [ ! -d tests/parity/reference ]; then
    echo "missing: tests/parity/reference (run this from the checkout)"
    missing=1
fi
[ "$missing" = 0 ] || exit 3

# compute-sanitizer comes with the CUDA toolkit, which is not always on PATH.
sanitizer="$(command -v compute-sanitizer)"
for candidate in /usr/local/cuda*/bin/compute-sanitizer; do
    [ -n "$sanitizer" ] || [ ! -x "$candidate" ] || sanitizer="$candidate"
done
[ -n "$sanitizer" ] || echo "missing: compute-sanitizer (part of the CUDA toolkit); its steps are left out" | tee -a "$log"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# cuBLASLt may come with a Python package, which is as new as its PyTorch; with the system; or with the toolkit, which may be
# older. `ldconfig` is read to its end: cut off by a reader that has found enough, it would count as failed.
python="${PYTHON:-python3}"
mapfile -t packaged < <("$python" -c 'import nvidia, os; [print(os.path.join(p, "cu13", "lib")) for p in nvidia.__path__]' 2>/dev/null)
known_to_the_system="$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null)"
libraries=""
for folder in "${packaged[@]}" "" /usr/local/cuda*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib; do
    if [ -z "$folder" ]; then
        [[ "$known_to_the_system" != *libcublasLt.so.13* ]] || break
    elif [ -e "$folder/libcublasLt.so.13" ]; then
        # Under both of its names: the one without a version is looked for first, and may be another library's elsewhere.
        mkdir "$work/libraries"
        ln -s "$folder/libcublasLt.so.13" "$work/libraries/libcublasLt.so"
        ln -s "$folder/libcublasLt.so.13" "$work/libraries/libcublasLt.so.13"
        libraries="$work/libraries:$folder"
        own=(env "LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
        break
    fi
done
if [ -n "$libraries" ]; then
    echo "cuBLASLt from $folder" | tee -a "$log"
fi

# step NAME COMMAND…: runs it, with its output in the log and a line in the table. Fails as the command does, and where it was left out.
step() {
    local name="$1" start result milliseconds status=0 within=()
    shift
    [[ "$name" =~ $pattern ]] || return 1
    if [ "$limit" -gt 0 ]; then
        if [ "$SECONDS" -ge "$limit" ]; then
            left_out=$((left_out + 1))
            printf '| %s | left out, no time | 0 |\n' "$name" | tee -a "$table"
            return 1
        fi
        within=(timeout --kill-after=5 $((limit - SECONDS)))
    fi
    started=$((started + 1))
    printf '\n===== %s: %s\n' "$name" "$*" >>"$log"
    start="$(date +%s%3N)"
    "${within[@]}" "$@" >>"$log" 2>&1 || status=$?
    milliseconds=$(($(date +%s%3N) - start))
    # What `timeout` says of a command that it had to stop.
    if [ "$limit" -gt 0 ] && [ "$SECONDS" -ge "$limit" ] && { [ "$status" = 124 ] || [ "$status" = 137 ]; }; then
        left_out=$((left_out + 1))
        result="stopped, no time"
    elif [ "$status" = 0 ]; then
        result=passed
    else
        failures=$((failures + 1))
        result="FAILED ($status)"
    fi
    printf '| %s | %s | %d.%03d |\n' "$name" "$result" $((milliseconds / 1000)) $((milliseconds % 1000)) | tee -a "$table"
    return "$status"
}

# The tests ask for the real device by this name, find their references beside the checkout's manifest, and run this
# program: what they were compiled with lies on the machine that built them.
export SIMPLENET_TEST_GPU=1
export CARGO_MANIFEST_DIR="$PWD"
export CARGO_BIN_EXE_simplenet="$PWD/$binaries/simplenet"

{ nvidia-smi 2>/dev/null || echo "missing: nvidia-smi, or it does not run; the log does not name the driver"; } | tee -a "$log"
"${own[@]}" "$binaries/simplenet" doctor 2>&1 | tee -a "$log"
lacking="$(lacks kernels driver GPU cuBLASLt)"
if [ -n "$lacking" ]; then
    echo "nothing was run: this needs kernels, driver, GPU and cuBLASLt, and doctor does not find good: $lacking" | tee -a "$log"
    exit 3
fi
for suite in "${suites[@]}"; do
    step "$suite on the GPU" "${own[@]}" "$binaries/$suite" gpu_ --nocapture --test-threads 1
done

# bench PRECISION SCOPES OPTION…
bench() {
    local precision="$1" scopes="$2"
    shift 2
    step "bench in $precision" "${own[@]}" "$binaries/simplenet" bench --device cuda --precision "$precision" \
        --scope "$scopes" --seconds 2 "$@"
}

export SIMPLENET_CACHE_DIR="$work/cache" SIMPLENET_WEIGHTS_DIR="$work/weights"
demo() {
    step "demo, trained in $1" "${own[@]}" "$binaries/simplenet" train --device cuda --precision "$1" --output "$work/$1"
    { [ ! -f "$work/$1/results.csv" ] || cat "$work/$1/results.csv"; } | tee -a "$log"
}

if "$python" -c 'import torch, scipy, safetensors; assert torch.cuda.is_available()' 2>>"$log"; then
    has_pytorch=1
else
    has_pytorch=0
    echo "missing: PyTorch on CUDA with scipy and safetensors (benches/requirements.txt); nothing is compared with it" | tee -a "$log"
fi
# beside NAME OPTION…: this program and PyTorch in alternating rounds, as one table of ratios. A comparison that was stopped
# leaves the table of what it came to.
beside() {
    local name="$1" folder side_by_side
    shift
    [ "$has_pytorch" = 1 ] || return 0
    folder="$output/beside-$(printf %s "$name" | tr -cs a-z0-9 -)"
    side_by_side=(env SIMPLENET="$binaries/simplenet" PYTHON="$python" benches/side_by_side.sh --output "$folder")
    step "beside PyTorch: $name" "${side_by_side[@]}" --device cuda ${libraries:+--libraries "$libraries"} \
        --rounds 2 --seconds 1.5 "$@"
    [[ "beside PyTorch: $name" =~ $pattern ]] && [ -f "$folder/run.json" ] || return 0
    "${side_by_side[@]}" --table 2>>"$log"
}
networks="pytorch-eager-channels-last,pytorch-compile"

bench f16 model,files,train --stages
demo f32
if [ -d "$work/f32" ]; then
    step "demo, tested again" "${own[@]}" "$binaries/simplenet" test --device cuda --data "$work/cache/demo-v1" \
        --model "$work"/f32/*/model.safetensors --output "$work/test" \
        --fail-below i_auroc=0.95 --fail-below p_auroc=0.90
fi
for batch in 64 1 16; do
    beside "f16, batch $batch" --precision f16 --batch "$batch" --engine "$networks"
done
bench f32 model
bench tf32 model
for batch in 64 1; do
    # Apart, so that one whose check fails does not take the other with it.
    for precision in f32 tf32; do
        beside "$precision, batch $batch" --precision "$precision" --batch "$batch" --engine "$networks"
    done
done
demo tf32
demo f16
for precision in f32 tf32; do
    beside "training in $precision" --scope train --images 240 --precision "$precision"
done
if [ -n "$sanitizer" ]; then
    # The only kernel with asynchronous copies and tensor cores comes first. Errors that a call returns are no findings: some are
    # asked for. Nothing reads memory that was never written, because the tests fill every buffer: initcheck would see nothing.
    for tests in gpu_implicit::conv2d_implicit gpu_f32; do
        for tool in "memcheck --report-api-errors no" racecheck; do
            # shellcheck disable=SC2086 # the tool's options are words of their own
            step "$tests under ${tool%% *}" "${own[@]}" "$sanitizer" --tool $tool --error-exitcode 9 \
                "$binaries/conformance" "$tests" --test-threads 1
        done
    done
fi

if [ $((started + left_out)) = 0 ]; then
    echo "no step is called '$pattern'"
    exit 2
fi
echo
echo "log: $log"
if tar -C "$(dirname "$output")" -czf "$output.tar.gz" "$(basename "$output")"; then
    echo "all of it, to bring home: $output.tar.gz"
else
    failures=$((failures + 1))
    echo "$output could not be packed"
fi
[ "$left_out" = 0 ] || echo "$left_out steps were left out or stopped: SECONDS_AT_MOST is $limit"
[ "$failures" = 0 ] || echo "$failures steps failed; the log says why"
[ $((left_out + failures)) = 0 ]
