#!/bin/sh
#SBATCH --job-name=ztfmatch-compact
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=2560M
#SBATCH --time=04:00:00
#SBATCH --kill-on-invalid-dep=yes
#
# Merge the small files of a store. Arguments are passed to 'ztfmatch compact'.
#
#   ZTFMATCH_STORE=survey.store sh jobs/compact.sh [OPTIONS]
#
# ZTFMATCH_STORE      the store; required
# ZTFMATCH_WORKERS    worker processes; by default the job's cores, or the machine's
# ZTFMATCH_MEMORY     memory budget of a worker; by default 2GiB
# ZTFMATCH            the program; by default ztfmatch
set -eu

program=${ZTFMATCH:-ztfmatch}
fail() {
    echo "compact.sh: $1" >&2
    exit 2
}
command -v "$program" >/dev/null || fail "there is no program $program: install ztfmatch, or set ZTFMATCH to its path"
[ -n "${ZTFMATCH_STORE:-}" ] || fail "set ZTFMATCH_STORE to the store"
workers=${ZTFMATCH_WORKERS:-${SLURM_CPUS_PER_TASK:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}}
exec "$program" compact "$ZTFMATCH_STORE" --workers "$workers" --memory "${ZTFMATCH_MEMORY:-2GiB}" "$@"
