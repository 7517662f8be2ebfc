#!/usr/bin/env bash
# Train a project on the GPUs of one or more SLURM nodes, then evaluate, benchmark and plot it.
#
# usage: sbatch [SBATCH OPTIONS] shell_scripts/train_a100.sh WORKSPACE PROJECT
#
# Submit from the checkout, with the environment installed (uv sync). The project must exist; its batch_size is per GPU.
# More nodes: sbatch --nodes=4. Account, partition and the name of the GPU type differ between sites; give them to
# sbatch, for example --account=atlas --partition=gpu --gpus-per-node=a100:4. For nodes with another number of GPUs,
# give that number to --ntasks-per-node and to --gpus-per-node.
#
# Each task is one process of the training, with one GPU. Two minutes before the time limit, and when the job is
# preempted, the training saves its state, and the job goes back into the queue and resumes later. If a node fails, the
# work since the last state (c.resume_interval) is lost. A training that fails is not started again. Workspaces must be
# on a file system that all nodes share.

#SBATCH --job-name=phaze_ee
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=%x_%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
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
[[ $# -eq 2 ]] || fail "give WORKSPACE and PROJECT; see --help"
[[ -n ${SLURM_JOB_ID:-} ]] || fail "not inside a SLURM job; submit it: sbatch shell_scripts/train_a100.sh $1 $2"

mark=$(trained_mark "$1" "$2" "slurm_$SLURM_JOB_ID")
finish_trained "$mark" "$1" "$2"

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_node=${nodes%%$'\n'*} # no pipe to head: the closed pipe sometimes kills scontrol
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs may share a node
tasks=$((SLURM_NTASKS / SLURM_JOB_NUM_NODES))
gpus=${SLURM_GPUS_ON_NODE:-$tasks}
[[ $gpus -eq $tasks ]] || fail "$tasks tasks but $gpus GPUs a node; give both numbers: sbatch --ntasks-per-node=$gpus --gpus-per-node=$gpus"
echo "$SLURM_JOB_NUM_NODES nodes with $tasks processes, which meet at $head_node:$port"

# srun would kill the tasks on TERM, so USR1, which reaches only this script (B:), makes scancel send TERM to them. If
# SLURM itself sends TERM, the tasks get it too.
stopped=
trap 'stopped=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1
trap 'stopped=yes' TERM

# Since SLURM 22.05 srun takes the CPUs of a task from this variable, not from sbatch: the loader needs them.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

# The variables that torchrun would set, without its agent between the signals and the training.
# shellcheck disable=SC2016 # expanded in each task
as_process='RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID GROUP_RANK=$SLURM_NODEID exec "$@"'
WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$tasks GROUP_WORLD_SIZE=$SLURM_JOB_NUM_NODES \
    MASTER_ADDR=$head_node MASTER_PORT=$port TORCHELASTIC_RUN_ID=$SLURM_JOB_ID \
    srun --kill-on-bad-exit=1 bash -c "$as_process" task "${phaze_ee_command[@]}" -m train -p "$1" "$2" &
status=0
wait_for "$!" || status=$?

# srun ends with the status of the process that ended worst: only the signal says whether to resume later.
if [[ -n $stopped && $status -ne 0 ]] && can_go_on "$1" "$2"; then
    echo "stopped; back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
[[ $status -eq 0 ]] || exit "$status"

trap - USR1 TERM
mark_trained "$mark"
phaze_ee -m chain -p "$1" "$2" -o evaluate_benchmark_plot
