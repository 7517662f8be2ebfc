#!/usr/bin/env bash
# Download JetClass (Zenodo record 6619768, CC-BY 4.0) and unpack it for PHAZE-EE. See --help.
set -euo pipefail

BASE_URL=${JETCLASS_URL:-https://zenodo.org/records/6619768/files}
API_URL=${JETCLASS_API_URL:-https://zenodo.org/api/records/6619768}
TARGET=phaze_ee/workspaces/test_workspace/data
CHOICE=""
LIST_FILE=""
DRY_RUN=0
EXTRACT=1
KEEP_ARCHIVES=0

# 100M training jets in ten parts, 5M for validation, 20M for the test
TRAINING=(JetClass_Pythia_train_100M_part{0..9}.tar)
VALIDATION=(JetClass_Pythia_val_5M.tar)
TEST=(JetClass_Pythia_test_20M.tar)

# MD5 sums as the record lists them; get_datasets.py of github.com/jet-universe/particle_transformer has the same.
declare -A PUBLISHED_MD5=(
    [JetClass_Pythia_train_100M_part0.tar]=de4fd2dca2e68ab3c85d5cfd3bcc65c3
    [JetClass_Pythia_train_100M_part1.tar]=9722a359c5ef697bea0fbf79bf50f003
    [JetClass_Pythia_train_100M_part2.tar]=1e9f66cd1f915f9d10e90ae1d7761720
    [JetClass_Pythia_train_100M_part3.tar]=47348fc8985319fa4806da87500482fa
    [JetClass_Pythia_train_100M_part4.tar]=6b0ce16bd93b442a8d51914466990279
    [JetClass_Pythia_train_100M_part5.tar]=416e347512e716de51d392bee327b8e9
    [JetClass_Pythia_train_100M_part6.tar]=e9b9c1557b1b39bf0a16e4ab631ae451
    [JetClass_Pythia_train_100M_part7.tar]=5bfc6cb285ccb7680cefa9ac82ad1a2e
    [JetClass_Pythia_train_100M_part8.tar]=540c1a0d66dfad78d2b363c5740ccf86
    [JetClass_Pythia_train_100M_part9.tar]=668f40b3275167ff7104c48317c0ae2a
    [JetClass_Pythia_val_5M.tar]=7235ccb577ed85023ea3ab4d5e6160cf
    [JetClass_Pythia_test_20M.tar]=64e5156d26d101adeb43b8388207d767
)

usage() {
    cat <<'HELP'
Usage: bash shell_scripts/download_jetclass.sh [CHOICE] [options]

Choices (without one, the script asks, in a terminal):
  --full            all training, validation and test files
  --quick           only the 5M validation jets, all ten classes: enough to try things out
  --list FILE       the archives named in FILE, one per line, as "NAME" or as "MD5  NAME" (md5sum format)

Options:
  --target DIR      folder to write to (default: phaze_ee/workspaces/test_workspace/data)
                    the jets go to DIR/root; DIR/h5 and DIR/parquet are created for converted files
  --keep-archives   keep the .tar files after unpacking
  --no-extract      download and check only
  --dry-run         show what would be done, with sizes, and stop
  -h, --help        this text

The same command resumes an interrupted download. Each archive is checked against its MD5 sum: from FILE, else from the
API of the record, else as this script has it. JETCLASS_URL and JETCLASS_API_URL replace the server by a mirror.
Exit status: 0 all files are complete and checked, 1 a download or check failed, 2 wrong usage.
HELP
}

note() { printf '%s\n' "$*"; }
fail() { printf 'download_jetclass: %s\n' "$*" >&2; exit "${STATUS:-1}"; }
misuse() { STATUS=2 fail "$* (see --help)"; }

parse_arguments() {
    while (($#)); do
        case $1 in
            --full | --quick) CHOICE=${1#--} ;;
            --list) (($# > 1)) || misuse "--list needs a file"; CHOICE=list LIST_FILE=$2; shift ;;
            --target) (($# > 1)) || misuse "--target needs a folder"; TARGET=$2; shift ;;
            --keep-archives) KEEP_ARCHIVES=1 ;;
            --no-extract) EXTRACT=0 KEEP_ARCHIVES=1 ;;
            --dry-run) DRY_RUN=1 ;;
            -h | --help) usage; exit 0 ;;
            *) misuse "unknown argument $1" ;;
        esac
        shift
    done
}

ask_choice() {
    [[ -t 0 ]] || misuse "choose --full, --quick or --list FILE"
    local answer
    note "Which part of JetClass?" "  1) full dataset" "  2) quick start: validation jets only" "  3) own list of archives"
    read -r -p "Choice [1-3]: " answer
    case $answer in
        1) CHOICE=full ;;
        2) CHOICE=quick ;;
        3) CHOICE=list; read -r -p "File with the names: " LIST_FILE ;;
        *) misuse "no such choice: $answer" ;;
    esac
}

# Fills NAMES and, if the list has the sums, the associative array MD5.
choose_files() {
    declare -gA MD5=() SIZE=()
    NAMES=()
    case $CHOICE in
        full) NAMES=("${TRAINING[@]}" "${VALIDATION[@]}" "${TEST[@]}") ;;
        quick) NAMES=("${VALIDATION[@]}") ;;
        list) read_list ;;
    esac
}

read_list() {
    [[ -r $LIST_FILE ]] || misuse "cannot read the list $LIST_FILE"
    local first second
    while read -r first second || [[ -n $first ]]; do
        [[ -z $first || $first == \#* ]] && continue
        if [[ -n $second ]]; then
            second=${second#\*}
            MD5[$second]=$first
            first=$second
        fi
        [[ $first == */* || $first == .* ]] && misuse "$LIST_FILE: not a plain file name: $first"
        NAMES+=("$first")
    done <"$LIST_FILE"
    ((${#NAMES[@]})) || misuse "$LIST_FILE names no file"
}

# Ask the API of the record for sizes and checksums, as lines "name md5 bytes".
read_record() {
    local record errors reason
    errors=$(mktemp)
    if ! record=$(curl -fsSL --retry 3 "$API_URL" 2>"$errors"); then
        reason=$(tail -n 1 "$errors") # curl repeats its message at every attempt
        rm "$errors"
        note "warning: no answer from $API_URL (${reason:-curl gives no reason}); sizes are those published, rounded"
        return 0
    fi
    rm "$errors"
    local name sum bytes
    while read -r name sum bytes; do
        SIZE[$name]=$bytes
        : "${MD5[$name]:=$sum}"
    done < <(python3 -c '
import json, sys
for entry in json.load(sys.stdin)["files"]:
    print(entry["key"], entry["checksum"].removeprefix("md5:"), entry["size"])
' <<<"$record")
}

# published_size NAME: the size in bytes, rounded to 0.1 GB; nothing for an archive that this script does not know.
published_size() {
    case $1 in
        JetClass_Pythia_train_100M_part?.tar) echo 15200000000 ;;
        JetClass_Pythia_val_5M.tar) echo 7600000000 ;;
        JetClass_Pythia_test_20M.tar) echo 30400000000 ;;
    esac
}

# size_of NAME: the size from the API, else as published; nothing if it is unknown.
size_of() { echo "${SIZE[$1]:-$(published_size "$1")}"; }

# human BYTES: in GB; "size unknown" without a number.
human() { awk -v bytes="$1" 'BEGIN { if (bytes == "") printf "size unknown"; else printf "%.1f GB", bytes / 1e9 }'; }

# Bytes that are still to be written: archives, and unpacked files of about the same size.
bytes_needed() {
    local total=0 largest=0 name size have
    for name in "${NAMES[@]}"; do
        size=$(size_of "$name")
        have=0
        [[ -f $TARGET/$name ]] && have=$(wc -c <"$TARGET/$name")
        [[ -f $TARGET/.$name.done ]] && continue
        total=$((total + ${size:-0} * (KEEP_ARCHIVES ? 1 + EXTRACT : 1) - have))
        ((${size:-0} > largest)) && largest=$size
    done
    ((KEEP_ARCHIVES)) || total=$((total + largest)) # an archive stays until it is unpacked
    printf '%d\n' "$total"
}

check_space() {
    local parent=$TARGET needed free name wanted
    while [[ ! -d $parent ]]; do parent=$(dirname "$parent"); done
    needed=$(bytes_needed)
    free=$(($(df -Pk "$parent" | awk 'NR == 2 { print $4 }') * 1024))
    wanted=$(human "$needed")
    for name in "${NAMES[@]}"; do [[ -n $(size_of "$name") ]] || wanted=unknown; done
    note "Space needed: $wanted, free in $parent: $(human "$free")"
    ((needed <= free)) && return
    local advice="not enough space: free $(human $((needed - free))) more, or choose another --target"
    if ((DRY_RUN)); then note "$advice"; else fail "$advice"; fi
}

download() {
    local name=$1 url=$BASE_URL/$1
    [[ $BASE_URL == *zenodo.org* ]] && url+="?download=1"
    note "Downloading $name"
    local have=0
    [[ -f $TARGET/$name ]] && have=$(wc -c <"$TARGET/$name")
    if [[ -n ${SIZE[$name]:-} && $have -eq ${SIZE[$name]} ]]; then return 0; fi
    curl -fL --retry 5 --retry-delay 10 -C - -o "$TARGET/$name" "$url" \
        || fail "download of $name stopped; run the same command again to resume it"
}

check_sum() {
    local name=$1 wanted=${MD5[$1]:-${PUBLISHED_MD5[$1]:-}} found
    [[ -n $wanted ]] || fail "no MD5 sum known for $name; give it in a --list file (MD5  NAME)"
    found=$(md5sum "$TARGET/$name" | cut -d ' ' -f 1)
    [[ $found == "$wanted" ]] && return 0
    mv "$TARGET/$name" "$TARGET/$name.bad"
    fail "$name is damaged (MD5 $found, expected $wanted); it is now $name.bad; run the command again to download a new copy"
}

unpack() {
    local name=$1
    ((EXTRACT)) || return 0
    tar -xf "$TARGET/$name" -C "$TARGET/root" || fail "cannot unpack $name"
    : >"$TARGET/.$name.done"
    ((KEEP_ARCHIVES)) || rm "$TARGET/$name"
}

fetch_all() {
    local name
    mkdir -p "$TARGET/root" "$TARGET/h5" "$TARGET/parquet"
    for name in "${NAMES[@]}"; do
        if [[ -f $TARGET/.$name.done ]]; then
            note "$name is already here"
            continue
        fi
        download "$name"
        check_sum "$name"
        unpack "$name"
    done
}

main() {
    parse_arguments "$@"
    [[ -n $CHOICE ]] || ask_choice
    choose_files
    read_record
    local name
    for name in "${NAMES[@]}"; do
        note "  $name  $(human "$(size_of "$name")")  ${MD5[$name]:-${PUBLISHED_MD5[$name]:-no checksum}}"
    done
    check_space
    if ((DRY_RUN)); then
        note "Dry run: nothing downloaded. Source: $BASE_URL, target: $TARGET"
        return 0
    fi
    fetch_all
    note "Done. Files are in $TARGET/root; use for example c.train_files = [\"$TARGET/root/**/*.root\"]"
}

main "$@"
