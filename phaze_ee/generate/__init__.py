"""JetClass-like jets: Pythia8 events, a parametrised detector, FastJet, and JetClass's ROOT schema.

Pythia8 and FastJet are an optional extra; :mod:`phaze_ee.generate.run` checks that they are installed.
"""

from phaze_ee.generate.options import GeneratorOptions, Progress
from phaze_ee.generate.run import generate_files

__all__ = ["GeneratorOptions", "Progress", "generate_files"]
