#!/bin/sh
#SBATCH --job-name=ztfmatch-vacuum
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2560M
#SBATCH --time=04:00:00
#SBATCH --kill-on-invalid-dep=yes
#
# Delete files that no retained snapshot of a store uses. Arguments are passed to 'ztfmatch vacuum'.
#
#   ZTFMATCH_STORE=survey.store sh jobs/vacuum.sh [OPTIONS]
#
# ZTFMATCH_STORE      the store; required
# ZTFMATCH_KEEP       snapshots to keep, the newest included; by default 30
# ZTFMATCH            the program; by default ztfmatch
set -eu

program=${ZTFMATCH:-ztfmatch}
fail() {
    echo "vacuum.sh: $1" >&2
    exit 2
}
command -v "$program" >/dev/null || fail "there is no program $program: install ztfmatch, or set ZTFMATCH to its path"
[ -n "${ZTFMATCH_STORE:-}" ] || fail "set ZTFMATCH_STORE to the store"
exec "$program" vacuum "$ZTFMATCH_STORE" --keep "${ZTFMATCH_KEEP:-30}" "$@"
