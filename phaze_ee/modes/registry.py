"""All modes of the command line, and their flags. A new mode is a module beside this one and a record in ``MODES``."""

from argparse import ArgumentTypeError
from pathlib import Path

from phaze_ee.errors import UsageError
from phaze_ee.modes.mode import Flag, Mode, joined_flags
from phaze_ee.names import nearest

TARGETS = ("accuracy_drop", "net_accuracy_drop", "agreement", "signal_efficiency", "budget")


def _whole_number(text: str) -> int:
    """Return a number of processes."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


_WORKERS = {"type": _whole_number, "metavar": "N"}
_OVERWRITE = Flag("--overwrite", "replace files of an earlier run", {"action": "store_true"})
_OUTPUT = Flag("--output", "folder to write to (default: in the project)", {"type": Path, "metavar": "FOLDER"})
_TRUST = Flag("--trust", "accept a plug-in that has changed since the training", {"action": "store_true"})
_DETAILS = Flag("--details", "print all tables", {"action": "store_true"})
_TRAIN_DETAILS = Flag("--details", "print a line for each epoch in a terminal too", {"action": "store_true"})
_DEMO_DETAILS = Flag("--details", f"{_DETAILS.help}, and a line for each epoch", {"action": "store_true"})
_NO_POLICY = Flag("--no-policy", "every jet gets the full model, as it is", {"action": "store_true"})
_POLICY = Flag("--policy", "name of the policy to use (default: the active one)", {"metavar": "NAME"})
_PRECISION = Flag(
    "--precision",
    "products on CUDA: float32, tf32, float16 or bfloat16",
    {"metavar": "TYPE"},
    option="precision",
)
_SEEDS = (
    Flag("--seeds", "do it for N seeds, each in a project of its own", {"type": int, "metavar": "N"}, option="seeds"),
    Flag("--at-once", "seeds that run at the same time (default: one for each GPU, or for every 4 cores)", _WORKERS),
)
_PROJECTS = {"nargs": "+", "metavar": "NAME"}

_TEST_SELECTION = Flag(
    "--extra-selection-test",
    "expression that jets must pass besides test_time_selection",
    {"metavar": "EXPRESSION"},
    option="extra_selection_test",
)
_FRACTION = {"type": float, "metavar": "F"}
_JET_FLAGS = (
    Flag(
        "--extra-selection",
        "expression that training and validation jets must pass too",
        {"metavar": "EXPRESSION"},
        option="extra_selection",
    ),
    Flag(
        "--extra-selection-train",
        "the same for training jets alone",
        {"metavar": "EXPRESSION"},
        option="extra_selection_train",
    ),
    Flag(
        "--extra-selection-val",
        "the same for validation jets alone",
        {"metavar": "EXPRESSION"},
        option="extra_selection_val",
    ),
)

_TRAIN_FLAGS = (
    *_JET_FLAGS,
    Flag("--data-fraction", "fraction of each training file in an epoch", _FRACTION, option="data_fraction"),
    Flag("--data-fraction-val", "fraction of the validation jets", _FRACTION, option="data_fraction_val"),
    Flag("--file-fraction", "fraction of the training files in an epoch", _FRACTION, option="file_fraction"),
    Flag("--fresh", "start from the beginning instead of resuming an interrupted training", {"action": "store_true"}),
    Flag("--yes", "do not ask before --fresh discards an interrupted training", {"action": "store_true"}),
    _TRAIN_DETAILS,
)

_CALIBRATE_FLAGS = (
    Flag(
        "--target",
        f"{', '.join(TARGETS[:-1])} or {TARGETS[-1]}",
        {"metavar": "TARGET"},
        option="exit_target",
    ),
    Flag("--epsilon", "largest probability of a loss", {"type": float, "metavar": "E"}, option="epsilon"),
    Flag("--delta", "probability that the promise is broken", {"type": float, "metavar": "D"}, option="delta"),
    Flag(
        "--score",
        "confidence, entropy, margin, patience, gate or window",
        {"metavar": "SCORE"},
        option="exit_score",
    ),
    Flag("--signal", "signal_efficiency: the signal, e.g. label_Hbb", {"metavar": "CLASS"}, option="signal"),
    Flag(
        "--efficiency",
        "signal_efficiency: signal efficiency of the full model",
        {"type": float, "metavar": "E"},
        option="signal_efficiency",
    ),
    Flag("--form", "signal_efficiency: reject or two_sided", {"metavar": "FORM"}, option="exit_form"),
    Flag(
        "--budget",
        "budget: mean cost as a fraction of the full model's",
        {"type": float, "metavar": "C"},
        option="cost_budget",
    ),
    Flag("--per-class", "promise it in each class as well", {"action": "store_true"}, option="promise_per_class"),
    Flag(
        "--bins",
        "promise it in bins as well: jet_pt:500,600,800",
        {"nargs": "+", "metavar": "NAME:EDGES"},
        option="promise_bins",
    ),
    Flag(
        "--leaving",
        "promise it among the jets that leave, not among all",
        {"action": "store_true"},
        option="promise_leaving",
    ),
    Flag(
        "--plan",
        "only say how many calibration jets it takes, from other validation jets",
        {"action": "store_true"},
        alone=True,
    ),
    Flag("--name", "name of the policy (default: default)", {"metavar": "NAME"}),
    Flag("--activate", "make an earlier policy the active one, and do nothing else", {"metavar": "NAME"}),
    _PRECISION,
    _DETAILS,
    _TEST_SELECTION,
    _TRUST,
)

_EVALUATE_FLAGS = (
    Flag(
        "--ood", "files of out-of-distribution jets, which the network should notice", {"nargs": "+", "metavar": "FILE"}
    ),
    Flag("--ood-data-config", "data configuration of these files, if another", {"metavar": "YAML"}),
    _POLICY,
    _PRECISION,
    _DETAILS,
    _TEST_SELECTION,
    _TRUST,
)

_PREDICT_FLAGS = (
    Flag(
        "--bundle",
        "an exported tagger to run instead of a project's, without torch",
        {"type": Path, "metavar": "DIR"},
        alone=True,
    ),
    Flag("--files", "files of jets (default: test_files)", {"nargs": "+", "metavar": "PATTERN"}),
    Flag("--format", "format of the predictions (default: root)", {"choices": ("root", "parquet")}),
    Flag("--exit-scores", "also write the scores of the exits before", {"action": "store_true"}),
    Flag("--tree", "name of the tree, instead of the data configuration's", {"metavar": "NAME"}),
    Flag("--observers", "columns to copy, instead of the data configuration's", {"nargs": "*", "metavar": "NAME"}),
    Flag("--max-exit", "no jet goes past exit K", {"type": int, "metavar": "K"}),
    Flag("--event-budget", "cost limit of all jets of an event: 200M (MACs) or 5ms", {"metavar": "B"}),
    Flag("--event-size", "an event is N rows of a file", {"type": int, "metavar": "N"}),
    Flag("--event-column", "an event is the jets in a row with the same value", {"metavar": "NAME"}),
    Flag("--audit", "share of the early jets that also get the full model", {"type": float, "metavar": "RATE"}),
    Flag("--audit-near", "audit all jets less than D above the threshold", {"type": float, "metavar": "D"}),
    Flag("--seed", "another seed audits other jets (default: 0)", {"type": int, "metavar": "N"}),
    Flag(
        "--monitor",
        "warn if the jets differ from the calibration jets (default significance: 0.001)",
        {"nargs": "?", "type": float, "const": 1e-3, "metavar": "SIGNIFICANCE"},
    ),
    _POLICY,
    _NO_POLICY,
    _PRECISION,
    _TEST_SELECTION,
    _OUTPUT,
    _OVERWRITE,
    _TRUST,
    Flag("--workers", "parallel processes (extra 'dask')", _WORKERS),
    Flag("--scheduler", "address of a Dask cluster to use (extra 'dask')", {"metavar": "ADDRESS"}),
)

_EXPORT_FLAGS = (
    Flag("--one-jet", "a file for exactly one jet per call, the fastest for triggers", {"action": "store_true"}),
    _POLICY,
    _NO_POLICY,
    Flag("--opset", "version of the ONNX operators, 15 to 20 (default: what suits)", {"type": int, "metavar": "N"}),
    Flag("--licence", "licence of the weights, for the model card", {"metavar": "TEXT"}),
    _OUTPUT,
    _TRUST,
)

_SWEEP_FLAGS = (
    Flag(
        "--set",
        "values of an option: a,b,c or low:high[:log|:int]; once for each option",
        {"action": "append", "metavar": "NAME=VALUES"},
    ),
    Flag("--trials", "number of trials (default: 20; all combinations of choices)", {"type": int, "metavar": "N"}),
    Flag(
        "--objective",
        "validation accuracy to maximise: full_model, exits (their mean), or 50M (the best exit within 50M MACs)",
        {"metavar": "WHAT"},
    ),
    Flag("--study", "name of the sweep (default: sweep)", {"metavar": "NAME"}),
    Flag("--storage", "file of the study, or URL of a database", {"metavar": "FILE"}),
    Flag("--workers", "trials that run at the same time", _WORKERS),
)

_GENERATE_FLAGS = (
    Flag("--jets", "jets per class", {"type": int, "metavar": "N"}),
    Flag("--classes", "classes as JetClass names its files (default: all ten)", {"nargs": "+", "metavar": "NAME"}),
    Flag("--seed", "the same seed gives the same jets", {"type": int, "metavar": "N"}),
    Flag("--generator", "fast: overlaid underlying event", {"choices": ("reference", "fast")}),
    Flag("--vertices", "also write secondary vertices, as branches sv_*", {"action": "store_true"}),
    Flag("--pythia", "a setting of Pythia8, may be repeated", {"action": "append", "metavar": "'NAME = VALUE'"}),
    _OUTPUT,
    _OVERWRITE,
    Flag("--workers", "parallel processes (default: all cores)", _WORKERS),
)

_CHAIN_FLAGS = (
    Flag(
        "-o",
        "modes joined by '_' (default: train_evaluate_benchmark_plot)",
        {"metavar": "A_B_C"},
        aliases=("--operations", "--options"),
        field="operations",
    ),
)

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("demo", "run the whole chain on bundled sample jets (2 to 4 minutes)", (_DEMO_DETAILS,)),
        Mode("new_project", "create a project with a configuration that runs as it is", chained=True),
        Mode(
            "convert",
            "convert the jets of a project into a cache that is fast to read",
            (
                *_JET_FLAGS,
                _TEST_SELECTION,
                Flag("--workers", "parallel processes (default: c.num_workers)", _WORKERS),
            ),
            configured=True,
            chained=True,
        ),
        Mode("find_lr", "find a learning rate to start from (Lightning's range test)", configured=True),
        Mode(
            "train",
            "train the network and its exits",
            (*_TRAIN_FLAGS, *_SEEDS),
            configured=True,
            preemptible=True,
            chained=True,
            seeded=True,
        ),
        Mode(
            "retrofit",
            "add exits to published weights; only the exits are trained",
            (
                Flag("--checkpoint", "weights of weaver's network or of ours", {"type": Path, "metavar": "FILE"}),
                *_TRAIN_FLAGS,
            ),
            preemptible=True,
            chained=True,
        ),
        Mode(
            "import_weaver",
            "make a project from a command line of weaver",
            (Flag("--command", "the command that trains, in quotes", {"metavar": '"weaver …"'}),),
        ),
        Mode(
            "place",
            "find the stages where exits pay off",
            (_DETAILS, _TRUST, *_SEEDS),
            configured=True,
            chained=True,
            seeded=True,
            refuses_early=True,
        ),
        Mode(
            "calibrate",
            "choose exit thresholds that keep a promise",
            (*_CALIBRATE_FLAGS, *_SEEDS),
            configured=True,
            chained=True,
            seeded=True,
            refuses_early=True,
        ),
        Mode(
            "evaluate",
            "measure accuracy, AUC and rejection of every exit",
            (*_EVALUATE_FLAGS, *_SEEDS),
            configured=True,
            chained=True,
            seeded=True,
            refuses_early=True,
        ),
        Mode(
            "predict",
            "write predictions for any files of jets, as ROOT or parquet",
            _PREDICT_FLAGS,
            configured=True,
            chained=True,
        ),
        Mode(
            "monitor",
            "check on audited predictions whether a promise is kept",
            (
                Flag("--files", "predictions with an audit", {"nargs": "+", "metavar": "PATTERN"}, alone=True),
                Flag("--by", "watch each value of a column apart, such as a run or an era", {"metavar": "COLUMN"}),
                Flag(
                    "--adapt",
                    "move to a safer policy, NAME.adapted, when too many jets are lost",
                    {"action": "store_true"},
                ),
                _POLICY,
                _OUTPUT,
            ),
        ),
        Mode(
            "export",
            "write one ONNX file with the exits inside (extra 'onnx')",
            _EXPORT_FLAGS,
            configured=True,
            chained=True,
            refuses_early=True,
        ),
        Mode(
            "benchmark",
            "count operations and parameters, measure times",
            (_POLICY, _PRECISION, _DETAILS, _TRUST, *_SEEDS),
            configured=True,
            chained=True,
            seeded=True,
        ),
        Mode(
            "plot",
            "draw the results of a project",
            (Flag("--projects", "other projects to draw as points", _PROJECTS), _POLICY, _DETAILS),
            chained=True,
            reads=("evaluate", "benchmark"),
        ),
        Mode(
            "compare",
            "compare several projects in figures and a table",
            (Flag("--projects", "projects to compare (default: all with results)", _PROJECTS), _DETAILS),
        ),
        Mode(
            "report",
            "write one HTML page on a project, or a comparison",
            (Flag("--projects", "other projects to compare with", _PROJECTS), _POLICY),
            chained=True,
        ),
        Mode("chain", "run several modes in a row, see -o", _CHAIN_FLAGS, preemptible=True, seeded=True),
        Mode(
            "sweep",
            "search over options; each trial is a project (extra 'sweep')",
            _SWEEP_FLAGS,
            configured=True,
            preemptible=True,
        ),
        Mode("show", "show model, policies, results, and what to run next"),
        Mode("list", "list the projects of a workspace (-p WORKSPACE), or of all", whole_workspace=True),
        Mode("generate", "generate JetClass-like jets with Pythia8 (extra 'generate')", _GENERATE_FLAGS),
    )
}


def chained_modes(operations: str) -> list[Mode]:
    """Return the modes that ``-o train_evaluate`` names; ``new_project`` may also be written ``newproject``.

    Raises:
        UsageError: an operation is unknown, or none is given.
    """
    words = operations.replace("new_project", "newproject").split("_")
    names = ["new_project" if word == "newproject" else word for word in words]
    for name in names:
        if name not in MODES or not MODES[name].chained:
            choices = ", ".join(mode.name for mode in MODES.values() if mode.chained)
            near, target = (
                nearest(name, [mode.name for mode in MODES.values() if mode.chained]),
                near_target(operations),
            )
            meant = "" if near is None and target is None else f", did you mean {repr(near) if near else target}?"
            raise UsageError(f"unknown operation {name!r} in -o {operations!r}{meant}; join some of {choices} with '_'")
    return [MODES[name] for name in names]


def near_target(word: str) -> str | None:
    """Return the flag with the calibration target that a word resembles; None if it resembles none."""
    target = nearest(word, TARGETS)
    return None if target is None else f"--target {target}"


def flags_of(mode: Mode) -> tuple[Flag, ...]:
    """Return the flags that a mode takes; mode chain takes those of all modes that it can run."""
    if mode.name != "chain":
        return mode.flags
    return (*mode.flags, *joined_flags(own for own in MODES.values() if own.chained))
