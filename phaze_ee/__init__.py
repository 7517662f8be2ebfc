"""PHAZE-EE: early exits for the neural networks that recognise jets.

The names of the Python interface are imported when they are first used: ``import phaze_ee`` alone is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from phaze_ee.installation import VERSION

if TYPE_CHECKING:
    from phaze_ee.api import export_onnx, load, load_policy, read_jets
    from phaze_ee.engine.audit import Audit
    from phaze_ee.engine.engine import Engine
    from phaze_ee.engine.event_budget import EventBudget
    from phaze_ee.engine.run import EngineResult
    from phaze_ee.exits.policies import ThresholdPolicy
    from phaze_ee.models.tagger import Tagger
    from phaze_ee.registry import register
    from phaze_ee.runtime.bundle import Bundle, load_bundle
    from phaze_ee.types import JetInputs, RaggedJets, with_globals

__version__ = VERSION

_HOMES = {
    "Audit": "phaze_ee.engine.audit",
    "Bundle": "phaze_ee.runtime.bundle",
    "Engine": "phaze_ee.engine.engine",
    "EngineResult": "phaze_ee.engine.run",
    "EventBudget": "phaze_ee.engine.event_budget",
    "JetInputs": "phaze_ee.types",
    "RaggedJets": "phaze_ee.types",
    "Tagger": "phaze_ee.models.tagger",
    "ThresholdPolicy": "phaze_ee.exits.policies",
    "export_onnx": "phaze_ee.api",
    "load": "phaze_ee.api",
    "load_bundle": "phaze_ee.runtime.bundle",
    "load_policy": "phaze_ee.api",
    "read_jets": "phaze_ee.api",
    "register": "phaze_ee.registry",
    "with_globals": "phaze_ee.types",
}

__all__ = [
    "Audit",
    "Bundle",
    "Engine",
    "EngineResult",
    "EventBudget",
    "JetInputs",
    "RaggedJets",
    "Tagger",
    "ThresholdPolicy",
    "__version__",
    "export_onnx",
    "load",
    "load_bundle",
    "load_policy",
    "read_jets",
    "register",
    "with_globals",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError:
        from phaze_ee.installation import require_all

        require_all(f"phaze_ee.{name}")
        raise


def __dir__() -> list[str]:
    return __all__
