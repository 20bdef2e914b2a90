#!/usr/bin/env bash
# Installs NVIDIA's CUDA compiler for building this program, on Linux, without root, without a GPU and without a CUDA
# toolkit: about 110 MB from PyPI. A toolkit that is already installed (13.0) serves as well; then this is not needed.
#
#   scripts/get-nvcc.sh            into .cuda of the checkout, where the build looks by itself
#   scripts/get-nvcc.sh FOLDER     elsewhere: build with CUDA_HOME=FOLDER
#
# Does nothing where the same version is already installed.
set -euo pipefail

# All five parts, in one version: the compiler alone asks for newer ones of the others, and fails. Newer than 13.0
# would write PTX that drivers of the 580 series refuse.
packages="cuda-toolkit[nvcc,crt,nvvm,cudart,cccl]==13.0.2"
release="V13.0.88"

fail() { printf 'get-nvcc.sh: %s\n' "$1" >&2; exit 1; }

checkout="$(cd "$(dirname "$0")/.." && pwd)"
folder="$(realpath -m "${1:-$checkout/.cuda}")"

is_installed() { [[ "$("$folder/bin/nvcc" --version 2>/dev/null)" == *"$release"* ]]; }

if is_installed; then
    echo "nvcc ${release#V} is there: CUDA_HOME=$folder"
    exit
fi

[ "$(uname -s)" = Linux ] || fail "the wheels are for Linux; install CUDA 13.0 from https://developer.nvidia.com/cuda-toolkit-archive"
command -v python3 >/dev/null || fail "python3 is needed (Debian, Ubuntu: apt-get install python3 python3-pip)"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is needed (Debian, Ubuntu: apt-get install python3-pip)"
if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ] && [ ! -e "$folder/.get-nvcc" ]; then
    fail "$folder holds something else; name an empty folder, or remove it"
fi

echo "installing $packages; NVIDIA's EULA applies"
mkdir -p "$(dirname "$folder")"
# Beside the target, so that the last step is a rename: a download that is cut off leaves no half compiler behind.
staging="$(mktemp -d "$folder.XXXXXX")"
trap 'rm -rf "$staging"' EXIT
export PIP_USER=0 PIP_ROOT_USER_ACTION=ignore # --target and --user exclude each other
python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location \
    --target "$staging" "$packages" || fail "pip could not install $packages; its message is above"

home="$staging/nvidia/cu13"
[ -x "$home/bin/nvcc" ] || fail "the wheels hold no bin/nvcc"
mkdir "$home/wheels"
mv "$staging"/*.dist-info "$home/wheels/" # versions and licence texts
touch "$home/.get-nvcc"
rm -rf "$folder"
mv "$home" "$folder"
is_installed || fail "$folder/bin/nvcc does not run: $("$folder/bin/nvcc" --version 2>&1 | tail -n 1)"

command -v "${CXX:-g++}" >/dev/null || echo "note: nvcc also needs a C++ compiler (Debian, Ubuntu: apt-get install g++)"
# Cargo cannot watch a folder that was not there: this makes it look again.
touch "$checkout/build.rs"
echo "installed nvcc ${release#V}: CUDA_HOME=$folder"
