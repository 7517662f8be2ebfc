"""What is imported, and when: commands start at once, and a tagger runs where few libraries are installed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.alone import logits

# A tagger runs with torch, numpy, weaver and pydantic, and what these need.
NOT_NEEDED = (
    "awkward", "h5py", "jaxtyping", "lightning", "llvmlite", "matplotlib", "mplhep", "numba", "pandas", "pyarrow",
    "rich", "scipy", "sklearn", "tensorboard", "uproot", "vector", "yaml",
)  # fmt: skip
SLOW = (
    "lightning",
    "matplotlib",
    "pandas",
    "scipy.stats",
    "sklearn",
    "sympy",
    "torch._dynamo",
    "torch.utils.tensorboard",
)


def python(*arguments: str) -> str:
    """Run Python in the repository, and return what it printed; standard error where it failed."""
    command = [sys.executable, *arguments]
    result = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def imported(program: str, names: tuple[str, ...]) -> list[str]:
    """Return which of the modules a program imports."""
    found = python(
        "-c", f"{program}\nimport sys\nprint('IMPORTED', *(name for name in {names} if name in sys.modules))"
    )
    return found.rpartition("IMPORTED")[2].split()


def test_an_engine_needs_torch_numpy_weaver_and_pydantic_alone(tmp_path: Path) -> None:
    output = python("-m", "tests.engine.alone", str(tmp_path / "logits.pt"), *NOT_NEEDED)
    assert "numba is not installed" in output
    for backend, found_NK in zip(("given", "auto"), torch.load(tmp_path / "logits.pt"), strict=True):
        torch.testing.assert_close(found_NK, logits(backend))


@pytest.mark.parametrize("mode", ["evaluate", "predict", "calibrate", "benchmark"])
def test_modes_that_run_a_tagger_import_neither_training_nor_plots(mode: str) -> None:
    assert not imported(f"import phaze_ee.modes.{mode}", SLOW)


def test_plots_need_no_torch() -> None:
    assert not imported("import phaze_ee.modes.plot, phaze_ee.plots.write", ("torch", "awkward", "scipy", "sklearn"))


def test_compiled_loops_bring_no_extensions_of_other_packages() -> None:
    """The module warms up the loops of weaver and ours, as reading jets does."""
    assert not imported("import phaze_ee.data.warm_up", ("vector", "sympy", "awkward._connect.numba.layout"))


def test_the_compiler_leaves_alone_what_weaver_takes_out() -> None:
    """weaver's networks are imported without torch's compiler, but still with weaver's exception from it."""
    program = """
import sys
import phaze_ee.models
assert "torch._dynamo" not in sys.modules
import torch
from weaver.nn.model.ParticleTransformer import SequenceTrimmer
graphs = []
def backend(graph, inputs):
    graphs.append([node.target for node in graph.graph.nodes if node.op.startswith("call")])
    return graph.forward
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.trimmer = SequenceTrimmer(enabled=True, warmup_steps=0)
    def forward(self, x, mask):
        return self.trimmer(2 * x, mask=mask)[0].sum(-1)
network, x, mask = Network().eval(), torch.ones(2, 3, 8), torch.ones(2, 1, 8)
assert torch.equal(torch.compile(network, backend=backend)(x, mask), network(x, mask))
print(graphs)
"""
    assert python("-c", program).startswith("[[<built-in function mul>], ['sum']]")
