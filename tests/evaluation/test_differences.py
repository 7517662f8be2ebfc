"""Which answers are compared jet by jet, and which differences are claimed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from phaze_ee.data.schema import DataSchema
from phaze_ee.data.selections import JetChoice, for_testing, rows_hash
from phaze_ee.errors import UsageError
from phaze_ee.evaluation.differences import JudgedAnswer, compare_answers, compare_exits, compare_projects
from phaze_ee.evaluation.metrics import jets_hash
from phaze_ee.evaluation.over_seeds import mean_results
from phaze_ee.names import FULL_MODEL, POLICY
from phaze_ee.paired import PairedCounts, pack_bits
from phaze_ee.results.evaluation import ExitEvaluation
from phaze_ee.results.project import ProjectResults
from tests.evaluation.answers import CLASSES, saying
from tests.modes.two_class_project import DATA_CONFIG, write_jets
from tests.plots.examples import evaluation_results, project_results

JETS = 2000
RANDOM = np.random.default_rng(4)
RIGHT_N = RANDOM.random(JETS) < 0.7
BETTER_N = RIGHT_N | (RANDOM.random(JETS) < 0.1)


def exit_of(right_N: np.ndarray, *, bits: bool = True) -> ExitEvaluation:
    accuracy = float(right_N.mean())
    error = float(np.sqrt(accuracy * (1 - accuracy) / JETS))
    return (
        evaluation_results()
        .exits[FULL_MODEL]
        .model_copy(
            update={
                "accuracy": accuracy,
                "accuracy_error": error,
                "right_jets": pack_bits(right_N) if bits else None,
            }
        )
    )


def answer(name: str, *rights: np.ndarray, of: str | None = "h", bits: bool = True) -> JudgedAnswer:
    return JudgedAnswer(name, name, [exit_of(right_N, bits=bits) for right_N in rights], JETS, of)


def test_two_models_on_the_same_jets_are_compared_jet_by_jet() -> None:
    found = compare_answers([answer("a", RIGHT_N), answer("b", BETTER_N)])
    counts = PairedCounts.of(BETTER_N, RIGHT_N)
    (contrast,) = found.contrasts
    assert (found.jets, found.answers[0].difference) == (JETS, None)
    assert (contrast.value, contrast.jets_error, contrast.p_value) == (counts.difference, counts.error, counts.p_value)
    assert (contrast.paired, contrast.significant, contrast.spread) == (True, True, None)


@pytest.mark.parametrize(
    "other",
    [answer("b", BETTER_N, of="other"), answer("b", BETTER_N, of=None), answer("b", BETTER_N, bits=False)],
    ids=["other jets", "unknown jets", "an older file"],
)
def test_answers_for_other_jets_have_the_error_of_independent_samples(other: JudgedAnswer) -> None:
    (contrast,) = compare_answers([answer("a", RIGHT_N), other]).contrasts
    assert not contrast.paired
    assert contrast.value == pytest.approx(BETTER_N.mean() - RIGHT_N.mean())
    assert contrast.jets_error == pytest.approx(np.sqrt(RIGHT_N.var() / JETS + BETTER_N.var() / JETS))


def test_unknown_jets_of_two_projects_are_never_taken_for_the_same() -> None:
    (contrast,) = compare_answers([answer("a", RIGHT_N, of=None), answer("b", BETTER_N, of=None)]).contrasts
    assert not contrast.paired


def test_below_the_spread_of_the_seeds_nothing_is_claimed() -> None:
    random = np.random.default_rng(9)
    uneven = [BETTER_N & (random.random(JETS) < share) for share in (1.0, 0.9, 0.8)]
    steady = [BETTER_N & (random.random(JETS) < 0.9) for _ in range(3)]
    base = [BETTER_N & (random.random(JETS) < 0.8) for _ in range(3)]
    unclear, clear = compare_answers([answer("a", *base), answer("b", *uneven), answer("c", *steady)]).contrasts
    assert unclear.spread is not None
    assert abs(unclear.value) < unclear.spread
    assert not unclear.significant
    assert clear.significant
    per_jet_N = np.mean(steady, axis=0) - np.mean(base, axis=0)
    assert clear.jets_error == pytest.approx(per_jet_N.std() / np.sqrt(JETS)), "of the same jets"


def test_the_correction_is_for_all_differences() -> None:
    changed_N = RIGHT_N.copy()
    changed_N[np.flatnonzero(~RIGHT_N)[:6]] = True  # p = 0.031
    assert compare_answers([answer("a", RIGHT_N), answer("b", changed_N)]).contrasts[0].significant
    three = [answer("a", RIGHT_N), answer("b", changed_N), answer("c", RIGHT_N)]
    assert not compare_answers(three).contrasts[0].significant


def test_damaged_bits_are_an_error_that_names_the_project() -> None:
    damaged = JudgedAnswer("b", "W_b", [exit_of(BETTER_N).model_copy(update={"right_jets": "A"})], JETS, "h")
    with pytest.raises(UsageError, match="project W_b: right_jets are not those of 2,000 jets"):
        compare_answers([answer("a", RIGHT_N), damaged])


def with_bits(results: ProjectResults, shift: float) -> ProjectResults:
    random = np.random.default_rng(int(1000 * shift))
    exits = {
        name: exit_of((np.arange(JETS) < exit_.accuracy * JETS) ^ (random.random(JETS) < shift))
        for name, exit_ in results.evaluation.exits.items()
    }
    evaluation = results.evaluation.model_copy(update={"exits": exits, "jets": JETS, "jets_hash": "h"})
    return ProjectResults(results.name, evaluation, results.benchmark)


def test_a_project_with_seeds_stands_beside_one_without() -> None:
    seeds = [with_bits(project_results("seeded"), shift) for shift in (0.01, 0.02, 0.03)]
    mean = mean_results("seeded", seeds)
    accuracies = [seed.evaluation.exits[FULL_MODEL].accuracy for seed in seeds]
    assert mean.evaluation.exits[FULL_MODEL].accuracy == pytest.approx(np.mean(accuracies))
    assert mean.spread(FULL_MODEL, "accuracy") == pytest.approx(np.std(accuracies, ddof=1))
    single = with_bits(project_results("single", (0.5, 0.6, 0.7, 0.71)), 0.05)
    found = compare_projects([single, mean], FULL_MODEL)
    assert found is not None
    assert [one.seeds for one in found.answers] == [[], accuracies]
    assert found.contrasts[0].paired
    assert found.contrasts[0].spread == pytest.approx(np.sqrt(2) * np.std(accuracies, ddof=1))
    assert compare_projects([single, mean], POLICY) is None
    assert compare_projects([single], FULL_MODEL) is None


def test_exits_are_compared_with_their_full_model_if_the_file_says_which_jets_are_right() -> None:
    found = compare_exits(with_bits(project_results(), 0.02))
    assert found is not None
    assert [one.name for one in found.answers] == ["full model", "exit 0", "exit 1", "exit 2"]
    assert compare_exits(project_results()) is None


def test_seeds_on_different_jets_are_refused() -> None:
    one = with_bits(project_results(), 0.01)
    evaluation = one.evaluation.model_copy(update={"jets_hash": "other"})
    with pytest.raises(UsageError, match="were evaluated on different jets"):
        mean_results("demo", [one, ProjectResults("demo", evaluation, one.benchmark)])


def schema_of(folder: Path, **sections: object) -> DataSchema:
    options = {**yaml.safe_load(DATA_CONFIG), **sections}
    (folder / "own.yaml").write_text(yaml.safe_dump(options, sort_keys=False))
    return DataSchema.load(folder / "own.yaml")


def test_the_hash_of_the_rows_depends_on_what_selects_them_alone(tmp_path: Path) -> None:
    files = [tmp_path / "a.root"]
    write_jets(files[0], np.arange(10) % 2)
    fewer = {"pf_points": {"length": 8, "vars": ["p_eta", "p_phi"]}, "pf_mask": {"length": 8, "vars": ["p_mask"]}}
    variables = {"p_mask": "ak.ones_like(p_pt)", "even": "jet_id % 2"}
    plain = rows_hash(files, schema_of(tmp_path))
    assert plain == rows_hash(files, schema_of(tmp_path, inputs=fewer | {"pf_features": fewer["pf_points"]}))
    assert plain == rows_hash(files, schema_of(tmp_path, new_variables=variables, observers=[]))
    cut = schema_of(tmp_path, new_variables=variables, test_time_selection="even == 0")
    other = schema_of(tmp_path, new_variables=variables | {"even": "jet_id % 3"}, test_time_selection="even == 0")
    extra = JetChoice.of({"extra_selection_test": "jet_id > 2"})
    hashes = [rows_hash(files, schema) for schema in (cut, other, for_testing(cut, extra))]
    (tmp_path / "b.root").write_bytes(files[0].read_bytes())
    hashes.append(rows_hash([tmp_path / "b.root"], schema_of(tmp_path)))
    (tmp_path / "link.root").symlink_to(files[0])
    assert plain == rows_hash([tmp_path / "link.root"], schema_of(tmp_path))
    assert len({plain, *hashes}) == 5


def test_the_hash_of_the_rows_depends_on_columns_from_names_of_files_and_on_no_order(tmp_path: Path) -> None:
    write_jets(tmp_path / "a.root", np.arange(10) % 2)

    def of(magic: dict[str, float], variables: dict[str, str]) -> str:
        own = {"p_mask": "ak.ones_like(p_pt)", **variables}
        sections = {"file_magic": {"run": magic}, "test_time_selection": "(even + odd > 0) & (run < 3)"}
        return rows_hash([tmp_path / "a.root"], schema_of(tmp_path, new_variables=own, **sections))

    variables = {"even": "jet_id % 2", "odd": "1 - even"}
    plain = of({r"a\.root": 1}, variables)
    assert plain == of({r"a\.root": 1}, dict(reversed(variables.items())))
    assert plain != of({r"a\.root": 5}, variables)


def test_the_hash_of_the_jets_goes_by_class_names_in_order() -> None:
    one = saying([[0, 0, 0]], [0, 1, 1])
    swapped = replace(one, label_N=1 - one.label_N, class_names=(CLASSES[1], CLASSES[0], CLASSES[2]))
    assert jets_hash("rows", one) == jets_hash("rows", swapped)
    assert jets_hash("rows", one) != jets_hash("rows", saying([[0, 0, 0]], [0, 1, 0]))
    assert jets_hash("rows", one) != jets_hash("others", one)
    assert jets_hash(None, one) is None
