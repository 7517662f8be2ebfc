"""A command line of weaver, read as options."""

from pathlib import Path
from typing import Any

import pytest
from weaver.train import parser

from phaze_ee.config.options import Options
from phaze_ee.config.weaver_command import LEFT_OUT, LayerPatterns, WeaverCommand, imported_arguments, read_command
from phaze_ee.errors import UsageError

FILES = "--data-train /d/train/*.root --data-val /d/val/*.root --data-config /d/jets.yaml --network-config /d/net.py"


def read(flags: str = "", *, command: str = f"weaver {FILES}") -> WeaverCommand:
    return read_command(f"{command} {flags}", parser)


def test_every_flag_of_weaver_is_imported_or_left_out_with_a_reason() -> None:
    known = {action.dest for action in parser._actions if action.dest != "help"}
    assert known == imported_arguments() - {"local_rank"}


def test_the_page_for_users_of_weaver_has_every_flag() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "FROM_WEAVER.md").read_text(encoding="utf-8")
    names = {action.option_strings[-1].replace("--no-", "--", 1) for action in parser._actions if action.dest != "help"}
    hidden = {
        "--extra-selection-val",
        "--extra-selection-test",
        "--remake-weights",
    }  # shown as -val, -test, --no-remake-…
    assert {name for name in names - hidden if f"{name}`" not in page} == set()


def test_defaults_of_weaver_are_written_out() -> None:
    assert read().options == {
        "data_config": "/d/jets.yaml",
        "network_config": "/d/net.py",
        "network_options": {},
        "init_from": None,
        "train_files": ["/d/train/*.root"],
        "val_files": ["/d/val/*.root"],
        "test_files": [],
        "epochs": 20,
        "lr": 5e-3,
        "batch_size": 128,
        "num_workers": 1,
        "use_amp": False,
        "amp_dtype": "bf16",
        "use_compile": False,
        "warm_up": 0.25,
        "optimizer": "ranger",
        "lr_schedule": "flat_decay",
        "weight_decay": 0.0,
        "gradient_clip": 0.0,
        "device": "auto",
        "use_ddp": False,
    }
    assert read().left_out == {}


@pytest.mark.parametrize(
    ("flags", "option", "value"),
    [
        ("--num-epochs 7", "epochs", 7),
        ("--start-lr 1e-2", "lr", 0.01),
        ("--lr-scheduler flat+cos --warmup-steps 100", "warm_up", 100),
        ("--lr-scheduler warmup+cos", "lr_schedule", "warm_up_cosine"),
        ("--optimizer adamW", "optimizer", "adamw"),
        ("-p weight_decay 1e-3", "weight_decay", 1e-3),
        ("--optimizer-option clip_grad_norm 2", "gradient_clip", 2.0),
        ("-o num_layers 4 --network-option fc_params '[(64, 0.1)]'", "network_options", None),
        ("--load-model-weights /d/w.pt:mod", "init_from", "/d/w.pt"),
        ("--samples-per-epoch 1000", "samples_per_epoch", 1000),
        ("--extra-selection-train 'jet_pt > 500'", "extra_selection_train", "jet_pt > 500"),
        ("--data-fraction 0.2", "data_fraction", 0.2),
        ("--gpus ''", "device", "cpu"),
        ("--backend nccl --gpus 0,1", "use_ddp", True),
        ("--data-test HToBB:/d/a.root QCD%10:/d/b.root", "test_files", ["HToBB:/d/a.root", "QCD:/d/b.root"]),
        ("--data-test root://host//store/a.root", "test_files", ["root://host//store/a.root"]),
        ("--use-amp --amp-dtype fp16", "amp_dtype", "fp16"),
    ],
)
def test_a_flag_becomes_an_option(flags: str, option: str, value: Any) -> None:
    given = read(flags).options[option]
    assert given == ({"num_layers": 4, "fc_params": [(64, 0.1)]} if option == "network_options" else value)
    Options.model_validate(read(flags).options)


@pytest.mark.parametrize(
    "start",
    ["weaver", "python train.py", "$(which weaver)", "CUDA_VISIBLE_DEVICES=0 weaver", "python -m weaver.train", ""],
)
def test_the_command_may_start_as_it_does_in_a_shell(start: str) -> None:
    assert read(command=f"{start} {FILES}").options == read().options


@pytest.mark.parametrize("program", ["$(which weaver)", "-m weaver.train"])
def test_torchrun_means_several_processes(program: str) -> None:
    assert read(command=f"torchrun --nproc_per_node=4 {program} {FILES}").options["use_ddp"]


def test_variables_and_continued_lines_are_those_of_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATADIR", "/d")
    lines = FILES.replace("/d/train", "${DATADIR}/train").replace(" --", " \\\n    --")
    assert read(command=f"weaver {lines}  # the first one").options == read().options


def test_relative_paths_are_those_of_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    options = read(command=f"weaver {FILES.replace('/d/', 'd/')}").options
    assert options["network_config"] == str(tmp_path / "d/net.py")
    assert options["train_files"] == [str(tmp_path / "d/train/*.root")]


def test_a_flag_without_an_option_is_left_out_with_the_reason() -> None:
    left_out = read("--fetch-step 0.01 --in-memory --steps-per-epoch 5 --network-option use_fusion False").left_out
    default = {"--fetch-step": LEFT_OUT["fetch_step"]}  # typed, so it is listed, though it is weaver's default
    assert left_out == {**default, "--in-memory": LEFT_OUT["in_memory"]}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--num-epoch-s 3", "weaver would refuse it: unrecognized arguments: --num-epoch-s 3, did you mean"),
        ("--num-epochz 3", "did you mean --num-epochs?"),
        ("--num-epochs many", "invalid int value: 'many'"),
        ("--regression-mode", "--regression-mode cannot be imported"),
        ("--optimizer SGD", "the optimiser SGD is not among ranger, adam, adamw"),
        ("-p betas '(0.9, 0.99)'", "the option betas of the optimiser cannot be imported"),
        ("-p weight_decay small", "--optimizer-option weight_decay 'small' is no number"),
        ("-o activation relu", "--network-option activation 'relu' is no Python literal"),
        ("--contrastive", "arguments: --contrastive; if it is a flag of a fork of weaver, remove it"),
        ("--train-kind x", "did you mean --train-val-split? If it is a flag of a fork of weaver, remove it"),
        ("--log-file $PHAZE_NOT_SET/x", "$PHAZE_NOT_SET has no value here; export the variable, or write its value"),
        ("--log-file ${PHAZE_NOT_SET:-x}", "${PHAZE_NOT_SET:-x} has no value here; export the variable, or write"),
        ("--samples-per-epoch $((2 * 512))", "$(( has no value here; write its value"),
        ("--log-file `date`", "` has no value here; write its value"),
        ('"${@:2}" --exclude-model-weights "fc.*$"', "${@:2} has no value here"),
        ("&& weaver --predict", "give one command of weaver"),
        ("> log.txt 2>&1 &", "give one command of weaver"),
        ("2>&1 | tee log.txt", "give one command of weaver"),
        ("'", "No closing quotation"),
    ],
)
def test_what_cannot_be_imported_is_said(flags: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(flags)
    assert words in str(caught.value)
    assert str(caught.value).startswith("--command: ")


@pytest.mark.parametrize("missing", ["--data-train", "--data-config", "--network-config"])
def test_a_missing_file_is_named(missing: str) -> None:
    words = FILES.split()
    first = words.index(missing)
    with pytest.raises(UsageError, match=missing):
        read(command=" ".join(["weaver", *words[:first], *words[first + 2 :]]))


@pytest.mark.parametrize(
    ("flags", "share"), [("", 0.2), ("--train-val-split 0.9", 0.1), ("--train-val-split 0.65", 0.35)]
)
def test_without_validation_files_the_last_rows_of_the_training_files_validate(flags: str, share: float) -> None:
    found = read(flags, command=f"weaver {FILES.replace('--data-val /d/val/*.root', '')}")
    assert found.options["val_files"] == []
    assert found.options["validation_share"] == share
    assert not found.left_out
    Options.model_validate(found.options)


def test_a_split_beside_validation_files_is_left_out() -> None:
    found = read("--train-val-split 0.9")
    assert "validation_share" not in found.options
    assert list(found.left_out) == ["--train-val-split"]


def test_a_split_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--train-val-split is 1 and there is no --data-val; give a number between"):
        read("--train-val-split 1", command=f"weaver {FILES.replace('--data-val /d/val/*.root', '')}")


def test_patterns_of_layers_are_read() -> None:
    found = read(
        "-p lr_mult '(\"fc.*\", 50)' --load-model-weights /d/w.pt:net --exclude-model-weights mod.fc,mod.x "
        "--freeze-model-weights mod.embed"
    )
    assert found.layers == LayerPatterns(("mod.fc", "mod.x"), ("mod.embed",), {"fc.*": 50.0}, "net")
    assert read().layers == LayerPatterns()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ('-p lr_mult \'("fc", "x")\'', '--optimizer-option lr_mult \'("fc", "x")\' is no pattern with a number'),
        ("-p lr_mult 5", "is no pattern with a number; give it as in '(\"fc.*\", 50)'"),
        ("--freeze-model-weights 'mod.('", "'mod.(' is no regular expression"),
    ],
)
def test_patterns_that_cannot_be_read_are_refused(flags: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(flags)
    assert words in str(caught.value)
