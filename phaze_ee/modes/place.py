"""Mode place: find the stages where exits pay off, by training exits at all of them.

The jets that choose the best epoch choose the stages too. Those that calibrate uses must not: they would then test a
policy that they had a part in.
"""

from collections.abc import Sequence
from functools import partial

import torch

from phaze_ee.atomic import check_can_write, remove_abandoned, temporary_folder
from phaze_ee.config.options import Options
from phaze_ee.errors import UsageError
from phaze_ee.evaluation.answers import predict
from phaze_ee.exits.placement import place
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.models.heads import HeadShape
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes import train
from phaze_ee.modes.console import (
    counted,
    say,
    say_in_columns,
    say_new,
    say_where,
    show,
    show_details,
    show_notes,
)
from phaze_ee.modes.jets import choosing_jets, overlap_with_training, validation_files
from phaze_ee.modes.plot import write_figures
from phaze_ee.modes.session import Session
from phaze_ee.names import ExitStage
from phaze_ee.plots.placement import placement_figure
from phaze_ee.results.placement import PlacementResults
from phaze_ee.tables.placement import candidate_table, placement_table
from phaze_ee.workspace import Project


def refuse_early(session: Session) -> None:
    """Refuse what is known to be wrong before any training.

    Raises:
        UsageError: several kinds of heads, or validation files that train the network too.
    """
    if not isinstance(session.options.exit_head, str):
        raise UsageError(f"{session.project.config}: mode place uses one kind of exit_head at all stages; name one")
    session.files("train_files")
    if learned := overlap_with_training(session, "val_files"):
        raise UsageError(f"{learned[0]}; set c.val_files to others")


def run(session: Session) -> None:
    """Train an exit at every stage of the project's model, judge all sets of them, and recommend one."""
    refuse_early(session)
    check_can_write(session.project.results)
    model, files = session.model, validation_files(session)
    backbone = model.tagger.backbone
    stages: list[ExitStage] = ["input", *range(len(backbone.stage_channels))]
    session = session.with_options(_options(session.options, stages))
    say_new(f"Model:  {session.project}, {model.title}; it stays as it is")
    say_in_columns(f"Exits:  {session.options.exit_head} at {', '.join(map(str, stages))}")
    tagger = _train(session, stages)
    jets = choosing_jets(session, model.schema)
    answers = predict(tagger, counted(jets), model.schema.class_names, session.device, session.options.precision)
    say(f"Jets:   {len(answers):,} validation jets that calibrate does not use")
    results = place(
        answers,
        stages,
        epsilon=session.options.epsilon,
        class_prior=session.options.class_prior,
        seed=session.options.seed or 0,
        exit_head=str(session.options.exit_head),
        provenance=session.provenance(files, []),
    )
    _show(session.project, results, details=session.request.details)


def _options(options: Options, stages: Sequence[ExitStage]) -> Options:
    """Return the options that train independent exits at all stages on the frozen backbone."""
    changes = {
        "exit_stages": list(stages),
        "beta_max": [1.0],
        "freeze_backbone": True,
        "beta_schedule": "switch",
        "zero_epochs": 0,
        "training_regime": "ramp",
        "exit_link": "independent",
        "logger": None,
        "fresh_layers": [],  # all weights are those of the model
        "lr_factors": {name: factor for name, factor in options.lr_factors.items() if name == "heads"},
    }
    return Options.model_validate({**options.model_dump(exclude_unset=True), **changes})


def _train(session: Session, stages: Sequence[ExitStage]) -> Tagger:
    """Return the backbone of the model with trained exits at all stages. The files of the training are deleted."""
    options, model = session.options, session.model
    torch.manual_seed(options.seed or 0)
    tagger = Tagger(
        model.tagger.backbone,
        stages,
        options.exit_head,
        head_shape=HeadShape(options.exit_head_width, options.exit_head_depth),
    )
    remove_abandoned(session.project.root)
    with temporary_folder(session.project.root, "place") as folder:
        train.train_into(folder, session, model.schema, tagger)
        return load_checkpoint(folder / "best_model.pt").tagger


def _show(project: Project, results: PlacementResults, *, details: bool) -> None:
    results.write(project.placement_results)
    show_details([candidate_table(results)], wanted=details)
    show(placement_table(results))
    show_notes(results.notes)
    chosen, full = results.recommended, results.full_model
    if chosen.exit_stages:
        say_in_columns(
            f"Recommended: the cheapest that loses at most epsilon = {results.epsilon:g} in accuracy to the full model "
            f"({chosen.accuracy:.4f} and {full.accuracy:.4f}), at {100 * chosen.macs_share:.1f} % of its MACs. For the "
            "configuration:"
        )
    else:
        say_in_columns(
            f"Recommended: no exit. No placement that loses at most epsilon = {results.epsilon:g} in accuracy to the "
            f"full model ({full.accuracy:.4f}) costs less. For the configuration:"
        )
    say(f"    c.exit_stages = {chosen.exit_stages}")
    say(f"    c.beta_max = {[1.0] if chosen.exit_stages else []}")
    say_where([project.placement_results], details=details)
    write_figures({"performance/placement": partial(placement_figure, results)}, project.plots)
