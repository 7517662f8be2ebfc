#!/usr/bin/env bash
# Train four exit-loss strategies on the same jets and compare them, without asking questions.
#
# usage: compare_strategies.sh [--workspace NAME] [--prefix NAME] [--config FILE] [--epochs N]
#
#   --workspace NAME  workspace of the four projects (default: strategies)
#   --prefix NAME     names of the projects: NAME_mimic_detached, NAME_mimic_flow … (default: sample)
#   --config FILE     start from this configuration (default: a new project's, on the bundled sample jets);
#                     paths in it must be absolute or relative to the current directory
#   --epochs N        number of epochs, instead of that of the configuration
#   --help            this text
#
# Each project is trained, evaluated, benchmarked and plotted. `compare` then draws them together and prints a table
# of all exits. Projects are created in phaze_ee/workspaces in the current directory, or in $PHAZE_EE_WORKSPACES.
# Existing projects are not changed.
set -euo pipefail
# shellcheck source=shell_scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

workspace=strategies
prefix=sample
start=
epochs=
while [[ $# -gt 0 ]]; do
    case $1 in
        --help) usage "$0" && exit 0 ;;
        --workspace) workspace=$(value "$1" "$@") ;;
        --prefix) prefix=$(value "$1" "$@") ;;
        --config) start=$(value "$1" "$@") ;;
        --epochs) epochs=$(value "$1" "$@") ;;
        *) fail "unknown flag $1; see --help" ;;
    esac
    shift 2
done
[[ -z $start || -f $start ]] || fail "--config $start does not exist"

strategies=(mimic_detached mimic_flow target_detached target_flow)
projects=("${strategies[@]/#/${prefix}_}")
for project in "${projects[@]}"; do
    folder=$(folder_of "$workspace" "$project")
    [[ ! -e $folder ]] || fail "$folder exists already; choose another --workspace or --prefix"
done

for index in "${!projects[@]}"; do
    phaze_ee -m new_project -p "$workspace" "${projects[index]}"
    config=$(config_of "$workspace" "${projects[index]}")
    if [[ -n $start ]]; then
        cp "$start" "$config"
    fi
    override "$config" "c.exit_loss_strategy = '${strategies[index]}'" ${epochs:+"c.epochs = $epochs"}
done

for project in "${projects[@]}"; do
    phaze_ee -m chain -p "$workspace" "$project" -o train_evaluate_benchmark_plot
done
phaze_ee -m compare -p "$workspace" all --projects "${projects[@]}"
