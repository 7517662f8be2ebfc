"""The one console that modes print on."""

import os

from rich.console import Console

# Of the processes that torchrun starts, the first speaks. Numbers and paths are not coloured: colour is kept for what
# a table wants to stress.
console = Console(highlight=False, quiet=os.environ.get("RANK", "0") != "0")
