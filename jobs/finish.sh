#!/bin/sh
#SBATCH --job-name=ztfmatch-finish
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=2560M
#SBATCH --time=02:00:00
#SBATCH --kill-on-invalid-dep=yes
#
# Check the results of the units of work and commit them. Arguments are passed to 'ztfmatch finish'.
#
#   ZTFMATCH_UNITS=night sh jobs/finish.sh [OPTIONS]
#
# ZTFMATCH_UNITS    the directory of the units; required
# ZTFMATCH_WORKERS  worker processes; by default the job's cores, or the machine's
# ZTFMATCH_MEMORY   memory budget of a worker; by default 2GiB
# ZTFMATCH          the program; by default ztfmatch
set -eu

program=${ZTFMATCH:-ztfmatch}
fail() {
    echo "finish.sh: $1" >&2
    exit 2
}
command -v "$program" >/dev/null || fail "there is no program $program: install ztfmatch, or set ZTFMATCH to its path"
[ -n "${ZTFMATCH_UNITS:-}" ] || fail "set ZTFMATCH_UNITS to the directory of the units of work"
workers=${ZTFMATCH_WORKERS:-${SLURM_CPUS_PER_TASK:-$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)}}
exec "$program" finish "$ZTFMATCH_UNITS" --workers "$workers" --memory "${ZTFMATCH_MEMORY:-2GiB}" "$@"
