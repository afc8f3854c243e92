#!/usr/bin/env bash
# Run tests with the lowest declared version of every dependency, and so find out whether the declared bounds are true.
#
#     tests/lowest.sh [--core] [--python VERSION] [PYTEST ARGUMENTS]
#
# --core       Only the core's dependencies: numpy and others are then older than the tests' own oracles allow. Without
#              arguments it runs the demonstration and no test; tests must need pytest and Hypothesis alone.
# --python     A version that uv finds, or a path (3.11 by default): of another one the lowest releases that have wheels for it.
#
# What is declared is resolved by uv, each direct dependency as low as it may be and has a wheel. Warnings are not
# errors here: old releases warn of what newer ones of others have deprecated.
set -euo pipefail
cd "$(dirname "$0")/.."

core=false
python=3.11
while [[ "${1:-}" == --core || "${1:-}" == --python ]]; do
  if [ "$1" = --core ]; then core=true; else python=$2; shift; fi
  shift
done
extra=(--extra test)
if $core; then extra=(); fi

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
uv venv --quiet --python "$python" "$place/venv"
bin=$place/venv/bin
uv pip compile pyproject.toml "${extra[@]}" --quiet --resolution lowest-direct --only-binary :all: \
  --python "$bin/python" --output-file "$place/lowest.txt" >/dev/null
uv pip install --quiet --python "$bin/python" --requirement "$place/lowest.txt"
uv pip install --quiet --python "$bin/python" --no-deps .
uv pip list --python "$bin/python"

export NUMBA_CACHE_DIR=$place/kernels
if $core; then
  uv pip install --quiet --python "$bin/python" --constraint "$place/lowest.txt" pytest pytest-timeout pytest-xdist hypothesis
  "$bin/ztfmatch" --version
  (cd "$place" && "$bin/ztfmatch" demo)
fi
if ! $core || [ $# -gt 0 ]; then
  "$bin/python" -m pytest -W default -p no:cacheprovider "$@"
fi
