"""Mode place: find the stages where exits pay off, by training exits at all of them."""

import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from math import sqrt
from pathlib import Path

import torch

from phaze_ee.config.options import Options
from phaze_ee.errors import UsageError
from phaze_ee.evaluation.answers import predict
from phaze_ee.exits.answers import CalibrationJets
from phaze_ee.exits.calibrate import split
from phaze_ee.exits.placement import Placement, pareto_placements, placements, recommended
from phaze_ee.exits.scores import make_score
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.models.heads import HeadShape
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes import train
from phaze_ee.modes.calibration_jets import calibration_batches, calibration_jets, origin
from phaze_ee.modes.console import console, counted, say, show, show_notes
from phaze_ee.modes.plot import write_figures
from phaze_ee.modes.session import Session
from phaze_ee.names import ExitStage
from phaze_ee.plots.placement import placement_figure
from phaze_ee.results.placement import CandidateExit, PlacementPoint, PlacementResults
from phaze_ee.tables.placement import candidate_table, costly_heads, placement_table
from phaze_ee.workspace import Project

_SCORE = "confidence"
_CURVE_POINTS = 12


def run(session: Session) -> None:
    """Train an exit at every stage of the project's model, judge all sets of them, and recommend one."""
    if not isinstance(session.options.exit_head, str):
        raise UsageError(f"{session.project.config}: mode place uses one kind of exit_head at all stages; name one")
    model = session.model
    backbone = model.tagger.backbone
    stages: list[ExitStage] = ["input", *range(len(backbone.stage_channels))]
    session = session.with_options(_options(session.options, stages))
    say(f"Model:  {model.source}; it stays as it is")
    console.print(f"Exits:  {session.options.exit_head} at {', '.join(map(str, stages))}")
    tagger = _train(session, stages)
    files, batches, notes = calibration_batches(session)
    predictions = predict(tagger, counted(batches), model.schema.class_names, session.device)
    jets = calibration_jets(tagger, predictions, session.options)
    say(f"Jets:   {len(jets):,}, {origin(files, session)}")
    results = _results(session, stages, jets, notes)
    _show(session.project, results)


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
        "exit_target": "accuracy_drop",  # whose calibration jets have labels
        "tensorboard": False,
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
    with tempfile.TemporaryDirectory(prefix=".place_", dir=session.project.root) as folder:
        train.train_into(Path(folder), session, model.schema, tagger)
        return load_checkpoint(Path(folder) / "best_model.pt").tagger


def _results(
    session: Session, stages: Sequence[ExitStage], jets: CalibrationJets, notes: Sequence[str]
) -> PlacementResults:
    shaping, judging = split(jets, session.options.seed or 0)
    found = placements(make_score(_SCORE), shaping, judging)
    front = pareto_placements(found)
    candidates = _candidates(stages, judging)

    def point(placement: Placement) -> PlacementPoint:
        return _point(placement, stages, judging)

    sets = (list(group) for exits, group in groupby(found, key=lambda placement: placement.exits) if exits)
    return PlacementResults(
        project=str(session.project),
        model=session.model.source,
        model_hash=session.model.hash,
        score=_SCORE,
        exit_head=str(session.options.exit_head),
        epsilon=session.options.epsilon,
        shaping_jets=len(shaping),
        judging_jets=len(judging),
        candidates=candidates,
        full_model=point(found[0]),
        curves=[list(map(point, _thinned(pareto_placements(group)))) for group in sets],
        pareto=list(map(point, front)),
        recommended=point(recommended(found, session.options.epsilon)),
        notes=[
            *notes,
            f"the best of {len(found):,} placements and thresholds looks a little better on these {len(judging):,} "
            "jets than on others; check it with mode evaluate",
            *costly_heads(candidates, str(session.options.exit_head)),
        ],
    )


def _point(placement: Placement, stages: Sequence[ExitStage], jets: CalibrationJets) -> PlacementPoint:
    accuracy = placement.accuracy
    full = float((jets.weight_N * jets.full_cost_N).mean())
    return PlacementPoint(
        exit_stages=[stages[exit_] for exit_ in placement.exits],
        thresholds=list(placement.thresholds),
        mean_macs=placement.cost * full * jets.macs,
        macs_share=placement.cost,
        accuracy=accuracy,
        accuracy_error=sqrt(accuracy * (1 - accuracy) / len(jets)),
        exit_fractions=list(placement.fractions),
    )


def _candidates(stages: Sequence[ExitStage], jets: CalibrationJets) -> list[CandidateExit]:
    accuracy_E = jets.correct_EN.mean(axis=1).tolist()
    full = jets.full_cost_N.mean()
    cost_E = [float(jets.with_exits([exit_]).cost_EN[0].mean() / full) for exit_ in range(len(stages))]
    rows = zip(stages, accuracy_E, cost_E, strict=False)
    return [CandidateExit(stage=stage, accuracy=accuracy, macs_share=cost) for stage, accuracy, cost in rows]


def _thinned(front: Sequence[Placement]) -> list[Placement]:
    step = max(1, -(-len(front) // _CURVE_POINTS))
    return [*front[:-1:step], front[-1]]


def _show(project: Project, results: PlacementResults) -> None:
    results.write(project.placement_results)
    show(candidate_table(results))
    show(placement_table(results))
    show_notes(results.notes)
    chosen = results.recommended
    full = results.full_model
    say(
        f"Recommended: the cheapest that loses at most epsilon = {results.epsilon:g} in accuracy to the full model "
        f"({chosen.accuracy:.4f} and {full.accuracy:.4f}), at {100 * chosen.macs_share:.1f} % of its MACs. For the "
        "configuration:"
    )
    say(f"    c.exit_stages = {chosen.exit_stages}")
    say("    c.beta_max = [1.0]")
    say(f"Written: {project.placement_results}")
    write_figures({"performance/placement": partial(placement_figure, results)}, project.plots)
