#!/usr/bin/env bash
# This program and the baselines in alternating rounds, as one table of ratios; side_by_side.py has the options (--help).
#
#   SIMPLENET=PATH   the program (default: target/release/simplenet; Rust itself is not needed)
#   PYTHON=PATH      a Python with benches/requirements.txt (default: python3)
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "$0")/side_by_side.py" "$@"
