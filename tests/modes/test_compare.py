import csv
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from phaze_ee.errors import RunError, UsageError
from phaze_ee.modes import compare
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.workspace import Project, file_hash
from tests.plots.dynamic_examples import dynamic_results
from tests.plots.examples import benchmark_results, evaluation_results
from tests.plots.undrawn import write_nothing

FIGURES = [
    f"comparison_{name}{suffix}"
    for name in ("flops_vs_accuracy", "flops_vs_auc", "params_vs_accuracy", "params_vs_auc")
    for suffix in (".pdf", ".png")
]


@pytest.fixture(autouse=True)
def workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_nothing)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One empty figure in place of the trade-offs, which tests/plots looks at."""
    figure = Figure()
    figure.add_subplot()
    monkeypatch.setattr(
        "phaze_ee.modes.compare.tradeoff_figures", lambda projects: {"flops_vs_accuracy": lambda: figure}
    )


def new_project(name: str) -> Project:
    project = Project("W", name)
    project.config.parent.mkdir(parents=True)
    project.config.touch()
    return project


def judged_project(
    name: str, accuracies: tuple[float, ...] = (0.6, 0.7), signal: str = "Top", particles: int = 128, jets: int = 2_000
) -> Project:
    project = new_project(name)
    evaluation = evaluation_results(accuracies, ("QCD", signal), jets, project=name)
    evaluation.write(project.evaluation_results)
    benchmark_results(tuple(evaluation.exits), particles).write(project.benchmark_results)
    return project


def judged_policy(name: str, target: str = "accuracy_drop: epsilon 0.02") -> Project:
    project = judged_project(name, (0.55, 0.68, 0.77, 0.78))
    project.exit_policy.write_text("{}", encoding="utf-8")
    evaluation, results = EvaluationResults.read(project.evaluation_results, "evaluate"), dynamic_results()
    judged = {"mixture": evaluation.exits["exit_2"], "policy_hash": file_hash(project.exit_policy)}
    policy = results.policy.model_copy(update={"target": target})
    results.model_copy(update={**judged, "policy": policy}).write(project.dynamic_results)
    return project


def run(*names: str) -> None:
    compare.run(Session.open(Request("compare", workspace="W", project="dummy", projects=list(names))))


def test_named_projects_are_drawn_and_tabled(workspaces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged_project("strategy_mimic_detached_with_a_long_name")
    judged_project("flow", (0.61, 0.72))
    judged_project("not_asked_for")
    run("strategy_mimic_detached_with_a_long_name", "flow")
    folder = workspaces / "W" / "comparisons"
    differences = [f"comparison_{name}" for name in ("differences.pdf", "differences.png", "results.json")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FIGURES, *differences, "comparison_summary.csv"])
    output = capsys.readouterr().out
    table = output[: output.index("Written")]
    assert max(map(len, table.splitlines())) <= 80
    assert "flow" in table
    assert "533.720" in table
    assert "not_asked_for" not in output


@pytest.mark.usefixtures("undrawn")
def test_summary_holds_the_figures_of_every_exit(workspaces: Path) -> None:
    judged_project("one", (0.6, 0.7))
    judged_project("two", (0.5,))
    run("two", "one")
    with (workspaces / "W" / "comparisons" / "comparison_summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["project"], row["exit"]) for row in rows] == [
        ("two", "full_model"),
        ("one", "exit_2"),
        ("one", "full_model"),
    ]
    assert [float(row["accuracy"]) for row in rows] == [0.5, 0.6, 0.7]
    assert int(rows[-1]["macs"]) == 533_720_000


@pytest.mark.usefixtures("undrawn")
def test_without_names_all_judged_projects_are_taken(workspaces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged_project("one")
    half = new_project("half")
    benchmark_results().write(half.benchmark_results)
    new_project("untouched")
    run()
    output = capsys.readouterr().out
    assert "Left out: W/half" in output
    assert "untouched" not in output
    assert (workspaces / "W" / "comparisons" / "comparison_flops_vs_accuracy.png").is_file()


@pytest.mark.usefixtures("undrawn")
def test_different_samples_and_particles_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    judged_project("one")
    judged_project("two", particles=64, jets=3_000)
    run("one", "two")
    output = capsys.readouterr().out
    assert "not evaluated on the same jets of their files: their selections differ" in " ".join(output.split())
    assert "different numbers of particles" in output


@pytest.mark.usefixtures("undrawn")
def test_policies_of_different_targets_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    for name, target in (("one", "budget: cost_budget 0.5"), ("two", "agreement: epsilon 0.05")):
        judged_policy(name, target)
    run("one", "two")
    output = " ".join(capsys.readouterr().out.split())
    assert "different targets (one: budget: cost_budget 0.5; two: agreement: epsilon 0.05)" in output


@pytest.mark.usefixtures("undrawn")
def test_an_earlier_comparison_of_other_projects_is_kept(workspaces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two", "three"):
        judged_project(name)
    folder = workspaces / "W" / "comparisons"
    run("one", "two")
    first = (folder / "comparison_summary.csv").read_bytes()
    run("two", "one")
    assert not (folder / "one+two").exists()
    run("two", "three")
    assert (folder / "two+one" / "comparison_summary.csv").read_bytes() != first  # the order of the second comparison
    assert (folder / "two+one" / "comparison_flops_vs_accuracy.png").is_file()
    assert "Moved: the earlier comparison of 2 projects" in capsys.readouterr().out
    rows = (folder / "comparison_summary.csv").read_text(encoding="utf-8")
    assert "three" in rows
    assert "one" not in rows


def test_a_policy_has_its_row_point_and_curve(workspaces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged_project("static", (0.55, 0.68, 0.77, 0.78))
    project = judged_policy("dynamic")
    compare.run(Session.open(Request("compare", "W", "all", projects=["static", "dynamic"], details=True)))
    with (workspaces / "W" / "comparisons" / "comparison_summary.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["exit"] == "policy"]
    assert [(row["project"], float(row["accuracy"]), row["policy_hash"]) for row in rows] == [
        ("dynamic", 0.77, file_hash(project.exit_policy))
    ]
    costs = [exit_.macs for exit_ in benchmark_results().exits.values()]
    assert float(rows[0]["macs"]) == round(sum(0.1 * (4 - index) * cost for index, cost in enumerate(costs)))
    printed = capsys.readouterr().out
    assert next(line for line in printed.splitlines() if line.startswith("dynamic")).split()[-2:] == ["40.0", "%"]
    assert next(line for line in printed.splitlines() if line.startswith("static")).split()[-2:] == ["-", "-"]
    assert sum(line.strip().startswith("policy") for line in printed.splitlines()) == 1
    assert (workspaces / "W" / "comparisons" / "comparison_policies.png").is_file()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("one", "absent"), "no project W/absent"),
        (("one", "new"), "W/new has no evaluation_results.json yet; run phaze_ee -m chain -p W new -o train"),
        (("one", "evaluated"), "W/evaluated has no benchmark_results.json yet; run phaze_ee -m benchmark"),
        (("one", "other_classes"), "one and other_classes cannot be compared"),
        (("../x",), "name '../x' is not usable"),
        (("evaluated", "one", "new", "absent"), "evaluated .*; nor can new, absent be compared$"),
    ],
)
def test_an_unusable_project_stops_before_anything_is_written(
    workspaces: Path, names: tuple[str, ...], message: str
) -> None:
    judged_project("one")
    judged_project("other_classes", signal="W")
    new_project("new")
    evaluation_results().write(new_project("evaluated").evaluation_results)
    with pytest.raises(UsageError, match=message):
        run(*names)
    assert not (workspaces / "W" / "comparisons").exists()


def test_tables_are_shown_where_nothing_can_be_written(
    workspaces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged_project("one")
    judged_project("two")
    monkeypatch.setattr("phaze_ee.atomic.os.access", lambda *arguments: False)
    with pytest.raises(RunError, match=r"cannot write to .*: it is read-only for you; check permissions"):
        run("one", "two")
    assert "two" in capsys.readouterr().out


def test_nothing_to_compare_is_an_error(workspaces: Path) -> None:
    with pytest.raises(UsageError, match=r"no project in .* is evaluated and benchmarked"):
        run()
    assert not (workspaces / "W").exists()
