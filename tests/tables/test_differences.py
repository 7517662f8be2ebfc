import pytest

from phaze_ee.results.differences import ComparedAnswer, Contrast, Differences
from phaze_ee.results.seeds import OverSeeds, SeedRun, SeedsExit, SeedsResults
from phaze_ee.tables.differences import differences_table, seeds_table
from phaze_ee.tables.style import MOST_ROWS, WIDTH
from tests.tables.test_policy import rendered, row

CLEAR = Contrast(value=-0.0123, jets_error=0.0021, spread=0.004, p_value=0.001, significant=True, paired=True)
NAME = "strategy_mimic_detached_with_a_long_name"


def answer(name: str, difference: Contrast | None, seeds: int = 3) -> ComparedAnswer:
    several = [0.7812 + 0.001 * seed for seed in range(seeds)]
    spread = 0.0041 if several else None
    return ComparedAnswer(
        name=name, accuracy=0.7812, accuracy_error=0.0091, seeds=several, spread=spread, difference=difference
    )


def differences(*others: ComparedAnswer, seeds: int = 3) -> Differences:
    return Differences(reference=NAME, jets=2000, answers=[answer(NAME, None, seeds), *others])


def test_both_errors_are_shown_and_what_is_claimed_has_a_star() -> None:
    below = CLEAR.model_copy(update={"value": 0.003, "significant": False})
    table = differences_table(differences(answer("a", CLEAR), answer("b", below)), "t", "project")
    assert row(table, "a").split() == ["a", "0.7812", "0.0041", "0.0091", "-1.23", "0.40", "0.21", "*"]
    assert row(table, "b").split() == ["b", "0.7812", "0.0041", "0.0091", "+0.30", "0.40", "0.21"]
    assert "a difference below it is not claimed" in str(table.caption)
    assert "*: significant at 5 % (seeds and jets, Holm's correction for 2)" in str(table.caption)


def test_without_seeds_the_test_is_mcnemars_and_other_jets_are_marked() -> None:
    alone = CLEAR.model_copy(update={"spread": None, "significant": False})
    table = differences_table(differences(answer("a", alone, 0), seeds=0), "t", "project")
    assert row(table, "a").split() == ["a", "0.7812", "0.0091", "-1.23", "0.21"]
    assert "none is significant at 5 % (McNemar's exact test)" in str(table.caption)
    assert "seeds" not in str(table.caption)
    other = differences_table(differences(answer("a", alone.model_copy(update={"paired": False}), 0), seeds=0), "t")
    assert row(other, "a").split()[-1] == "u"
    assert "u: not known to be the same jets" in str(other.caption)
    assert "McNemar" not in str(other.caption)


@pytest.mark.parametrize("seeds", [0, 5])
def test_the_tables_are_small(seeds: int) -> None:
    unpaired = CLEAR.model_copy(update={"value": -0.5, "paired": False, "spread": 0.123 if seeds else None})
    many = [answer(f"{NAME}_{index}", unpaired, seeds) for index in range(30)]
    table = differences_table(differences(*many, seeds=seeds), "Policies: accuracy minus that of first", "project")
    assert table.row_count == MOST_ROWS
    lines = rendered(table)
    assert max(map(len, lines)) <= WIDTH
    assert sum(bool(line.strip()) for line in lines) == table.row_count + 4 + len(str(table.caption).splitlines())


def test_means_over_seeds() -> None:
    def over(*values: float) -> OverSeeds:
        return OverSeeds(values=list(values), mean=sum(values) / len(values), spread=0.5 * (values[-1] - values[0]))

    exit_ = SeedsExit(
        accuracy=over(0.61, 0.63), roc_auc=None, loss=over(1, 2), expected_calibration_error=over(0.1, 0.2),
        mean_macs=over(1e6, 1e6), macs_share=over(0.25, 0.25), rejections={}, jets_per_second=over(100_000, 140_000),
    )  # fmt: skip
    runs = [SeedRun(seed=seed, project=f"first_seed{seed}", state="evaluated") for seed in (1, 2)]
    names = [*(f"exit_{index}" for index in range(20)), "full_model", "policy"]
    results = SeedsResults(
        project="first", runs=runs, jets=1200, exits=dict.fromkeys(names, exit_), differences=None, notes=[]
    )
    table = seeds_table(results)
    cells = ["0.620", "±", "0.010", "-", "120", "±", "20", "25", "%"]
    assert row(table, "exit 0").split() == ["exit", "0", *cells]
    broad = {"roc_auc": over(0.988, 0.991), "macs_share": over(0.4695, 0.4887), "jets_per_second": over(61_760, 86_898)}
    wide = results.model_copy(update={"exits": {"exit_0": exit_.model_copy(update=broad)}})
    table_of_one = seeds_table(wide)
    lines = [line for line in rendered(table_of_one) if line.strip()]
    assert len(lines) == 1 + 3 + len(str(table_of_one.caption).splitlines())  # no cell on two lines
    assert table.row_count == MOST_ROWS
    assert max(map(len, rendered(table))) <= WIDTH
    assert "mean of 2 seeds" in str(table.title)
