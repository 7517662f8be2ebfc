#!/usr/bin/env bash
# Train a project on the GPUs of one or more SLURM nodes, then evaluate, benchmark and plot it.
#
# usage: sbatch [SBATCH OPTIONS] shell_scripts/train_a100.sh WORKSPACE PROJECT
#
# Submit from the checkout, with the environment installed (uv sync). The project must exist; its batch_size is per GPU.
# More nodes: sbatch --nodes=4. Account, partition and the name of the GPU type differ between sites; give them to
# sbatch, for example --account=atlas --partition=gpu --gpus-per-node=a100:4.
#
# One task per node runs torchrun, and torchrun starts one process per GPU. Two minutes before the time limit, and when
# the job is preempted, the training saves its state, and the job goes back into the queue and resumes later. If a node
# fails, the work since the last state (c.resume_interval) is lost. A training that fails is not started again.
# Workspaces must be on a file system that all nodes share.

#SBATCH --job-name=phaze_ee
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=%x_%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
set -euo pipefail

# SLURM runs a copy of this script from a folder of its own, so the checkout is where it was submitted.
checkout=${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
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
echo "$SLURM_JOB_NUM_NODES nodes with $SLURM_GPUS_ON_NODE GPUs, rendezvous at $head_node:$port"

# USR1 reaches only this script (B:). It would kill torchrun and leave its processes running; torchrun forwards TERM to
# them. srun would kill the tasks on TERM, so scancel sends it to them. If SLURM itself sends TERM, the tasks get it too.
stopped=
trap 'stopped=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1
trap 'stopped=yes' TERM

# phaze_ee_command without its last word runs programs of the environment: "uv run …", or nothing.
launcher=("${phaze_ee_command[@]::${#phaze_ee_command[@]}-1}")
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=90 # seconds in which the processes may save their state
srun --kill-on-bad-exit=1 "${launcher[@]}" torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" \
    --nproc_per_node="$SLURM_GPUS_ON_NODE" \
    --rdzv_backend=c10d \
    --rdzv_id="$SLURM_JOB_ID" \
    --rdzv_endpoint="$head_node:$port" \
    -m phaze_ee -m train -p "$1" "$2" &
status=0
wait_for "$!" || status=$?

# torchrun ends with 1 whatever the status of its processes: only the signal says whether to resume later.
if [[ -n $stopped && $status -ne 0 ]] && can_go_on "$1" "$2"; then
    echo "stopped; back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
[[ $status -eq 0 ]] || exit "$status"

trap - USR1 TERM
mark_trained "$mark"
phaze_ee -m chain -p "$1" "$2" -o evaluate_benchmark_plot
