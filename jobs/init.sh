#!/bin/sh
#SBATCH --job-name=ztfmatch-init
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=2560M
#SBATCH --time=04:00:00
#SBATCH --kill-on-invalid-dep=yes
#
# Create a store from reference catalogs. Arguments are passed to 'ztfmatch init'.
#
#   ZTFMATCH_STORE=survey.store ZTFMATCH_REFERENCES=/data/ztf/ref sh jobs/init.sh [OPTIONS]
#
# ZTFMATCH_STORE       the store to make; required
# ZTFMATCH_REFERENCES  reference catalogs: a directory, file or glob; required
# ZTFMATCH_WORKERS     worker processes; by default the job's cores, or the machine's
# ZTFMATCH_MEMORY      memory budget of a worker; by default 2GiB
# ZTFMATCH             the program; by default ztfmatch
set -eu

program=${ZTFMATCH:-ztfmatch}
fail() {
    echo "init.sh: $1" >&2
    exit 2
}
command -v "$program" >/dev/null || fail "there is no program $program: install ztfmatch, or set ZTFMATCH to its path"
[ -n "${ZTFMATCH_STORE:-}" ] || fail "set ZTFMATCH_STORE to the store to make"
[ -n "${ZTFMATCH_REFERENCES:-}" ] || fail "set ZTFMATCH_REFERENCES to the reference catalogs: a directory, file or glob"
workers=${ZTFMATCH_WORKERS:-${SLURM_CPUS_PER_TASK:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}}
exec "$program" init "$ZTFMATCH_STORE" --references "$ZTFMATCH_REFERENCES" \
    --workers "$workers" --memory "${ZTFMATCH_MEMORY:-2GiB}" "$@"
