"""Names and paths of projects."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.errors import UsageError
from phaze_ee.workspace import PACKAGE_ROOT, Project, existing_project, find_file, search_roots, workspaces_root

BAD_NAMES = ["", ".", "..", "../x", "a/b", "/etc", "..\\x", ".hidden", "-x", "a b", "a\n", "é", "a\0b"]
GOOD_NAMES = ["JetClass", "lr_1e-3", "v1.2", "2026+x", "_x", "a.b.c"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    return tmp_path


def make(workspace: str, name: str) -> Project:
    project = Project(workspace, name)
    project.config.parent.mkdir(parents=True)
    project.config.write_text("", encoding="utf-8")
    return project


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_for_both(name: str) -> None:
    for workspace, project, kind in ((name, "p", "workspace"), ("w", name, "project")):
        with pytest.raises(UsageError, match=f"{kind} name ") as caught:
            Project(workspace, project)
        assert repr(name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names_make_projects_that_are_found_again(root: Path, name: str) -> None:
    make(name, name)
    assert existing_project(name, name).config == root / name / name / "config" / f"{name}_config.py"


@given(name=st.text(alphabet="ab./\\ ~-_"))
def test_no_name_leads_out_of_the_workspaces(name: str) -> None:
    try:
        project = Project("w", name)
    except UsageError:
        return
    assert project.root.resolve().parent == workspaces_root().resolve() / "w"


def test_a_missing_workspace_names_the_nearest_one(root: Path) -> None:
    make("MyJets", "first")
    with pytest.raises(UsageError, match=r"no project MyJet/first in .*; did you mean 'MyJets/first'\? To create it"):
        existing_project("MyJet", "first")
    with pytest.raises(UsageError, match=r"did you mean workspace 'MyJets'\? To create it"):
        existing_project("MyJet", "other")
    with pytest.raises(UsageError) as caught:
        existing_project("Higgs", "first")
    assert "did you mean" not in str(caught.value)


def test_a_project_of_the_same_workspace_is_nearer_than_one_of_another(root: Path) -> None:
    make("MyJets", "first")
    make("MyJet", "frist")
    with pytest.raises(UsageError, match=r"did you mean 'frist'\?"):
        existing_project("MyJet", "first")


def test_the_name_of_the_comparisons_is_taken() -> None:
    with pytest.raises(UsageError, match="'comparisons' is taken"):
        Project("w", "comparisons")
    assert Project("comparisons", "p").comparisons.parts[-2:] == ("comparisons", "comparisons")


def test_every_path_lies_in_the_project_as_the_contract_says(root: Path) -> None:
    project = Project("w", "p")
    output = root / "w" / "p" / "output"
    assert project.config == root / "w" / "p" / "config" / "p_config.py"
    assert project.data == root / "w" / "p" / "data"
    assert project.best_model == output / "models" / "best_model.pt"
    assert project.logs == output / "logs"
    assert project.plots == output / "plots"
    assert project.evaluation_results == output / "results" / "evaluation_results.json"
    assert project.benchmark_results == output / "results" / "benchmark_results.json"
    assert project.comparisons == root / "w" / "comparisons"


def test_without_the_variable_workspaces_lie_below_the_current_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    for empty in (None, ""):
        if empty is None:
            monkeypatch.delenv("PHAZE_EE_WORKSPACES", raising=False)
        else:
            monkeypatch.setenv("PHAZE_EE_WORKSPACES", empty)
        assert workspaces_root() == Path("phaze_ee/workspaces")


def test_a_home_folder_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", "~/jets")
    assert workspaces_root() == Path.home() / "jets"


def test_a_missing_project_names_the_nearest_one_and_how_to_make_it(root: Path) -> None:
    make("w", "first")
    with pytest.raises(UsageError, match=r"no project w/frist in .*did you mean 'first'\?.*new_project -p w frist"):
        existing_project("w", "frist")
    with pytest.raises(UsageError, match="workspace w holds first; to create it: phaze_ee -m new_project -p w other"):
        existing_project("w", "other")
    for index in range(9):
        make("w", f"p{index}")
    with pytest.raises(UsageError, match=r"holds first, p0, .*, p6, …; to create it"):
        existing_project("w", "other")
    with pytest.raises(UsageError, match=r"\); to create it: phaze_ee -m new_project -p empty other"):
        existing_project("empty", "other")


def test_a_folder_without_configuration_is_no_project(root: Path) -> None:
    (root / "w" / "p").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"p_config\.py"):
        existing_project("w", "p")


def test_files_are_found_in_the_current_directory_then_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, project = tmp_path / "here", tmp_path / "project"
    for folder in (here, project):
        folder.mkdir()
    monkeypatch.chdir(here)
    (project / "x.yaml").touch()
    assert find_file("data_config", "x.yaml", project) == project / "x.yaml"
    (here / "x.yaml").touch()
    assert find_file("data_config", "x.yaml", project) == Path("x.yaml")
    assert find_file("data_config", str(project / "x.yaml"), None) == project / "x.yaml"


def test_the_projects_own_files_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file("data_config", "data_configs/JetClass_full.yaml", None).is_file()
    assert find_file("network_config", "network_configs/ParticleNet_JetClass.py", None).is_file()


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"data_config 'no\.yaml' does not exist") as caught:
        find_file("data_config", "no.yaml", tmp_path / "project")
    assert str(tmp_path) in str(caught.value)
    assert str(tmp_path / "project") in str(caught.value)
    with pytest.raises(UsageError, match=r"init_from '/nowhere/x\.pt' does not exist; correct"):
        find_file("init_from", "/nowhere/x.pt", None)
    with pytest.raises(
        UsageError, match=r"--checkpoint '/nowhere/x\.pt' does not exist; correct .* on the command line"
    ):
        find_file("--checkpoint", "/nowhere/x.pt", None)


def test_no_folder_is_searched_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PACKAGE_ROOT.parent)
    roots = [root.absolute() for root in search_roots(PACKAGE_ROOT / "p")]
    assert roots == [PACKAGE_ROOT.parent, PACKAGE_ROOT / "p", PACKAGE_ROOT]
