#!/bin/sh
#SBATCH --job-name=ztfmatch-nightly
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=2560M
#SBATCH --time=06:00:00
#SBATCH --kill-on-invalid-dep=yes
#
# Run all steps of a night: append, statistics, transients, export. Arguments are passed to 'ztfmatch nightly'.
#
#   ZTFMATCH_STORE=survey.store sh jobs/nightly.sh CATALOGS... [OPTIONS]
#
# ZTFMATCH_STORE      the store; required
# ZTFMATCH_NIGHTLY    configuration of the night, such as jobs/nightly.toml; by default none, so that nothing is exported
# ZTFMATCH_MONGO_URI  the MongoDB, where the configuration says to load
# ZTFMATCH_WORKERS    worker processes; by default the job's cores, or the machine's
# ZTFMATCH_MEMORY     memory budget of a worker; by default 2GiB
# ZTFMATCH            the program; by default ztfmatch
set -eu

program=${ZTFMATCH:-ztfmatch}
fail() {
    echo "nightly.sh: $1" >&2
    exit 2
}
command -v "$program" >/dev/null || fail "there is no program $program: install ztfmatch, or set ZTFMATCH to its path"
[ -n "${ZTFMATCH_STORE:-}" ] || fail "set ZTFMATCH_STORE to the store"
[ $# -gt 0 ] || fail "name the catalogs: files, directories or globs"
[ -z "${ZTFMATCH_NIGHTLY:-}" ] || set -- --config "$ZTFMATCH_NIGHTLY" "$@"
workers=${ZTFMATCH_WORKERS:-${SLURM_CPUS_PER_TASK:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}}
exec "$program" nightly "$ZTFMATCH_STORE" --workers "$workers" --memory "${ZTFMATCH_MEMORY:-2GiB}" "$@"
