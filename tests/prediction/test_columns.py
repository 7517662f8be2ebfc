import pytest

from phaze_ee.errors import UsageError
from phaze_ee.prediction.columns import check_observers


@pytest.mark.parametrize("name", ["entry", "exit_index", "label_a_2", "score_label_a_2"])
def test_observers_that_would_hide_a_column(name: str) -> None:
    with pytest.raises(UsageError, match=f"observer {name} has the name of a column"):
        check_observers(["jet_pt", name], ["label_a/2", "label_b"])


def test_other_observers_are_fine() -> None:
    check_observers(["jet_pt", "label_c", "exit"], ["label_a", "label_b"])
