"""Times a cascade whose first exit is on the inputs against the full model, by chunk size, threads and form.

    python benchmarks/cascade.py MODEL FILE.root … [--leave 0.96 0.75 0.5 | --policy exit_policy.json] [--jets 4000]

MODEL is a checkpoint of PHAZE-EE. The jets are background jets of the files, repeated until there are ``--jets``, as
in a trigger, where nearly every jet is background. A policy of mode calibrate decides which jets leave; or, with
``--leave``, cuts on ln(p_signal / p_background) by which these fractions of the jets that reach an exit leave there.
The variants take turns, so that their ratios are fair on a machine that does other work.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.engine import Rivals, race
from benchmarks.gpu_sections.exits import leaving
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.costs import ExitCosts
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.exits.scores import Window
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import RaggedJets
from phaze_ee.workspace import file_hash

FULL_JETS = 500  # for the full model: its time per jet does not depend on the number of jets
Setting = tuple[str, int, int | None]  # backend, threads, and chunk size; None: the full model


def background_jets(schema: DataSchema, files: Sequence[Path], label: int, count: int) -> RaggedJets:
    batch = next(iter(evaluation_loader(schema, files, batch_size=1_000_000)))
    index_N = (batch.label_N == label).nonzero()[:, 0]
    if len(index_N) == 0:
        raise SystemExit(f"the files hold no {schema.class_names[label]}")
    return batch.inputs.ragged().select(index_N[torch.arange(count) % len(index_N)])


def make_rivals(
    tagger: Tagger, policy: ThresholdPolicy, jets: RaggedJets, arguments: argparse.Namespace
) -> dict[Setting, Engine]:
    settings = product(arguments.backends, arguments.threads, (None, *arguments.chunks))
    return {
        (backend, threads, chunk): Engine(tagger, threads=threads, backend=backend)
        if chunk is None
        else Engine(tagger, policy, threads=threads, backend=backend, chunk_size=chunk)
        for backend, threads, chunk in settings
    }


def show(rates: dict[Setting, float]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("form", "threads", "chunk", "jets/s", "µs a jet", "of full [%]", "times as fast"):
        table.add_column(column, justify="left" if column == "form" else "right", no_wrap=True)
    for (backend, threads, chunk), rate in rates.items():
        full = rates[backend, threads, None]
        row = (f"{rate:,.0f}", f"{1e6 / rate:.1f}", f"{100 * full / rate:.2f}", f"{rate / full:.1f}")
        table.add_row(backend, str(threads), "full model" if chunk is None else str(chunk), *row)
    Console(width=80).print(table)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--leave", type=float, nargs="+", default=[0.96, 0.75, 0.5])
    parser.add_argument("--signal", default="label_Hbb")
    parser.add_argument("--background", default="label_QCD")
    parser.add_argument("--jets", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--chunks", type=int, nargs="+", default=[64, 256, 512, 1024, 2048])
    parser.add_argument("--backends", nargs="+", default=["auto", "native"])
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(arguments.model)
    schema, tagger = DataSchema.from_options(checkpoint.data_options), checkpoint.tagger
    signal, background = (schema.class_names.index(name) for name in (arguments.signal, arguments.background))
    jets = background_jets(schema, arguments.files, background, arguments.jets)
    if arguments.policy:
        policy = ExitPolicyFile.load(arguments.policy, file_hash(arguments.model)).policy()
    else:
        window = Window(signal=signal, background=background, cut=0.0)
        policy = leaving(arguments.leave, window, Engine(tagger).every_exit(jets))
    engines, few = make_rivals(tagger, policy, jets, arguments), jets.select(torch.arange(min(FULL_JETS, len(jets))))
    rivals: Rivals = {
        str(setting): partial(engine, few if setting[2] is None else jets) for setting, engine in engines.items()
    }
    times = race(rivals, 1, arguments.rounds)
    result = Engine(tagger, policy)(jets)
    left_E = torch.bincount(result.exit_index_N, minlength=len(tagger.exit_names)).tolist()
    full_N = ExitCosts.of(tagger.fastest_form(), jets.particle_count_N.numpy()).full_N
    print(f"{len(jets):,} jets of {arguments.background}, {float(jets.particle_count_N.double().mean()):.1f} particles")
    print(
        "leave at "
        + ", ".join(f"{name} {n / len(jets):.2%}" for name, n in zip(tagger.exit_names, left_E, strict=True))
    )
    print(f"MACs {result.macs_N.numpy().sum() / full_N.sum():.2%} of the full model's")
    show({setting: times[str(setting)] * len(few if setting[2] is None else jets) for setting in engines})


if __name__ == "__main__":
    main()
