import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.errors import UsageError
from phaze_ee.prediction.columns import check_classes, check_observers, column_stems


@pytest.mark.parametrize("name", ["entry", "exit_index", "label_a_2", "score_label_a_2"])
def test_observers_that_would_hide_a_column(name: str) -> None:
    with pytest.raises(UsageError, match=f"observer {name} has the name of a column"):
        check_observers(["jet_pt", name], ["label_a/2", "label_b"])


@pytest.mark.parametrize("name", ["exit_macs", "audit_weight", "cascade_score_b", "audit_score_b", "predicted_mass"])
def test_observers_that_would_hide_a_column_that_not_all_predictions_have(name: str) -> None:
    with pytest.raises(UsageError, match=f"observer {name} has the name of a column"):
        check_observers([name], ["a", "b"], ["mass"])


def test_other_observers_are_fine() -> None:
    check_observers(["jet_pt", "label_c", "exit", "exit_0_score_c", "mass"], ["label_a", "label_b"], ["mass"])


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a", "label_b/2", "1 - a"], ["a", "label_b_2", "1_a"]),
        (["a==1", "a!=1"], ["a_eq_1", "a_ne_1"]),
        (["a == 1", "a==1", "b"], ["a_eq_1", "a_eq_1_2", "b"]),
        (["a > 1", "a < 1", "a_gt_1"], ["a_gt_1_2", "a_lt_1", "a_gt_1"]),
        (["(a&b)", "(a|b)", "(~a)*b", "(a)-b"], ["a_and_b", "a_or_b", "not_a_times_b", "a_minus_b"]),
        (["x>=1", "x<=1", "x>>1", "x**1"], ["x_ge_1", "x_le_1", "x_rshift_1", "x_pow_1"]),
        (["isB", "isb"], ["isB", "isb"]),
    ],
)
def test_every_class_has_columns_of_its_own(names: list[str], stems: list[str]) -> None:
    assert column_stems(names) == dict(zip(names, stems, strict=True))


@given(
    names=st.lists(st.text(alphabet="ab1=!<>&|~*/ _()", min_size=1, max_size=6), min_size=2, max_size=8, unique=True)
)
def test_stems_are_distinct_names(names: list[str]) -> None:
    stems = column_stems(names)
    assert list(stems) == names
    assert len(set(stems.values())) == len(names)
    assert all(stem.replace("_", "a").isalnum() for stem in stems.values())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["QCD", "score_QCD"], "class score_QCD and the score of class QCD would share the column score_QCD"),
        (["entry", "b"], "class entry and the row in the file would share the column entry"),
        (["exit_macs", "b"], "class exit_macs and the cost would"),
        (["a", "exit_0_score_a"], "class exit_0_score_a and the score of class a at exit_0 would share"),
        (["label_a", "a"], "classes label_a and a would both be called a in tables"),
    ],
)
def test_classes_that_would_hide_something(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_classes(names)


@pytest.mark.parametrize("name", ["exit_0_score_label_a", "full_model_score_label_b", "a_eq_1"])
def test_observers_that_would_hide_other_columns(name: str) -> None:
    with pytest.raises(UsageError, match=f"observer {name} has the name of a column that predict writes, "):
        check_observers([name], ["label_a", "label_b", "a==1", "a!=1"])
