# shellcheck shell=bash
# Sourced by the other scripts: runs phaze_ee and changes configurations.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# usage SCRIPT: print the comment at the top of a script, which is its help.
usage() {
    sed -nE '2,/^([^#]|$)/{s/^# ?//p;}' "$1"
}

fail() {
    echo "$(basename "$0"): $1" >&2
    exit 2
}

# value FLAG "$@": the value after a flag, for "--flag VALUE".
value() {
    [[ $# -ge 3 ]] || fail "$1 needs a value; see --help"
    echo "$3"
}

# An active environment comes first: it may have been made with pip, on a machine that has uv for other things.
if [[ -n ${VIRTUAL_ENV:-${CONDA_PREFIX:-}} ]] && command -v phaze_ee >/dev/null; then
    phaze_ee_command=("$(command -v phaze_ee)")
elif command -v uv >/dev/null; then
    phaze_ee_command=(uv run --quiet --project "$repository" phaze_ee)
elif command -v phaze_ee >/dev/null; then
    phaze_ee_command=("$(command -v phaze_ee)") # its path: the name alone is the function below
else
    fail "found neither uv nor phaze_ee; install one of them (README, section Install)"
fi

# phaze_ee ARGUMENT...: show the command and run it.
phaze_ee() {
    echo "+ phaze_ee $*"
    "${phaze_ee_command[@]}" "$@"
}

# wait_for PID: wait until a background process ends. A trapped signal ends `wait` earlier, hence the loop.
wait_for() {
    while kill -0 "$1" 2>/dev/null; do
        wait "$1" || true
    done
    wait "$1"
}

# folder_of WORKSPACE PROJECT, config_of WORKSPACE PROJECT: the paths of a project and of its configuration.
folder_of() {
    echo "${PHAZE_EE_WORKSPACES:-phaze_ee/workspaces}/$1/$2"
}

config_of() {
    echo "$(folder_of "$1" "$2")/config/$2_config.py"
}

# can_go_on WORKSPACE PROJECT: whether there is a state from which the training of the project can resume.
can_go_on() {
    [[ -f $(folder_of "$1" "$2")/output/models/resume.ckpt ]]
}

# A job that is stopped after its training, and started again, continues there: a file marks that this job has trained.
# trained_mark WORKSPACE PROJECT JOB: the path of this file.
trained_mark() {
    echo "$(folder_of "$1" "$2")/output/logs/trained_by_$3"
}

# finish_trained MARK WORKSPACE PROJECT: if the file exists, run what follows the training, and exit.
finish_trained() {
    [[ -f $1 ]] || return 0
    echo "this job has trained $2/$3 already"
    phaze_ee -m chain -p "$2" "$3" -o evaluate_benchmark_plot
    exit 0
}

# mark_trained MARK: write the file.
mark_trained() {
    mkdir -p "$(dirname "$1")"
    touch "$1"
}

# override CONFIG LINE...: append lines to a configuration that override what it sets.
override() {
    local config=$1 line
    shift
    {
        printf '\n\n_as_written = set_config\n\n\ndef set_config(c):  # added by %s\n    _as_written(c)\n' "$(basename "$0")"
        for line in "$@"; do printf '    %s\n' "$line"; done
    } >>"$config"
}
