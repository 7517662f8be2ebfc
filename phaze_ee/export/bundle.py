"""An exported tagger as a folder: the file, how its inputs are made, examples, a card and checksums."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
from weaver.utils.data.config import DataConfig

from phaze_ee.atomic import remove_abandoned, replacing_folder
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ExitPolicy, ThresholdPolicy
from phaze_ee.export import snippets
from phaze_ee.export.card import Origin, card, metadata, texts_for_predict
from phaze_ee.export.check import Checked, Comparison, odd_jets
from phaze_ee.export.model import FileForm, stages_of, write_model
from phaze_ee.export.timing import timed
from phaze_ee.input_groups import InputCollection
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetBatch, JetInputs, RaggedJets

MODEL, INPUTS, CHECKSUMS, CARD = "model.onnx", "preprocess.json", "SHA256SUMS", "card.md"
_EXAMPLES = ("example.py", "example.cpp")
_CHECKED_JETS, _CHECKED_ALONE = 2000, 300
_RANDOM = 200


@final
@dataclass(frozen=True)
class Export:
    """What to export.

    Attributes:
        tagger: in evaluation mode, in single precision, on the CPU.
        policy: decides where jets leave; None: every jet gets the full model.
        schema: the data configuration of the tagger, resolved.
        origin: where it comes from.
        jets: batches of jets to check the file on; the first 2,000 jets are used.
        one_jet: whether a call has exactly one jet.
        opset: the version of the standard operators; None: the one that suits the network.
    """

    tagger: Tagger
    policy: ThresholdPolicy | None
    schema: DataSchema
    origin: Origin
    jets: Iterable[JetBatch] = ()
    one_jet: bool = False
    opset: int | None = None


def write_bundle(folder: Path, export: Export) -> Checked:
    """Write the folder; an older bundle is replaced only by a complete one. Other files beside it stay.

    Returns:
        How the file compares with the tagger.

    Raises:
        UsageError: the tagger or the policy cannot be written, or the folder holds something else than a bundle.
        RunError: the file does not answer as the tagger, or the folder cannot be written.
    """
    _refuse_other_content(folder)
    refuse_unwritable(export.schema)
    remove_abandoned(folder.parent)
    texts = metadata(export.tagger, export.policy, export.origin)
    texts |= texts_for_predict(export.tagger, export.policy, export.schema)
    form = FileForm(export.schema.groups, export.one_jet, export.opset, metadata=texts, more=_more(export.schema))
    model = write_model(export.tagger, export.policy, form)
    content = model.SerializeToString()
    batches = [batch.inputs for batch in _first(export.jets, _CHECKED_ALONE if export.one_jet else _CHECKED_JETS)]
    checked = _check(content, export, form, batches)
    timing = timed(content, _full_model(export, form), batches, form.inputs, form.more)
    with replacing_folder(folder, _others(folder)) as temporary:
        (temporary / MODEL).write_bytes(content)
        channels = {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in model.graph.input}
        write_preprocessing(export.schema.weaver, list(channels), temporary / INPUTS)
        texts_of = {
            CARD: card(export.tagger, export.policy, export.origin, checked, timing, one_jet=export.one_jet),
            _EXAMPLES[0]: snippets.PYTHON,
            _EXAMPLES[1]: snippets.cpp(channels),
        }
        for name, text in texts_of.items():
            (temporary / name).write_text(text, encoding="utf-8")
        (temporary / CHECKSUMS).write_text(_checksums(temporary), encoding="utf-8")
    return checked


def write_preprocessing(config: DataConfig, used: list[str], path: Path) -> None:
    """Write weaver's description of the inputs, without the groups that the file does not read.

    FCCAnalyses asks for the variables of every group that is named there.
    """
    config.export_json(str(path))
    described = json.loads(path.read_text(encoding="utf-8"))
    kept = {"output_names": described["output_names"], "input_names": used, **{name: described[name] for name in used}}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def checked_policy(policy: ExitPolicy | None, model_hash: str | None) -> ThresholdPolicy | None:
    """Return the policy if a file can hold it with the model of this SHA-256.

    Raises:
        UsageError: it is of another kind, or of another model.
    """
    if policy is None:
        return None
    if isinstance(policy, ThresholdPolicy):
        policy.check_model(model_hash)
        return policy
    raise UsageError(
        f"a {type(policy).__name__} cannot be exported: a file decides about each jet by a score and thresholds "
        "(ThresholdPolicy)"
    )


def _full_model(export: Export, form: FileForm) -> bytes | None:
    """Return the file without exits, to compare costs with; None: the file has none itself."""
    if export.policy is None:
        return None
    content: bytes = write_model(export.tagger, None, form).SerializeToString()
    return content


def _check(content: bytes, export: Export, form: FileForm, batches: list[JetInputs | RaggedJets]) -> Checked:
    tagger, stages = export.tagger, stages_of(export.tagger)

    def write(other: Tagger) -> bytes:
        dtype = next(other.parameters()).dtype
        content: bytes = write_model(other, export.policy, replace(form, dtype=dtype)).SerializeToString()
        return content

    comparison = Comparison(tagger, export.policy, write, form.inputs, form.more, alone=stages.answers_depend_on_batch)
    pool = _pool(batches, export.schema)
    padded = (batch.padded() for batch in batches)
    with torch.no_grad():
        return comparison.check(content, itertools.chain(padded, odd_jets(pool, stages.neighbours)))


def _first(batches: Iterable[JetBatch], jets: int) -> Iterator[JetBatch]:
    for batch in batches:
        if jets <= 0:
            return
        yield batch
        jets -= len(batch)


def _pool(batches: list[JetInputs | RaggedJets], schema: DataSchema) -> RaggedJets:
    """Return jets whose particles odd jets can have; random ones, if there are none."""
    if batches:
        return batches[0].ragged()
    first, *others = schema.collections
    return replace(_random(first), more={collection.name: _random(collection) for collection in others})


def _random(collection: InputCollection) -> RaggedJets:
    random = torch.randn(_RANDOM, max(3, collection.feature_count), generator=torch.Generator().manual_seed(0))
    momentum_V3 = random[:, :3]
    energy_V1 = momentum_V3.norm(dim=1, keepdim=True) * 1.01
    vectors_V4 = torch.cat([momentum_V3, energy_V1], dim=1)
    return RaggedJets(random[:, :2], random[:, : collection.feature_count], vectors_V4, torch.tensor([_RANDOM]))


def _more(schema: DataSchema) -> dict[str, Mapping[str, str]]:
    """Return the input groups of further collections, by their names."""
    return {collection.name: collection.groups for collection in schema.collections[1:]}


def _checksums(folder: Path) -> str:
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(folder.iterdir()))
    return "\n".join(lines) + "\n"


def _others(folder: Path) -> list[str]:
    """Return what a user has put beside the files of an older bundle."""
    if not (folder / CHECKSUMS).is_file():
        return []
    lines = (folder / CHECKSUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    own = {MODEL, INPUTS, CHECKSUMS, CARD, *_EXAMPLES, *(line.partition("  ")[2] for line in lines)}
    return sorted(path.name for path in folder.iterdir() if path.name not in own)


def refuse_unwritable(schema: DataSchema) -> None:
    """Refuse a data configuration whose tagger no file can hold yet.

    Raises:
        UsageError: it has numbers of the jet itself among its inputs, or targets.
    """
    what = None
    if schema.globals is not None:
        what = f"{schema.globals.groups['features']} (numbers of the jet itself)"
    elif schema.targets:
        what = f"the targets {', '.join(schema.targets)} (labels.targets)"
    if what is not None:
        raise UsageError(
            f"{what} cannot be written to a file yet; export a tagger without them, or run this one by phaze_ee.load"
        )


def _refuse_other_content(folder: Path) -> None:
    if folder.is_mount():
        raise UsageError(f"{folder} is a mount point, which cannot be replaced; choose a folder in it: --output FOLDER")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CHECKSUMS).is_file():
        raise UsageError(f"{folder} holds other files than an exported tagger; choose another --output")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another --output")
