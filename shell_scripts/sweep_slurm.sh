#!/usr/bin/env bash
# Run one sweep in a SLURM array. Every task runs the same command.
#
# usage: sbatch --array=1-8 [SBATCH OPTIONS] shell_scripts/sweep_slurm.sh WORKSPACE PROJECT --set NAME=VALUES …
#
# Submit from the checkout, with the environment installed (uv sync --extra sweep). Arguments after PROJECT are passed to
# `phaze_ee -m sweep`: --set, --trials, --objective, --study, --storage. The tasks share the study, a file in the folder of
# the project. Each task takes the next trial until none is left, so there may be fewer tasks than trials, and tasks may
# start late. The workspaces must be on a file system that all nodes share, with locks (flock).
#
# Each task has one GPU and trains one trial at a time. A task that is preempted or runs out of time saves its trial and
# goes back into the queue. If a task dies, the next free task, or the same command later, continues its trial. Account and
# partition differ between sites; give them to sbatch.

#SBATCH --job-name=phaze_ee_sweep
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=%x_%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@180
set -euo pipefail

# SLURM runs a copy of this script from a folder of its own, so the checkout is where it was submitted.
checkout=${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
if [[ ! -f $checkout/shell_scripts/common.sh ]]; then
    echo "submitted from $checkout, which is no checkout of PHAZE-EE; submit from the checkout" >&2
    exit 2
fi
# shellcheck source=shell_scripts/common.sh
source "$checkout/shell_scripts/common.sh"

if [[ ${1:-} == --help ]]; then
    usage "$0"
    exit 0
fi
[[ $# -ge 4 ]] || fail "give WORKSPACE, PROJECT and at least one --set NAME=VALUES; see --help"
[[ -n ${SLURM_JOB_ID:-} ]] || fail "not inside a SLURM job; submit it: sbatch --array=1-8 shell_scripts/sweep_slurm.sh $*"

workspace=$1 project=$2
shift 2
# Since SLURM 22.05 srun takes the CPUs of a task from this variable, not from sbatch: the loader needs them.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

status=0
srun --kill-on-bad-exit=1 "${phaze_ee_command[@]}" -m sweep -p "$workspace" "$project" "$@" || status=$?
if [[ $status -eq 85 ]]; then # preempted; its trial is saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
