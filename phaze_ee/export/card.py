"""What an exported file says of itself: texts in the file, and ``card.md`` beside it."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import final

import onnx
import onnxruntime
import torch

from phaze_ee.data.schema import DataSchema
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.export.check import Checked
from phaze_ee.export.judged import judged_lines
from phaze_ee.export.timing import Timing
from phaze_ee.machine import processor
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import class_title, exit_title, quantity, shares_title
from phaze_ee.results.policy import DynamicResults, RealisedFigures

FORMAT = "1"
_VERSION = version("phaze-ee")
UNSTATED = "not stated"
_HOME = "https://github.com/PRAkTIKal24/PHAZE-EE"
_PAPERS = {
    "ParticleNet": "ParticleNet, arXiv:1902.08570",
    "ParticleTransformer": "Particle Transformer, arXiv:2202.03772",
    "ParticleNeXt": "ParticleNeXt, which builds on ParticleNet, arXiv:1902.08570",
    "PFN": "Energy Flow Networks, arXiv:1810.05165",
}


@final
@dataclass(frozen=True)
class Origin:
    """Where an exported tagger comes from.

    Attributes:
        model: the weights, in words.
        model_hash: the SHA-256 of their file; None: unknown.
        data_options: the data configuration as plain values.
        class_names: the classes.
        promise: the policy file, if the policy comes from one.
        licence: of the weights.
        judged: the policy on the test jets; None: it was not judged, or is another one.
    """

    model: str
    model_hash: str | None
    data_options: Mapping[str, object]
    class_names: Sequence[str]
    promise: ExitPolicyFile | None = None
    licence: str = UNSTATED
    judged: DynamicResults | None = None


def metadata(tagger: Tagger, policy: ThresholdPolicy | None, origin: Origin) -> dict[str, str]:
    """Return the texts that the file holds; all but plain words are JSON."""
    promise = origin.promise
    data = json.dumps(origin.data_options, sort_keys=True)
    texts: dict[str, object] = {
        "format": FORMAT,
        "classes": list(origin.class_names),
        "exits": list(tagger.exit_names),
        "exit_stages": list(tagger.exit_stages),
        "network": tagger.backbone.name,
        "score": None if policy is None else policy.score.model_dump(),
        "thresholds": None if policy is None else list(policy.thresholds),
        "temperatures": None if policy is None else policy.temperatures,
        "promise": None if promise is None else promise.guarantee.statement,
        "promise_holds": promise is not None and promise.guarantee.holds,
        "epsilon": None if promise is None else [risk.epsilon for risk in promise.guarantee.risks],
        "delta": None if promise is None else promise.guarantee.delta,
        "calibration_jets": None if promise is None else promise.calibration.jets,
        "model": origin.model,
        "model_sha256": origin.model_hash,
        "data_config": origin.data_options,
        "data_config_sha256": hashlib.sha256(data.encode()).hexdigest(),
        "versions": {"phaze_ee": _VERSION, "torch": torch.__version__, "onnx": onnx.__version__},
        "licence": origin.licence,
    }
    return {name: text if isinstance(text, str) else json.dumps(text) for name, text in texts.items()}


def texts_for_predict(tagger: Tagger, policy: ThresholdPolicy | None, schema: DataSchema) -> dict[str, str]:
    """Return the texts from which predict of a bundle knows what jets cost, and what becomes of bad values.

    ``macs`` has the multiply-accumulates at each exit, and of the full model without exits, by the number of particles
    of all collections together, and those of the embedding of one row of each collection.
    """
    most = sum(collection.length for collection in schema.collections)
    ran = Engine(tagger, policy).tagger  # in the form that predict of a project counts
    exits, count_M = () if policy is None else policy.exits, torch.arange(most + 1)
    collections = max(1, len(ran.backbone.collections))
    macs = {
        "at_exit": ran.walk_macs(count_M, exits=exits).tolist(),
        "full": ran.walk_macs(count_M, exits=())[-1].tolist(),
        "embedding": ran.backbone.embed_macs(torch.eye(collections, dtype=torch.int64)).tolist(),
    }
    return {"macs": json.dumps(macs), "bad_values": schema.bad_values}


def card(
    tagger: Tagger,
    policy: ThresholdPolicy | None,
    origin: Origin,
    checked: Checked,
    timing: Timing | None,
    *,
    one_jet: bool,
) -> str:
    """Return the model card, in Markdown."""
    sections = [
        ("What it is", _what(tagger, origin, one_jet=one_jet)),
        ("When jets leave", _exits(tagger, policy, origin.class_names)),
        ("What it promises", _promise(origin.promise)),
        ("On the calibration jets", _realised(origin.promise)),
        ("On test jets", judged_lines(origin.judged)),
        ("Cost on the machine of the export", _cost(timing)),
        ("Checked", _checked(checked)),
        ("Provenance", _provenance(origin)),
        ("How to cite", _citation(tagger)),
    ]
    parts = [f"# {tagger.backbone.name} with {quantity(len(tagger.exit_stages), 'exit')}"]
    parts += [f"## {title}\n\n" + "\n".join(lines) for title, text in sections if (lines := list(text))]
    return "\n\n".join(parts) + "\n"


def jets_per_call(*, one_jet: bool) -> str:
    """Return in words how many jets a file takes."""
    return f"{'one jet' if one_jet else 'any number of jets'} per call"


def _what(tagger: Tagger, origin: Origin, *, one_jet: bool) -> Iterator[str]:
    titles = ", ".join(map(class_title, origin.class_names))
    calls = jets_per_call(one_jet=one_jet)
    yield f"A jet tagger ({tagger.backbone.name}) for the classes {titles}, as one ONNX file for {calls}."
    yield ""
    yield "- `model.onnx`: outputs `softmax` (jets, classes) and `exit_index` (jets), both float; read output [0]."
    yield "- `preprocess.json`: weaver's description of the inputs."
    yield "- `example.py`, `example.cpp`: run it. `SHA256SUMS`: checksums, for `sha256sum -c`."


def _exits(tagger: Tagger, policy: ThresholdPolicy | None, class_names: Sequence[str]) -> Iterator[str]:
    if policy is None:
        yield "Every jet gets the full model; the file has no exits."
        return
    yield f"A jet leaves at the first exit where its score ({policy.score.name}) reaches the threshold."
    yield ""
    yield "| exit | after | threshold |"
    yield "|---|---|---|"
    for name, stage, threshold in zip(tagger.exit_names, tagger.exit_stages, policy.thresholds, strict=False):
        after = "the inputs" if stage == "input" else f"stage {stage}"
        yield f"| {exit_title(name)} | {after} | {threshold:.6g} |"
    if policy.temperatures is not None:
        yield ""
        yield f"Temperatures, the full model last: {', '.join(f'{value:.4g}' for value in policy.temperatures)}."
    if (cascade := policy.cascade) is not None:
        signal, background = (class_names[index] for index in (cascade.signal, cascade.background))
        yield ""
        yield f"Jets that leave early are rejected as {background}. One score for all jets is"
        yield f"D = p({signal}) / (p({signal}) + p({background})) for those that reach exit_index {cascade.last};"
        yield f"rejected jets have D − ({cascade.last} − exit_index), which is below 0. A cut on D alone mixes exits."


def _promise(file: ExitPolicyFile | None) -> Iterator[str]:
    if file is None:
        yield "Nothing: the policy comes from no calibration."
        return
    sample = file.calibration
    yield f"{file.guarantee.statement[:1].upper()}{file.guarantee.statement[1:]}."
    yield ""
    yield f"Calibrated on {sample.jets:,} jets ({sample.shaping:,} shaped the policy, {sample.testing:,} tested it)."
    if file.guarantee.holds:
        alone = "any single class, or region of pT or η, on its own"
        if file.guarantee.conditions.divide:
            alone = "any other part of the jets on its own"
        yield "The promise is for jets drawn as these: another sample, selection or simulation is not covered, nor is"
        yield f"{alone}."


def _realised(file: ExitPolicyFile | None) -> Iterator[str]:
    if file is None or "files" not in file.realised:
        return
    figures = file.realised["files"]
    yield f"- mean cost: {_share(figures)} of the full model, in the mix of the files"
    if (prior := file.realised.get("prior")) is not None and prior.class_shares:
        yield f"- mean cost: {_share(prior)} of the full model, for {shares_title(prior.class_shares)} (class_prior)"
    if figures.accuracy is not None and figures.full_accuracy is not None:
        yield f"- accuracy: {100 * figures.accuracy:.2f} % (full model: {100 * figures.full_accuracy:.2f} %)"
    shares = ", ".join(f"{exit_title(name)} {100 * share:.1f} %" for name, share in figures.exit_shares.items())
    yield f"- jets that leave: {shares}"


def _share(figures: RealisedFigures) -> str:
    return f"{100 * figures.cost_share:.2f} ± {100 * figures.cost_share_error:.2f} %"


def _cost(timing: Timing | None) -> Iterator[str]:
    if timing is None:
        return
    yield f"Measured with one thread and one jet per call, on {quantity(timing.jets, 'jet')}, evenly from"
    yield f"{timing.among:,} of the project, each with its own number of particles ({processor()}, ONNX Runtime"
    yield f"{onnxruntime.__version__}):"
    yield ""
    yield f"- this file: {timing.with_exits:.3g} ms per jet"
    if timing.without is not None:
        share = 100 * timing.with_exits / timing.without
        yield f"- the full model, as a file without exits: {timing.without:.3g} ms per jet"
        yield f"- with exits: {share:.0f} % of that time"
    yield ""
    yield "Other jets leave at other exits: a stream of background costs less than this mix of the files."


def _citation(tagger: Tagger) -> Iterator[str]:
    yield f"- PHAZE-EE {_VERSION}: {_HOME} (`CITATION.cff` there)"
    if (paper := _PAPERS.get(tagger.backbone.name)) is not None:
        yield f"- the network: {paper}"
    yield "- weaver-core: https://github.com/hqucms/weaver-core"
    yield "- the jets and, if they were trained elsewhere, the weights: as their authors ask"


def _checked(checked: Checked) -> Iterator[str]:
    yield f"The file was run on {checked.jets:,} jets and compared with the tagger: every exit is the same, and no"
    yield f"probability differs by more than {checked.difference:.1e} (ONNX Runtime {onnxruntime.__version__})."
    if checked.by_rounding:
        yield (
            f"{quantity(checked.by_rounding, 'jet')} differed by more because of rounding in single precision (two "
            "particles equally near, or a score at its threshold); in double precision they do not."
        )


def _provenance(origin: Origin) -> Iterator[str]:
    yield f"- weights: {origin.model}, SHA-256 {origin.model_hash or 'unknown'}"
    yield f"- licence of the weights: {origin.licence}"
    yield f"- made by phaze_ee {_VERSION} with onnx {onnx.__version__}, torch {torch.__version__}, {platform.machine()}"
