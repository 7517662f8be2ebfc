"""Whether a network that got exits still answers as it did, which mode retrofit proves and prints."""

from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import RunError
from phaze_ee.evaluation.metrics import evaluate_exit
from phaze_ee.evaluation.predict import predict
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.build import adopt, build_network
from phaze_ee.models.checkpoint import load_backbone, load_checkpoint
from phaze_ee.models.device import resolve_device
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes.console import console
from phaze_ee.modes.inputs import Setup
from phaze_ee.modes.progress import counted
from phaze_ee.modes.tables import empty_table, show, with_error
from phaze_ee.plots.titles import exit_title
from phaze_ee.types import JetInputs, Predictions
from phaze_ee.workspace import find_file

_WEAVER_JETS = 64  # so few, because weaver's form takes gigabytes for many padded jets


def show_unchanged(setup: Setup) -> None:
    """Compare the project's best model with ``c.init_from`` on the validation jets, and print what was found.

    Raises:
        RunError: the full model's answers, or a tensor of the backbone, are not bit for bit the same.
    """
    checkpoint = load_checkpoint(setup.project.best_model)
    schema = DataSchema.from_options(checkpoint.data_options)
    original, weaver = _original(setup, schema)
    best = _predict(setup, schema, checkpoint.tagger)
    before = _predict(setup, schema, Tagger(original, []).eval())
    tensors = _check_tensors(checkpoint.tagger.backbone, original)
    different = int((best.logits_ENK[-1] != before.logits_ENK[-1]).any(axis=1).sum())
    if different:
        raise RunError(
            f"the full model of {setup.project.best_model} answers {different} of {len(best)} validation jets "
            f"otherwise than {setup.options.init_from}; do not use it, and report this"
        )
    show(_table(setup, best, checkpoint.tagger))
    console.print(
        f"Verified: on {len(best):,} validation jets the full model answers bit for bit as {setup.options.init_from} "
        f"does, and its {tensors} tensors are the same.",
        soft_wrap=True,
    )
    console.print(
        f"Logits of weaver's own module differ by {weaver.median():.1e} (median of {len(weaver)} jets), at most "
        f"{weaver.max():.1e}: rounding, which may also decide which particles are the nearest.",
        soft_wrap=True,
    )


def _original(setup: Setup, schema: DataSchema) -> tuple[Backbone[Any], Tensor]:
    """Return a fresh backbone with the weights of the checkpoint, and how far weaver's module is from it."""
    options, root = setup.options, setup.project.root
    assert options.init_from is not None
    network_config = find_file("network_config", options.network_file, root)
    model = build_network(options, network_config, schema.weaver).eval()
    backbone = adopt(model, str(network_config)).eval()
    load_backbone(backbone, find_file("init_from", options.init_from, root))
    loader = evaluation_loader(schema, setup.files("val_files"), batch_size=_WEAVER_JETS)
    jets = next(iter(loader)).inputs
    with torch.inference_mode():
        theirs_NK = model(*_as_weaver(jets, schema))
        ours_NK = Tagger(backbone, []).eval().unpadded()(jets)[-1]
    return backbone, (theirs_NK - ours_NK).abs().amax(dim=1)


def _as_weaver(jets: JetInputs, schema: DataSchema) -> list[Tensor]:
    """Return the inputs in the order of the data configuration, in which weaver passes them."""
    return [getattr(jets, name.rsplit("_", 1)[-1]) for name in schema.weaver.input_names]


def _predict(setup: Setup, schema: DataSchema, tagger: Tagger) -> Predictions:
    options = setup.options
    loader = evaluation_loader(
        schema, setup.files("val_files"), batch_size=options.batch_size, num_workers=options.num_workers
    )
    return predict(tagger, counted(loader), schema.class_names, resolve_device(options.device))


def _check_tensors(backbone: Backbone[Any], original: Backbone[Any]) -> int:
    before = {name: value.cpu() for name, value in original.state_dict().items()}
    changed = [name for name, value in backbone.state_dict().items() if not torch.equal(value.cpu(), before[name])]
    if changed:
        raise RunError(
            f"the training changed {changed[0]} of the frozen backbone; do not use the model, and report this"
        )
    return len(before)


def _table(setup: Setup, predictions: Predictions, tagger: Tagger) -> Table:
    table = empty_table(f"{setup.project}: {len(predictions):,} validation jets", ["accuracy", "loss", "of full"])
    macs_EN = tagger.unpadded().exit_macs(torch.from_numpy(predictions.particle_count_N)).double()
    share_E = (macs_EN.mean(dim=1) / macs_EN[-1].mean()).tolist()
    for name, share, logits_NK in zip(predictions.exit_names, share_E, predictions.logits_ENK, strict=True):
        judged = evaluate_exit(logits_NK, predictions.label_N, predictions.class_names, None)
        accuracy = with_error(judged.accuracy, judged.accuracy_error)
        table.add_row(exit_title(name), accuracy, f"{judged.loss:.4f}", f"{100 * share:.2f} %")
    return table
