"""Mode generate: JetClass-like jets, in the data folder of the project or in ``--output``."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from phaze_ee.errors import UsageError
from phaze_ee.generate import GeneratorOptions, Progress, generate_files
from phaze_ee.modes.console import console, say_written, show
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.tables.style import empty_table


def run(session: Session) -> None:
    """Generate jets, show a progress bar, and list the files.

    Raises:
        UsageError: a flag is wrong or missing, Pythia8 or FastJet is missing, or a file exists.
        RunError: the generation fails.
    """
    options = generator_options(session.request)
    columns = (
        TextColumn("generating jets"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=console)
    task = bar.add_task("jets", total=options.jets_per_class * len(options.classes), rate="")
    with ExitStack() as shown:

        def advance(progress: Progress) -> None:
            if not bar.live.is_started:  # only now have the checks passed
                shown.enter_context(bar)
            elapsed = bar.tasks[0].elapsed or 0.0
            rate = f"{progress.jets_done / elapsed:.1f} jets/s" if elapsed else ""
            bar.update(task, completed=progress.jets_done, total=progress.jets_total, rate=rate)

        files = generate_files(options, advance)
    show(_summary(files, options))
    say_written(options.output)


def generator_options(request: Request) -> GeneratorOptions:
    """Return the options of a request. Flags that are not given keep the default of the generator."""
    if request.output is None and request.project is None:
        raise UsageError("mode 'generate' needs --output FOLDER, or -p WORKSPACE PROJECT to write into its data folder")
    chosen: dict[str, Any] = {
        "jets_per_class": request.jets,
        "classes": tuple(request.classes) if request.classes is not None else None,
        "seed": request.seed,
        "workers": request.workers if request.workers is not None else os.cpu_count(),
    }
    return GeneratorOptions(
        output=request.output or request.existing_project.data,
        mode="fast" if request.generator == "fast" else "reference",
        overwrite=request.overwrite,
        vertices=request.vertices,
        pythia=tuple(request.pythia),
        **{name: value for name, value in chosen.items() if value is not None},
    )


def _summary(files: list[Path], options: GeneratorOptions) -> Table:
    table = empty_table(f"{options.jets_per_class:,} jets a class, seed {options.seed}", ["MB"], first="file")
    for file in files:
        table.add_row(file.name, f"{file.stat().st_size / 1e6:.2f}")
    return table
