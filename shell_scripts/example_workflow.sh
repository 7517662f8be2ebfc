#!/usr/bin/env bash
# Run the modes of a project one at a time, as in the README.
#
# usage: example_workflow.sh [--workspace NAME] [--project NAME] [--epochs N]
#
#   --workspace NAME  workspace (default: example)
#   --project NAME    project, which must not exist yet (default: first)
#   --epochs N        number of epochs, instead of that of a new project
#   --help            this text
#
# The project uses the bundled sample jets. It is created in phaze_ee/workspaces in the current directory, or in
# $PHAZE_EE_WORKSPACES.
set -euo pipefail
# shellcheck source=shell_scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

workspace=example
project=first
epochs=
while [[ $# -gt 0 ]]; do
    case $1 in
        --help) usage "$0" && exit 0 ;;
        --workspace) workspace=$(value "$1" "$@") ;;
        --project) project=$(value "$1" "$@") ;;
        --epochs) epochs=$(value "$1" "$@") ;;
        *) fail "unknown flag $1; see --help" ;;
    esac
    shift 2
done

phaze_ee -m new_project -p "$workspace" "$project"
if [[ -n $epochs ]]; then
    override "$(config_of "$workspace" "$project")" "c.epochs = $epochs"
fi
for mode in train evaluate benchmark plot; do
    phaze_ee -m "$mode" -p "$workspace" "$project"
done
