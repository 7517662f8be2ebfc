"""A C++ program that does what the producers of CMSSW and FCCAnalyses do gets the same digits as Python."""

import os
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

import phaze_ee
from phaze_ee.export.check import FileSession
from phaze_ee.models.particle_net.native.build import find_compiler
from phaze_ee.types import JetInputs
from phaze_ee.workspace import Project
from tests.compiler import needs_compiler
from tests.export.files import policy_for
from tests.modes.exit_policies import write_policy
from tests.modes.two_class_project import make_project, save_best_model

VARIABLES = ("p_eta", "p_phi", "p_pt", "p_mask")
GROUPS = {"points": ("p_eta", "p_phi"), "features": ("p_eta", "p_phi", "p_pt"), "mask": ("p_mask",)}
NAMES = {kind: f"pf_{kind}" for kind in GROUPS}
LENGTH = 16  # of the data configuration
COUNTS = (12, 0, 1, 4, 5, 16, 17, 30, 2, 9, 8, 3, 15, 7, 6, 11)

pytestmark = needs_compiler


def libraries() -> list[str]:
    """The C library of the ONNX Runtime that is installed, and those that a user of the tests names."""
    package = find_spec("onnxruntime")
    assert package is not None
    assert package.origin is not None
    found = sorted((Path(package.origin).parent / "capi").glob("libonnxruntime.so.*"))
    return [*map(str, found), *filter(None, os.environ.get("PHAZE_EE_TEST_ONNXRUNTIMES", "").split(os.pathsep))]


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("consumer") / "consumer"
    source = Path(__file__).with_name("consumer.cpp")
    subprocess.run([*find_compiler(), "-O1", "-std=c++17", source, "-ldl", "-o", program], check=True)
    return program


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project: Project = make_project(tmp_path)
    save_best_model(project)
    write_policy(project, policy_for(phaze_ee.load(str(project)), "confidence", padded(raw_jets(COUNTS))))
    return phaze_ee.export_onnx(str(project), tmp_path / "out", files=[tmp_path / "val.root"], one_jet=True)


def raw_jets(counts: Sequence[int]) -> list[npt.NDArray[np.float32]]:
    random = np.random.default_rng(5)
    return [
        np.concatenate([random.normal(size=(3, count)), np.ones((1, count))]).astype(np.float32) for count in counts
    ]


def write_raw(path: Path, jets: Sequence[npt.NDArray[np.float32]]) -> Path:
    pieces = [np.int32(jet.shape[1]).tobytes() + jet.tobytes() for jet in jets]
    path.write_bytes(" ".join(VARIABLES).encode() + b"\n" + b"".join(pieces))
    return path


def padded(jets: Sequence[npt.NDArray[np.float32]]) -> JetInputs:
    """Return the inputs as the data configuration pads and cuts them."""
    filled = np.zeros((len(jets), len(VARIABLES), LENGTH), np.float32)
    for row, jet in zip(filled, jets, strict=True):
        row[:, : jet.shape[1]] = jet[:, :LENGTH]
    tensors = {
        kind: torch.from_numpy(filled[:, [VARIABLES.index(name) for name in names]]) for kind, names in GROUPS.items()
    }
    return JetInputs(tensors["points"], tensors["features"], None, tensors["mask"])


@pytest.mark.parametrize("user", ["", ":fcc"])
@pytest.mark.parametrize("library", libraries())
def test_cpp_prints_the_digits_of_python(consumer: Path, folder: Path, tmp_path: Path, library: str, user: str) -> None:
    jets = raw_jets(COUNTS)
    command: list[str | Path] = [consumer, library, write_raw(tmp_path / "jets.bin", jets), "0", f"{folder}{user}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    scores_NK, index_N = FileSession((folder / "model.onnx").read_bytes(), NAMES)(padded(jets))
    found = np.array([line.split() for line in printed], np.float32)
    np.testing.assert_array_equal(found[:, -1], index_N)
    np.testing.assert_allclose(found[:, :-1], scores_NK, rtol=0, atol=0 if library == libraries()[0] else 1e-6)
    assert len(set(index_N.tolist())) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [('"var_length": 16', '"min_length": 16, "max_length": 16, "var_length": 16', "has no fixed length"),
     ('"pf_mask"', '"pf_masks"', "does not describe the input pf_mask")],
)  # fmt: skip
def test_what_fcc_analyses_refuses(
    consumer: Path, folder: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    """So that the test above can fail: the program is as strict with other files."""
    described = folder / "preprocess.json"
    text = described.read_text()
    assert old in text
    described.write_text(text.replace(old, new))
    command: list[str | Path] = [consumer, libraries()[0], write_raw(tmp_path / "jets.bin", raw_jets((3,))), "0"]
    done = subprocess.run([*command, f"{folder}:fcc"], capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr


def test_a_hundred_thousand_calls_leak_nothing(consumer: Path, folder: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [
        consumer,
        libraries()[0],
        write_raw(tmp_path / "jets.bin", raw_jets(COUNTS)),
        "6250",
        folder,
    ]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert int(report.split("memory grew by ")[1].split()[0]) < 4_000
