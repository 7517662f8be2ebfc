"""Efficiencies of a policy relative to the full model, and their files."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uproot
import yaml
from scipy.stats import binomtest

from phaze_ee.evaluation.analysis_files import write_efficiencies
from phaze_ee.evaluation.efficiency import relative_efficiencies
from phaze_ee.exits.conditions import Conditions
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.exits.targets import SignalEfficiency
from tests.evaluation.answers import random_answers
from tests.evaluation.test_dynamic import judged, policy_file

EVERYWHERE = (-math.inf, math.inf)
JETS = random_answers(2000)
PT_N = np.random.default_rng(1).uniform(500, 1000, len(JETS))
JETS = replace(JETS, observers={"jet_pt": PT_N, "jet_eta": PT_N / 1000 - 0.75})


def with_bins(file: ExitPolicyFile, bins: dict[str, list[float]]) -> ExitPolicyFile:
    promise = file.guarantee.model_copy(update={"conditions": Conditions(bins=bins)})
    return file.model_copy(update={"guarantee": promise})


def test_jets_that_become_wrong_and_right_are_counted_in_each_bin() -> None:
    file = with_bins(policy_file(EVERYWHERE), {"jet_pt": [500.0, 700.0, 900.0, 2000.0, 3000.0]})
    table = relative_efficiencies(JETS, JETS.all_at(0), file)[0]
    assert (table.sample, table.observable) == ("all", "jet_pt")
    right_EN = JETS.correct_EN
    in_bin_N = (PT_N >= 700) & (PT_N < 900)
    full, both = (right_EN[-1] & in_bin_N).sum(), (right_EN[-1] & right_EN[0] & in_bin_N).sum()
    added = (~right_EN[-1] & right_EN[0] & in_bin_N).sum()
    assert (table.full_model[1], table.both[1], table.added[1]) == (full, both, added)
    interval = binomtest(int(both), int(full)).proportion_ci(math.erf(1 / math.sqrt(2)))
    assert table.efficiency[1] == pytest.approx(both / full)
    assert (table.lower[1], table.upper[1]) == pytest.approx(tuple(interval), abs=1e-5)
    assert table.ratio[1] == pytest.approx((both + added) / full)
    ratio, lost = (both + added) / full, full - both
    assert table.ratio_error[1] == pytest.approx(math.sqrt((1 - ratio) ** 2 * both + ratio**2 * lost + added) / full)
    assert (table.full_model[3], table.efficiency[3], table.ratio[3]) == (0, None, None)
    tables = relative_efficiencies(JETS, JETS.all_at(0), file)
    classes = [one for one in tables if one.sample != "all" and one.observable == "jet_pt"]
    assert [one.sample for one in classes] == list(JETS.class_names)
    for index, one in enumerate(classes):
        own_N = (JETS.label_N == index) & in_bin_N
        assert one.full_model[1] == (right_EN[-1] & own_N).sum()
        assert one.added[1] == (~right_EN[-1] & right_EN[0] & own_N).sum()


def test_without_bins_of_a_promise_every_jet_is_in_one() -> None:
    tables = relative_efficiencies(JETS, JETS.all_at(2), policy_file((math.inf, math.inf)))
    assert [table.observable for table in tables[:2]] == ["jet_pt", "jet_eta"]
    for table in tables[:2]:
        assert sum(table.full_model) == JETS.correct_EN[-1].sum()
        assert table.full_model == table.both  # the full model relative to itself
        assert set(table.efficiency) == set(table.ratio) == {1.0}
    assert relative_efficiencies(replace(JETS, observers={}), JETS.all_at(2), policy_file((math.inf, math.inf))) == []


def test_at_a_working_point_signal_and_background_above_the_cut_are_kept() -> None:
    target = SignalEfficiency(
        epsilon=0.01, signal="label_Hbb", background="label_QCD", efficiency=0.5, background_growth=0.1,
        form="two_sided", cut=0.5,
    )  # fmt: skip
    tables = relative_efficiencies(JETS, JETS.all_at(0), policy_file(EVERYWHERE, target))
    assert [table.sample for table in tables] == ["label_Hbb"] * 2 + ["label_QCD"] * 2
    odds_EN = JETS.logits_ENK[:, :, 1] - JETS.logits_ENK[:, :, 0]
    assert sum(tables[2].full_model) == ((JETS.label_N == 0) & (odds_EN[-1] >= 0.5)).sum()
    assert sum(tables[2].added) == ((JETS.label_N == 0) & (odds_EN[0] >= 0.5) & (odds_EN[-1] < 0.5)).sum()


def test_the_files_hold_what_was_counted(tmp_path: Path) -> None:
    dynamic = judged(JETS, with_bins(policy_file(EVERYWHERE), {"jet_pt": [500.0, 700.0, 1000.0, 2000.0]}))
    folder = tmp_path / "efficiency"
    folder.mkdir()
    (folder / "old_jet_pt.yaml").write_text("")
    assert write_efficiencies(folder, dynamic) == [folder]
    table = dynamic.efficiencies[0]
    with uproot.open(folder / "efficiency.root") as file:
        counts, edges = file["all/jet_pt/full_model"].to_numpy()
        efficiency = file["all/jet_pt/efficiency"]
        assert efficiency.classname == "TH1D"
        assert efficiency.values().tolist() == [value or 0 for value in table.efficiency]
        ratio = file["all/jet_pt/ratio"]
        assert ratio.axis().edges().tolist() == table.edges
        assert ratio.values().tolist() == [value or 0 for value in table.ratio]
        assert ratio.errors() == pytest.approx([error or 0 for error in table.ratio_error])
    assert (counts.tolist(), edges.tolist()) == (table.full_model, table.edges)
    head, *entries = yaml.safe_load_all((folder / "submission.yaml").read_text())
    assert "relative to the full model" in head["comment"]
    assert {entry["data_file"] for entry in entries} == {path.name for path in folder.glob("*_*.yaml")}
    data = yaml.safe_load((folder / "all_jet_pt.yaml").read_text())
    assert data["independent_variables"][0]["values"][0] == {"low": 500.0, "high": 700.0}
    written, paired, full = (column["values"] for column in data["dependent_variables"])
    assert written[0]["value"] == table.efficiency[0]
    assert written[0]["errors"][0]["asymerror"]["minus"] < 0 < written[0]["errors"][0]["asymerror"]["plus"]
    assert paired[0]["errors"][0]["symerror"] == table.ratio_error[0]
    assert (full[2]["value"], written[2]["value"]) == (0, "-")
    lines = (folder / "efficiency.tex").read_text().splitlines()
    assert lines[3] == r"$p_\mathrm{T}$ [GeV] & full model & efficiency & kept jets \\"
    assert lines[7] == r"1000 to 2000 & 0 & -- & -- \\"
