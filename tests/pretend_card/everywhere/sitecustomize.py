"""Python imports this before anything else where its folder is on PYTHONPATH: every process has the card then."""

import os
import sys
from pathlib import Path

if "PRETEND_CARD" in os.environ:
    sys.path.append(str(Path(__file__).resolve().parents[3]))
    from tests.pretend_card.start import start

    start(Path(os.environ["PRETEND_CARD"]))
