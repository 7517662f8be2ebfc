"""A program: an engine where some libraries are not installed; writes the logits of a few jets into a file."""

import importlib
import sys
from pathlib import Path
from typing import Any


class Missing:
    """Makes imports fail as those of libraries that are not installed."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def logits(backend: Any = "auto") -> Any:
    """Return the answers of an engine for jets of which some leave early."""
    import torch

    import phaze_ee

    engine_type = phaze_ee.Engine
    jets = importlib.import_module("tests.jets")
    policy = phaze_ee.ThresholdPolicy("confidence", [0.5, 0.5, 0.5])
    engine = engine_type(jets.small_tagger(), policy, backend=backend)
    result = engine(jets.random_jets(list(range(1, 21)) * 2))
    assert len(torch.unique(result.exit_index_N)) > 1
    return result.logits_NK


if __name__ == "__main__":
    sys.meta_path.insert(0, Missing(set(sys.argv[2:])))
    importlib.import_module("torch").save([logits("given"), logits("auto")], Path(sys.argv[1]))
