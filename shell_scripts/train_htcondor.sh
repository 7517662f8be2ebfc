#!/usr/bin/env bash
# Train a project in an HTCondor job, then evaluate, benchmark and plot it; train_htcondor.sub runs this.
#
# usage: train_htcondor.sh WORKSPACE PROJECT [HOURS]
#
# The training runs one process per GPU of the job. When HTCondor evicts the job (TERM), and after HOURS, the training
# saves its state and this script ends with status 85. train_htcondor.sub keeps such a job in the queue, and the training
# resumes when the job starts again. HOURS is for pools with a time limit: give a little less.
set -euo pipefail
# shellcheck source=shell_scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [[ ${1:-} == --help ]]; then
    usage "$0"
    exit 0
fi
[[ $# -eq 2 || $# -eq 3 ]] || fail "give WORKSPACE, PROJECT and perhaps HOURS; see --help"

mark=$(trained_mark "$1" "$2" "htcondor_${PHAZE_EE_JOB:-}")
finish_trained "$mark" "$1" "$2"

IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES:-none}" # HTCondor lists the GPUs of the job here
# phaze_ee_command without its last word runs programs of the environment: "uv run …", or nothing.
launcher=("${phaze_ee_command[@]::${#phaze_ee_command[@]}-1}")
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=90 # seconds in which the processes may save their state
"${launcher[@]}" torchrun --standalone --nproc_per_node="${#gpus[@]}" -m phaze_ee -m train -p "$1" "$2" &
training=$!
stopped=
trap 'stopped=yes; kill -TERM "$training"' TERM USR1
clock=
if [[ -n ${3:-} ]]; then
    (sleep "${3}h" && kill -USR1 $$) >/dev/null 2>&1 &
    clock=$!
fi
status=0
wait_for "$training" || status=$?
trap - TERM USR1
[[ -z $clock ]] || kill "$clock" 2>/dev/null || true

# torchrun ends with 1 whatever the status of its processes: only the signal says whether to resume later.
if [[ -n $stopped && $status -ne 0 ]] && can_go_on "$1" "$2"; then
    exit 85
fi
[[ $status -eq 0 ]] || exit "$status"
[[ -z ${PHAZE_EE_JOB:-} ]] || mark_trained "$mark" # without a job, it was started by hand
phaze_ee -m chain -p "$1" "$2" -o evaluate_benchmark_plot
