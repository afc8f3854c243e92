#!/bin/sh
#SBATCH --job-name=ztfmatch-export
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=2560M
#SBATCH --time=04:00:00
#SBATCH --kill-on-invalid-dep=yes
#
# Export the changes since the last export for Kowalski. Arguments are passed to 'ztfmatch export kowalski'.
#
#   ZTFMATCH_STORE=survey.store ZTFMATCH_EXPORTS=exports sh jobs/export.sh [OPTIONS]
#
# ZTFMATCH_STORE      the store; required
# ZTFMATCH_EXPORTS    the directory of the exports; required
# ZTFMATCH_CURSOR     what was exported last; by default cursor.json in the directory of the exports
# ZTFMATCH_MONGO_URI  the MongoDB, for --load
# ZTFMATCH_WORKERS    worker processes; by default the job's cores, or the machine's
# ZTFMATCH_MEMORY     memory budget of a worker; by default 2GiB
# ZTFMATCH            the program; by default ztfmatch
set -eu

program=${ZTFMATCH:-ztfmatch}
fail() {
    echo "export.sh: $1" >&2
    exit 2
}
command -v "$program" >/dev/null || fail "there is no program $program: install ztfmatch, or set ZTFMATCH to its path"
[ -n "${ZTFMATCH_STORE:-}" ] || fail "set ZTFMATCH_STORE to the store"
[ -n "${ZTFMATCH_EXPORTS:-}" ] || fail "set ZTFMATCH_EXPORTS to the directory of the exports"
cursor=${ZTFMATCH_CURSOR:-$ZTFMATCH_EXPORTS/cursor.json}
mkdir -p "$ZTFMATCH_EXPORTS"
workers=${ZTFMATCH_WORKERS:-${SLURM_CPUS_PER_TASK:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}}
exec "$program" export kowalski "$ZTFMATCH_STORE" "$ZTFMATCH_EXPORTS" --cursor "$cursor" \
    --workers "$workers" --memory "${ZTFMATCH_MEMORY:-2GiB}" "$@"
