#!/bin/sh
#SBATCH --job-name=ztfmatch-array
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2560M
#SBATCH --time=02:00:00
#SBATCH --array=0-15
#SBATCH --kill-on-invalid-dep=yes
#
# Run the units of work written by jobs/plan.sh: each job of the array runs one share of them, however many there are.
# Arguments go to 'ztfmatch work' as they are.
#
#   ZTFMATCH_UNITS=night sbatch --export=ALL --array=0-63 jobs/array.sh [OPTIONS]
#
# ZTFMATCH_UNITS    the directory of the units; required
# ZTFMATCH_WORKERS  worker processes of a job; by default none: it works in one process
# ZTFMATCH_MEMORY   memory budget of a worker; by default 2GiB
# ZTFMATCH          the program; by default ztfmatch
set -eu

program=${ZTFMATCH:-ztfmatch}
fail() {
    echo "array.sh: $1" >&2
    exit 2
}
command -v "$program" >/dev/null || fail "there is no program $program: install ztfmatch, or set ZTFMATCH to its path"
[ -n "${ZTFMATCH_UNITS:-}" ] || fail "set ZTFMATCH_UNITS to the directory of the units of work"
number=${SLURM_ARRAY_TASK_ID:-0} jobs=${SLURM_ARRAY_TASK_COUNT:-1}
[ "${SLURM_ARRAY_TASK_MIN:-0}" -eq 0 ] && [ "${SLURM_ARRAY_TASK_MAX:-0}" -eq $((jobs - 1)) ] ||
    fail "give all jobs of the array, --array=0-N: those whose part is done end at once"
exec "$program" work "$ZTFMATCH_UNITS" --share "$number/$jobs" \
    --workers "${ZTFMATCH_WORKERS:-0}" --memory "${ZTFMATCH_MEMORY:-2GiB}" "$@"
