#!/bin/sh
#SBATCH --job-name=ztfmatch-append
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=2560M
#SBATCH --time=02:00:00
#SBATCH --kill-on-invalid-dep=yes
#
# Ingest epochal catalogs into a store, night by night. Arguments are passed to 'ztfmatch append'.
#
#   ZTFMATCH_STORE=survey.store sh jobs/append.sh CATALOGS... [OPTIONS]
#
# ZTFMATCH_STORE      the store to append to; required
# ZTFMATCH_EXPOSURES  table of exposure metadata that the headers lack; none by default
# ZTFMATCH_WORKERS    worker processes; by default the job's cores, or the machine's
# ZTFMATCH_MEMORY     memory budget of a worker; by default 2GiB
# ZTFMATCH            the program; by default ztfmatch
set -eu

program=${ZTFMATCH:-ztfmatch}
fail() {
    echo "append.sh: $1" >&2
    exit 2
}
command -v "$program" >/dev/null || fail "there is no program $program: install ztfmatch, or set ZTFMATCH to its path"
[ -n "${ZTFMATCH_STORE:-}" ] || fail "set ZTFMATCH_STORE to the store to append to"
[ $# -gt 0 ] || fail "name the catalogs: files, directories or globs"
[ -z "${ZTFMATCH_EXPOSURES:-}" ] || set -- --exposures "$ZTFMATCH_EXPOSURES" "$@"
workers=${ZTFMATCH_WORKERS:-${SLURM_CPUS_PER_TASK:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}}
exec "$program" append "$ZTFMATCH_STORE" --workers "$workers" --memory "${ZTFMATCH_MEMORY:-2GiB}" "$@"
