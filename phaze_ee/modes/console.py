"""The one console that modes print on."""

from rich.console import Console

# Numbers and paths are not coloured: colour is kept for what a table wants to stress.
console = Console(highlight=False)
