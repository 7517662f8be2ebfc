"""What weaver's command line means in options of a configuration."""

import argparse
import ast
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, final

from phaze_ee.errors import UsageError
from phaze_ee.names import nearest
from phaze_ee.workspace import home_path

_PROGRAMS = ("weaver", "train.py", "weaver.train")
_LAUNCHERS = ("torchrun", "torch.distributed.run", "torch.distributed.launch")
_OF_A_SHELL = re.compile(r"\$\{[^}]*\}?|\$\w+|\$\(+|`")  # what a shell would replace
_REDIRECTS = re.compile(r"&|\d*>")
_OPTIMIZERS = {"ranger": "ranger", "adam": "adam", "adamw": "adamw"}
_OPTIMIZER_OPTIONS = ("weight_decay", "clip_grad_norm", "lr_mult")
_SCHEDULES = {
    "flat+decay": "flat_decay",
    "flat+linear": "flat_linear",
    "flat+cos": "flat_cosine",
    "warmup+cos": "warm_up_cosine",
    "one-cycle": "one_cycle",
    "steps": "steps",
    "none": "none",
}
# Arguments of weaver that become an option as they are.
_DIRECT = {
    "num_epochs": "epochs",
    "start_lr": "lr",
    "batch_size": "batch_size",
    "steps_per_epoch": "steps_per_epoch",
    "samples_per_epoch": "samples_per_epoch",
    "num_workers": "num_workers",
    "use_amp": "use_amp",
    "amp_dtype": "amp_dtype",
    "compile": "use_compile",
    "warmup_steps": "warm_up",
}
# Arguments that are an option of the same name, where they are given.
_SAME = (
    "extra_selection_train", "extra_selection_val", "extra_selection_test",
    "data_fraction", "data_fraction_val", "file_fraction",
)  # fmt: skip
# Arguments that are left out, and why or what to use instead.
LEFT_OUT = {
    "run_mode": "the mode of the command line says what runs: -m train, evaluate, predict",
    "data_config_val": "validation uses the data configuration of the training",
    "data_config_test": "a model keeps the data configuration of its training",
    "data_split_num": "memory does not grow with the size of a file",
    "data_split_val": "memory does not grow with the size of a file",
    "train_val_split": "beside --data-val it only limits the validation steps; here validation reads every jet once",
    "fetch_by_files": "jets are drawn from all files",
    "fetch_step": "jets are drawn from all files",
    "fetch_step_val": "validation reads every jet once",
    "in_memory": "use -m convert: its cache is read from memory",
    "in_memory_val": "use -m convert: its cache is read from memory",
    "no_remake_weights": "weights are made from the training files, or are those of the data configuration",
    "demo": "use c.samples_per_epoch for a short epoch",
    "lr_finder": "use -m find_lr",
    "tensorboard": "logs are always written; c.tensorboard = False turns them off",
    "tensorboard_custom_fn": "there is no such hook",
    "custom_functions": "write the expressions out in the data configuration",
    "model_prefix": "the project keeps its models; to add exits to weaver's, use -m retrofit",
    "load_epoch": "a state of weaver's training cannot be resumed; c.init_from takes its weights",
    "steps_per_epoch_val": "validation reads every jet once",
    "samples_per_epoch_val": "validation reads every jet once",
    "batch_size_val": "validation chooses its own batches",
    "batch_size_test": "evaluation and prediction choose their own batches",
    "compiler_option": "torch.compile has its defaults",
    "compile_optimizer": "the optimiser is not compiled",
    "predict_gpus": "set c.device",
    "prefetch_factor": "batches are made ahead without it",
    "predict": "use -m predict",
    "predict_output": "use -m predict --output FOLDER",
    "export_onnx": "use -m export",
    "onnx_opset": "use -m export",
    "io_test": "use benchmarks/data.py",
    "copy_inputs": "copy the files first, or use -m convert",
    "log": "redirect the output",
    "print": "use -m benchmark",
    "profile": "use a profiler of your own",
    "backend": "NCCL on GPUs, Gloo without",
    "cross_validation": "make one project for each fold, with a selection of its own",
    "auto_clean": "c.save_interval says which checkpoints stay",
    "local_rank": "torchrun sets it",
}
# Arguments that take more than one line.
_READ = (
    "data_train", "data_val", "data_test", "data_config", "network_config", "network_option", "load_model_weights",
    "exclude_model_weights", "freeze_model_weights", "optimizer", "optimizer_option", "lr_scheduler", "gpus",
)  # fmt: skip
_REFUSED = {"regression_mode": "PHAZE-EE trains classifiers; a regression alone has no exits that can be judged"}


@final
@dataclass(frozen=True)
class WeaverCommand:
    """A command of weaver, read.

    Attributes:
        options: options of a configuration. weaver's defaults are written out where ours differ.
        left_out: the flags that were given and have no option, each with the reason or what to do instead.
        layers: which parameters learn otherwise, or start afresh.
    """

    options: dict[str, Any]
    left_out: dict[str, str]
    layers: "LayerPatterns"


@final
@dataclass(frozen=True)
class LayerPatterns:
    """Parameters by regular expressions, which match the beginnings of their names in the network of weaver.

    Attributes:
        excluded: those that the file with weights does not set.
        frozen: those that do not learn.
        factors: the learning rate of others relative to ``lr``.
        prefix: of the names in the file with weights that are read; empty: all are.
    """

    excluded: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)
    prefix: str = ""


def read_command(command: str, parser: argparse.ArgumentParser) -> WeaverCommand:
    """Read a command line of weaver, as it is typed in a shell.

    Args:
        command: with or without ``weaver`` or ``torchrun …`` in front. Variables of the environment are expanded.
        parser: the parser of weaver's command line.

    Raises:
        UsageError: it is not one command of weaver, or asks for something that cannot be imported.
    """
    launcher, words = _split(command)
    given = _parse(parser, words)
    values, defaults = vars(given), vars(_parse(parser, []))
    for name, reason in _REFUSED.items():
        if values[name]:
            raise UsageError(f"--command: {_flag(parser, name)} cannot be imported: {reason}")
    distributed = given.backend is not None or any(name in word for word in launcher for name in _LAUNCHERS)
    options = {
        **{ours: values[name] for name, ours in _DIRECT.items() if values[name] is not None},
        **{name: values[name] for name in _SAME if values[name] != defaults[name]},
        **_files(given),
        **_network(given),
        **_optimizer(given),
        **_device(given, distributed=distributed),
    }
    typed = _typed(parser, words) - (set() if given.data_val else {"train_val_split"})
    left_out = {_flag(parser, name): why for name, why in LEFT_OUT.items() if name in typed}
    return WeaverCommand(options, left_out, _layers(given))


def imported_arguments() -> frozenset[str]:
    """Return the arguments of weaver that have a meaning here, or a reason why they have none."""
    return frozenset({*_DIRECT, *_SAME, *LEFT_OUT, *_REFUSED, *_READ})


def _split(command: str) -> tuple[list[str], list[str]]:
    """Return the words up to weaver's name, and its arguments."""
    try:
        words = shlex.split(command.replace("\\\n", " ").replace("$(which ", "$(which_"), comments=True)
    except ValueError as error:
        raise UsageError(f"--command: {error} in {command!r}; quote it as in a shell") from error
    names = [Path(word.strip("`)").replace("$(which_", "")).name for word in words]
    first = next((index for index, name in enumerate(names) if name in _PROGRAMS), -1)
    arguments = [os.path.expandvars(word) for word in words[first + 1 :]]
    unset = next((found for word in arguments if (found := _OF_A_SHELL.search(word))), None)
    if unset is not None:
        variable = "export the variable, or " if unset[0][1:2].isalpha() or unset[0][:2] == "${" else ""
        raise UsageError(f"--command: {unset[0]} has no value here; {variable}write its value")
    if any(word in (";", "|") or _REDIRECTS.match(word) for word in arguments):
        raise UsageError("--command: give one command of weaver, without ';', '&', '|' and '>'")
    return words[: first + 1], arguments


def _typed(parser: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """Return the arguments that the command names, also those whose value is the default."""
    untouched: list[Any] = []  # a list, since some flags append to what is there
    values = _parse(parser, words, dict.fromkeys((action.dest for action in parser._actions), untouched))
    return {name for name, value in vars(values).items() if value is not untouched}


def _parse(
    parser: argparse.ArgumentParser, words: list[str], start: Mapping[str, Any] | None = None
) -> argparse.Namespace:
    def refuse(message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        meant = None if unknown is None else nearest(unknown[1], parser._option_string_actions)
        hint = "" if meant is None else f", did you mean {meant}?"
        fork = "" if unknown is None else f"{' If' if hint else '; if'} it is a flag of a fork of weaver, remove it"
        raise UsageError(f"--command: weaver would refuse it: {message}{hint}{fork}")

    original, parser.error = parser.error, refuse  # type: ignore[method-assign]
    try:
        return parser.parse_args(words, argparse.Namespace(**(start or {})))
    finally:
        parser.error = original  # type: ignore[method-assign]


def _flag(parser: argparse.ArgumentParser, name: str) -> str:
    names = next(action.option_strings for action in parser._actions if action.dest == name)
    return next(name for name in names if name.startswith("--"))


def _files(given: argparse.Namespace) -> dict[str, Any]:
    if not given.data_train:
        raise UsageError("--command: it names no training files (--data-train); give the command that trains")
    if given.data_config is None:
        raise UsageError("--command: it names no data configuration (--data-config)")
    if not given.data_val and not 0 < given.train_val_split < 1:
        raise UsageError(
            f"--command: --train-val-split is {given.train_val_split:g} and there is no --data-val; give a number "
            "between 0 and 1"
        )
    split = {} if given.data_val else {"validation_share": round(1 - given.train_val_split, 12)}
    return {
        **split,
        "data_config": _path(given.data_config),
        "train_files": [_pattern(text) for text in given.data_train],
        "val_files": [_pattern(text) for text in given.data_val],
        "test_files": [_pattern(text) for text in given.data_test],
    }


def _network(given: argparse.Namespace) -> dict[str, Any]:
    if given.network_config is None:
        raise UsageError("--command: it names no network file (--network-config)")
    weights = given.load_model_weights
    return {
        "network_config": _path(given.network_config),
        "network_options": {name: _literal(name, text) for name, text in given.network_option},
        "init_from": None if weights is None else _path(weights.partition(":")[0]),  # file, or file:prefix
    }


def _optimizer(given: argparse.Namespace) -> dict[str, Any]:
    name = given.optimizer.lower()
    if name not in _OPTIMIZERS:
        raise UsageError(
            f"--command: the optimiser {given.optimizer} is not among {', '.join(_OPTIMIZERS)}; choose one of these "
            "in the command"
        )
    own = dict(given.optimizer_option)
    others = [name for name in own if name not in _OPTIMIZER_OPTIONS]
    if others:
        raise UsageError(
            f"--command: the option {others[0]} of the optimiser cannot be imported, only "
            f"{', '.join(_OPTIMIZER_OPTIONS)}; remove it from the command"
        )
    return {
        "optimizer": _OPTIMIZERS[name],
        "lr_schedule": _SCHEDULES[given.lr_scheduler],
        "weight_decay": _number("weight_decay", own.get("weight_decay", "0")),
        "gradient_clip": _number("clip_grad_norm", own.get("clip_grad_norm", "0")),
    }


def _layers(given: argparse.Namespace) -> LayerPatterns:
    excluded, frozen = (
        tuple(text.split(",")) if text else () for text in (given.exclude_model_weights, given.freeze_model_weights)
    )
    multiplied = dict(given.optimizer_option).get("lr_mult")
    factors = {} if multiplied is None else dict([_factor(multiplied)])
    for pattern in (*excluded, *frozen, *factors):
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"--command: {pattern!r} is no regular expression ({error}); correct it") from error
    return LayerPatterns(excluded, frozen, factors, (given.load_model_weights or "").partition(":")[2])


def _factor(text: str) -> tuple[str, float]:
    try:
        pattern, factor = ast.literal_eval(text)
        return str(pattern), float(factor)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise UsageError(
            f"--command: --optimizer-option lr_mult {text!r} is no pattern with a number; give it as in "
            """'("fc.*", 50)'"""
        ) from error


def _device(given: argparse.Namespace, *, distributed: bool) -> dict[str, Any]:
    return {"device": "auto" if given.gpus else "cpu", "use_ddp": distributed and bool(given.gpus)}


def _literal(name: str, text: str) -> Any:
    """Return the value of an option of the network, which weaver reads as a Python literal."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UsageError(
            f"--command: --network-option {name} {text!r} is no Python literal; quote a text twice"
        ) from error


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--command: --optimizer-option {name} {text!r} is no number; correct it") from error


def _path(text: str) -> str:
    return str(Path(os.path.normpath(home_path(text).absolute())))


def _pattern(text: str) -> str:
    """Return a pattern with an absolute path; the name of its group, ``name:`` or ``name%10:``, is kept without %."""
    if "://" in text:
        return text
    group, colon, pattern = text.rpartition(":")
    return f"{group.partition('%')[0]}{colon}{_path(pattern)}"
