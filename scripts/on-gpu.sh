#!/usr/bin/env bash
# Everything that only a real GPU can show, in one command, on a machine that need not have Rust.
#
#   scripts/on-gpu.sh prepare             where Rust and nvcc are: builds and gathers the binaries in target/on-gpu
#   scripts/on-gpu.sh [OUTPUT [PATTERN]]  where the GPU is: runs them; writes OUTPUT/log.txt and OUTPUT/table.md
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

prepare() {
    set -e
    cargo build --release --locked --bin simplenet
    rm -rf "$binaries"
    mkdir -p "$binaries"
    cp target/release/simplenet "$binaries/"
    for suite in "${suites[@]}"; do
        executable="$(cargo test --release --locked --test "$suite" --no-run --message-format=json \
            | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)"
        cp "$executable" "$binaries/$suite"
    done
    strip "$binaries"/*
    "$binaries/simplenet" doctor
    echo "gathered in $binaries: $(du -sh "$binaries" | cut -f1)"
}

if [ "${1:-}" = prepare ]; then
    prepare
    exit
fi

output="${1:-target/on-gpu/results}"
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

# cuBLASLt may come with the toolkit or with a Python package.
if ! PATH="$PATH:/sbin:/usr/sbin" ldconfig -p | grep -q 'libcublasLt.so.13'; then
    for folder in /usr/local/cuda*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib \
        "$(python3 -c 'import nvidia, os; print(os.path.join(list(nvidia.__path__)[0], "cu13", "lib"))' 2>/dev/null)"; do
        if [ -e "$folder/libcublasLt.so.13" ]; then
            export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
            echo "cuBLASLt from $folder" | tee -a "$log"
            break
        fi
    done
fi

# step NAME COMMAND…: runs it, with its output in the log and a line in the table. Fails if it was not run to its end.
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
    if [ "$limit" -gt 0 ] && { [ "$status" = 124 ] || [ "$status" = 137 ]; }; then
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
step "doctor" "$binaries/simplenet" doctor
for suite in "${suites[@]}"; do
    step "$suite on the GPU" "$binaries/$suite" gpu_ --nocapture --test-threads 1
done

bench() {
    step "bench in $1" "$binaries/simplenet" bench --device cuda --precision "$1" --stages --scope model,files,train
}

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export SIMPLENET_CACHE_DIR="$work/cache" SIMPLENET_WEIGHTS_DIR="$work/weights"
demo() {
    step "demo, trained in $1" "$binaries/simplenet" train --device cuda --precision "$1" --output "$work/$1"
    { [ ! -f "$work/$1/results.csv" ] || cat "$work/$1/results.csv"; } | tee -a "$log"
}

# beside NAME OPTION…: this program and PyTorch in alternating rounds, as one table of ratios.
python="${PYTHON:-python3}"
if "$python" -c 'import torch, scipy, safetensors; assert torch.cuda.is_available()' 2>>"$log"; then
    has_pytorch=1
else
    has_pytorch=0
    echo "missing: PyTorch on CUDA with scipy and safetensors (benches/requirements.txt); nothing is compared with it" | tee -a "$log"
fi
beside() {
    local name="$1"
    shift
    [ "$has_pytorch" = 1 ] || return 0
    step "beside PyTorch: $name" env SIMPLENET="$binaries/simplenet" PYTHON="$python" \
        benches/side_by_side.sh --device cuda --output "$output/beside-$name" "$@"
    [ ! -f "$output/beside-$name/table.md" ] || cat "$output/beside-$name/table.md"
}

bench f16
demo f32
if [ -d "$work/f32" ]; then
    step "demo, tested again" "$binaries/simplenet" test --device cuda --data "$work/cache/demo-v1" \
        --model "$work"/f32/*/model.safetensors --output "$work/test" \
        --fail-below i_auroc=0.95 --fail-below p_auroc=0.90
fi
beside f16 --precision f16 --batch 1,16,64
bench f32
bench tf32
demo tf32
demo f16
beside f32 --precision f32,tf32 --batch 1,16
beside training --scope train --images 240 --precision f32,tf32
if [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck initcheck; do
        step "kernels under $tool" "$sanitizer" --tool "$tool" --error-exitcode 9 \
            "$binaries/conformance" gpu_f32 --test-threads 1
    done
fi

if [ $((started + left_out)) = 0 ]; then
    echo "no step is called '$pattern'"
    exit 2
fi
echo
echo "log: $log"
[ "$left_out" = 0 ] || echo "$left_out steps were left out or stopped: SECONDS_AT_MOST is $limit"
[ "$failures" = 0 ] || echo "$failures steps failed; the log says why"
[ $((left_out + failures)) = 0 ]
