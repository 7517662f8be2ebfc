"""The options of the contract: every name, its types, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from phaze_ee.config.options import SECTIONS, Options
from phaze_ee.config.sections import CalibrationOptions
from phaze_ee.errors import UsageError

FILES: dict[str, Any] = {"train_files": ["a.root"], "val_files": ["b.root"]}
BLOCKS = [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))]

# Every name of the contract's configuration reference, with the value that stands there.
CONTRACT: dict[str, Any] = {
    "data_config": "data_configs/JetClass_full.yaml",
    "network_config": "network_configs/ParticleNet_JetClass.py",
    "train_files": ["path/to/train/*.root"],
    "val_files": ["path/to/val/*.root"],
    "num_classes": 10,
    "num_exit_points": 3,
    "conv_params": BLOCKS,
    "fc_params": [(256, 0.1)],
    "use_fusion": False,
    "use_fts_bn": False,
    "use_counts": True,
    "exit_loss_strategy": "mimic_detached",
    "beta_max": [0.3, 0.5, 1.0],
    "beta_schedule": "linear",
    "zero_epochs": 10,
    "epochs": 50,
    "lr": 0.002,
    "batch_size": 512,
    "optimizer": "ranger",
    "lr_schedule": "flat_decay",
    "weight_decay": 0.01,
    "gradient_clip": 1.0,
    "num_workers": 4,
    "use_amp": True,
    "use_ddp": False,
    "device": "cuda",
    "log_interval": 100,
    "val_interval": 1,
    "save_interval": 5,
    "tensorboard": True,
}
BEYOND_CONTRACT: dict[str, Any] = {
    "amp_dtype": "bf16",
    "skip_nan_batches": 3,
    "ema_decay": 0.999,
    "early_stopping": 5,
    "seeds": 5,
    "samples_per_epoch": 20_000,
    "warm_up": 100,
    "steps_per_epoch": 500,
    "accumulate_batches": 4,
    "resume_interval": 100,
    "bad_values": "zero",
    "precision": "tf32",
    "logger": "csv",
    "plugins": ["my_heads.py"],
    "trust_expressions": True,
    "validation_share": 0.25,
    "fresh_layers": ["mod.fc"],
    "lr_factors": {"mod.fc": 50.0, "heads": 0.0},
    "extra_selection": "jet_pt > 500",
    "extra_selection_train": "jet_eta < 2",
    "extra_selection_val": "jet_eta < 2",
    "extra_selection_test": "jet_pt > 600",
    "data_fraction": 0.5,
    "data_fraction_val": 0.1,
    "file_fraction": 0.5,
    "model_name": "ParticleTransformer",
    "network_options": {"num_layers": 4},
    "seed": 7,
    "test_files": ["test/*.root"],
    "use_cache": "always",
    "cache_folder": "caches",
    "background": "label_QCD",
    "exit_stages": ["input", 0, 2],
    "exit_head": ["deep_sets", "linear", "linear"],
    "exit_head_width": 32,
    "exit_head_depth": 2,
    "exit_link": "cascade",
    "training_regime": "disjoint",
    "distill_weight": 0.3,
    "distill_temperature": 2.0,
    "freeze_backbone": True,
    "init_from": "ParticleNet_kin.pt",
    "use_packed": False,
    "use_compile": True,
    "pin_memory": False,
    "feature_cache_gb": 5.0,
    "calibration_files": ["calibration/*.root"],
    "calibration_share": 0.3,
    "exit_target": "agreement",
    "epsilon": 0.002,
    "delta": 0.1,
    "risk_control": "crc",
    "promise_per_class": True,
    "promise_bins": {"jet_pt": [500.0, 600.0]},
    "promise_leaving": True,
    "regression_loss_weight": 2.0,
    "exit_score": "margin",
    "signal": "label_Hbb",
    "signal_efficiency": 0.99,
    "background_growth": 0.2,
    "exit_form": "two_sided",
    "cost_budget": 0.3,
    "class_prior": {"label_QCD": 0.999, "label_Hbb": 0.001},
    "fit_temperatures": False,
}
CHOICES = {
    "exit_target": ["accuracy_drop", "net_accuracy_drop", "agreement", "signal_efficiency", "budget"],
    "risk_control": ["ltt", "crc"],
    "exit_form": ["reject", "two_sided"],
    "exit_loss_strategy": [
        f"{kind}_{way}" for kind in ("mimic", "target", "distill", "reject") for way in ("detached", "flow")
    ],
    "beta_schedule": ["linear", "cosine", "switch"],
    "optimizer": ["ranger", "adamw", "adam"],
    "lr_schedule": [
        "flat_decay",
        "flat_linear",
        "flat_cosine",
        "warm_up_cosine",
        "cosine",
        "one_cycle",
        "steps",
        "none",
    ],
    "device": ["auto", "cuda", "cpu"],
}
INTEGERS = ["epochs", "batch_size", "zero_epochs", "num_workers", "log_interval", "val_interval", "save_interval"]
NUMBERS = [
    "background_growth",
    "cost_budget",
    "lr",
    "weight_decay",
    "gradient_clip",
    "distill_weight",
    "distill_temperature",
    "feature_cache_gb",
]
SWITCHES = [
    "fit_temperatures",
    "freeze_backbone",
    "use_fusion",
    "use_fts_bn",
    "use_counts",
    "use_amp",
    "use_ddp",
    "use_packed",
    "use_compile",
    "pin_memory",
    "tensorboard",
]


def options(**values: Any) -> Options:
    return Options.model_validate({**FILES, **values})


def test_the_contract_and_the_additions_are_all_there_is() -> None:
    assert set(Options.model_fields) == {*CONTRACT, *BEYOND_CONTRACT}
    assert {name for section in SECTIONS for name in section.model_fields} == set(Options.model_fields)


def test_the_contracts_example_is_accepted_as_it_stands() -> None:
    read = Options.model_validate(CONTRACT)
    assert {name: getattr(read, name) for name in CONTRACT} == CONTRACT


@pytest.mark.parametrize(("name", "value"), (CONTRACT | BEYOND_CONTRACT).items())
def test_each_name_is_accepted_alone(name: str, value: Any) -> None:
    assert getattr(options(**{name: value}), name) == value


@pytest.mark.parametrize(("epochs", "zero_epochs"), [(50, 10), (200, 10), (20, 4), (2, 0), (1, 0)])
def test_a_short_training_has_fewer_zero_epochs_unless_they_are_set(epochs: int, zero_epochs: int) -> None:
    assert options(epochs=epochs).zero_epochs == zero_epochs
    assert options(epochs=epochs, zero_epochs=0).zero_epochs == 0


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHOICES.items() for value in values])
def test_each_choice_is_accepted(name: str, value: str) -> None:
    assert getattr(options(**{name: value}), name) == value


@pytest.mark.parametrize("score", ["confidence", "entropy", "margin", "patience", "gate", "window", None])
def test_an_exit_score_is_one_of_the_registry_or_left_to_the_target(score: str | None) -> None:
    assert options(exit_score=score).exit_score == score
    with pytest.raises(ValidationError, match="exit_score"):
        options(exit_score="confidense")


@pytest.mark.parametrize("logger", ["tensorboard", "csv", "wandb", "mlflow", "comet", None])
def test_a_logger_is_one_of_lightning_or_none(logger: str | None) -> None:
    assert options(logger=logger).logger == logger
    with pytest.raises(ValidationError, match="logger"):
        options(logger="tensorbord")


@pytest.mark.parametrize("name", ["epsilon", "delta", "signal_efficiency"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan"), "0.1", None])
def test_probabilities_lie_inside_0_and_1(name: str, value: Any) -> None:
    assert getattr(options(**{name: 0.3}), name) == 0.3
    with pytest.raises(ValidationError, match=name):
        options(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("lr", 1e31), ("weight_decay", 1e308), ("conv_params", [(1025, (8, 8))]), ("seeds", 1001)]
)
def test_numbers_that_no_training_survives_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match="less than or equal to"):
        options(**{name: value})


def test_a_prior_needs_a_class_with_a_share() -> None:
    with pytest.raises(ValidationError, match="the shares of class_prior add up to 0; make them 1"):
        options(class_prior={"label_QCD": 0.0})


@pytest.mark.parametrize("name", [*CHOICES, *INTEGERS, *NUMBERS, *SWITCHES])
def test_a_value_of_another_type_is_refused(name: str) -> None:
    for wrong in ("nonsense", None, [1]):
        with pytest.raises(ValidationError, match=name):
            options(**{name: wrong})


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_are_not_rounded_and_not_negative(name: str) -> None:
    for wrong in (1.5, 2.0, True, -1, "3"):
        with pytest.raises(ValidationError, match=name):
            options(**{name: wrong})


@pytest.mark.parametrize("name", NUMBERS)
def test_an_integer_does_for_a_number(name: str) -> None:
    assert getattr(options(**{name: 1}), name) == 1.0
    for wrong in ("0.1", -0.1, float("nan")):
        with pytest.raises(ValidationError, match=name):
            options(**{name: wrong})


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_true_or_false(name: str) -> None:
    for wrong in (0, 1, "yes"):
        with pytest.raises(ValidationError, match=name):
            options(**{name: wrong})


def test_lists_do_for_tuples_and_tuples_for_lists() -> None:
    as_lists = options(conv_params=[[k, list(channels)] for k, channels in BLOCKS], fc_params=[[256, 0.1]])
    as_tuples = options(
        conv_params=tuple(BLOCKS), fc_params=((256, 0.1),), beta_max=(0.3, 0.5, 1), train_files=("a.root",)
    )
    assert as_lists == as_tuples


def test_one_file_is_not_a_list_of_files() -> None:
    with pytest.raises(ValidationError, match="train_files"):
        options(train_files="a.root")


@pytest.mark.parametrize("name", ["train_files", "conv_params", "fc_params"])
def test_empty_lists_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        options(**{name: []})


def test_one_beta_per_exit() -> None:
    assert options(num_exit_points=2, beta_max=[1, 1]).exit_count == 2
    assert options(num_exit_points=0, beta_max=[]).exit_count == 0
    assert options(exit_stages=["input", 2], beta_max=[1, 1]).stages_with_exit(3) == ["input", 2]
    with pytest.raises(ValidationError, match="beta_max has 2 numbers for 3 exits"):
        options(beta_max=[1, 1])
    with pytest.raises(ValidationError, match="beta_max is not set, and its default has 3 numbers for 2 exits"):
        options(num_exit_points=2)


def test_one_beta_for_all_exits() -> None:
    assert options(beta_max=0.5).weights(3) == (0.5, 0.5, 0.5)
    assert options(exit_stages=[0, 1], beta_max=[0.5]).weights(2) == (0.5, 0.5)


def test_where_only_the_network_knows_its_stages_weights_are_counted_later() -> None:
    late = options(model_name="ParticleTransformer", beta_max=[1, 1])
    assert late.exit_count is None
    assert late.stages_with_exit(4) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="beta_max has 2 numbers for 4 exits"):
        late.weights(4)


def test_exits_that_would_never_be_trained_are_refused() -> None:
    with pytest.raises(ValidationError, match="zero_epochs = 5 leaves no epoch of 5"):
        options(epochs=5, zero_epochs=5)
    with pytest.raises(ValidationError, match="beta_max is 0 for every exit"):
        options(beta_max=[0, 0, 0])
    assert options(epochs=6, zero_epochs=5, beta_max=[0, 0, 1]).epochs == 6


def test_with_a_frozen_backbone_exits_learn_at_once_and_throughout() -> None:
    frozen = options(freeze_backbone=True)
    assert (frozen.zero_epochs, frozen.beta_schedule) == (0, "switch")
    assert options(freeze_backbone=True, beta_schedule="linear").beta_schedule == "linear"
    assert options(freeze_backbone=False).beta_schedule == "linear"


def test_a_frozen_backbone_needs_exits_that_learn() -> None:
    with pytest.raises(ValidationError, match="nothing to train in a network without exits"):
        options(freeze_backbone=True, num_exit_points=0, beta_max=[])
    with pytest.raises(ValidationError, match="zero_epochs = 3 with freeze_backbone"):
        options(freeze_backbone=True, zero_epochs=3)


def test_distillation_takes_a_share_and_a_positive_temperature() -> None:
    assert options(distill_weight=1).distill_weight == 1
    for name, wrong in (("distill_weight", 1.1), ("distill_temperature", 0)):
        with pytest.raises(ValidationError, match=name):
            options(**{name: wrong})


@given(name=st.text(min_size=1).filter(lambda name: name not in Options.model_fields))
def test_no_other_name_is_accepted(name: str) -> None:
    with pytest.raises(ValidationError):
        options(**{name: 1})


@pytest.mark.parametrize(
    ("bins", "message"),
    [
        (["jet_pt"], "'jet_pt' names no bins; give an observable and rising edges, such as jet_pt:500,600,800"),
        (["jet_pt:500,x"], "'jet_pt:500,x' names no bins"),
        (["jet_pt:1,2", "jet_pt:3,4"], "jet_pt has bins twice"),
        (["jet_pt:600,500"], r"must be two or more rising numbers, not \[600, 500\]"),
        ({"jet_pt": [500.0, 500.0]}, "must be two or more rising numbers"),
        ({"jet_pt": [500.0, float("nan")]}, "must be two or more rising numbers"),
    ],
)
def test_bins_that_are_none(bins: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CalibrationOptions.model_validate({"promise_bins": bins})


def test_bins_as_on_the_command_line() -> None:
    options = CalibrationOptions.model_validate({"promise_bins": ["jet_pt:500,600,800", "jet_eta:-1,1"]})
    assert options.promise_bins == {"jet_pt": [500.0, 600.0, 800.0], "jet_eta": [-1.0, 1.0]}
