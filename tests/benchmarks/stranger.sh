#!/bin/sh
# A stranger's first minutes: sh tests/benchmarks/stranger.sh PLACE [WHEEL]
# A fresh environment, the package (of this tree, or a wheel), and README's way to a first lightcurve. Prints seconds.
set -eu
place=$1; package=${2:-$(cd "$(dirname "$0")/../.." && pwd)}
mkdir -p "$place"; cd "$place"
start=$(date +%s)
said() { echo "$(( $(date +%s) - start )) s: $1"; }
python3 -m venv fresh
fresh/bin/pip install -q "$package"
said "installed, $(du -sm fresh/lib/python3*/site-packages | cut -f1) MB"
PATH=$place/fresh/bin:$PATH
ztfmatch simulate sky --fields 679 --rcids 16 --filter r --visits 20 --stars 2000
ztfmatch init survey.store --references sky/references
ztfmatch append survey.store sky/catalogs --exposures sky/exposures.csv
said "own store"
id=$(ztfmatch query survey.store --where 'nobs > 10' --columns objectid --format csv 2>/dev/null | sed -n 2p)
ztfmatch lightcurve survey.store --objectid "$id" --plot star.png
said "first lightcurve, drawn"
