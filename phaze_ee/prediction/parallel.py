"""Predictions for many files in parallel with Dask: in processes of this machine, or on a running cluster."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from phaze_ee.errors import DataError, PhazeError, RunError, UsageError, one_line
from phaze_ee.installation import extra_command
from phaze_ee.prediction.job import PredictionTask, predict_file
from phaze_ee.prediction.outputs import FileJob
from phaze_ee.prediction.writers import Manifest

_CONNECT_SECONDS = 30


def require_dask() -> None:
    """Check that ``dask.distributed`` is installed.

    Raises:
        UsageError: it is not; the message has the command that installs it.
    """
    if find_spec("distributed") is None:
        raise UsageError(
            "--workers above 1 and --scheduler need dask.distributed, which this environment lacks; install it, "
            f"{extra_command('dask')}"
        )


def predict_files(
    task: PredictionTask, jobs: Sequence[FileJob], *, workers: int, scheduler: str | None
) -> Iterator[Manifest | DataError]:
    """Yield the manifest of each file when it is done, or why it cannot be used.

    The outputs are those of a run in one process.

    Args:
        task: what to do with each file.
        jobs: the files; a cluster must see them, and the outputs, under the same paths.
        workers: processes to start on this machine; ignored with a ``scheduler``.
        scheduler: the address of a running Dask scheduler; None: start processes on this machine.

    Raises:
        UsageError: dask.distributed is not installed, or the scheduler does not answer.
        RunError: an output cannot be written, or a worker process died; files in progress are abandoned.
    """
    require_dask()
    from distributed import Client, KilledWorker, as_completed

    # It reports every worker that starts or ends, and sets its own level when it is imported.
    logging.getLogger("distributed").setLevel(logging.ERROR)

    with ExitStack() as stack:
        cluster = scheduler if scheduler is not None else stack.enter_context(_local_cluster(workers))
        try:
            client = stack.enter_context(Client(cluster, timeout=_CONNECT_SECONDS))
        except (OSError, ValueError) as error:
            raise UsageError(f"no Dask scheduler answers at {scheduler}: {one_line(error)}; correct it") from error
        shared = client.scatter(task, broadcast=True)
        futures = [client.submit(_predict, shared, job, pure=False) for job in jobs]
        try:
            for _, manifest in as_completed(futures, with_results=True):
                if isinstance(manifest, PhazeError) and not isinstance(manifest, DataError):
                    raise manifest
                yield manifest
        except KilledWorker as error:
            raise RunError(f"a worker process died: {one_line(error)}; often memory: lower --workers") from error


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    """Start processes, forked from one server that imports the libraries, which takes seconds, only once."""
    import dask
    from distributed import LocalCluster
    from distributed.utils import get_mp_context

    # By default, Dask's workers return freed memory at once. For arrays that are made for every part of a file, that
    # takes several times as long as the work itself.
    environment = {"distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1}}
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver", **environment}):
        get_mp_context().set_forkserver_preload(["distributed", "phaze_ee.data.warm_up", __name__])
        with LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.ERROR
        ) as cluster:
            yield cluster


def _predict(task: PredictionTask, job: FileJob) -> Manifest | PhazeError:
    # Dask would log a worker's exception with its traceback, so the exception is returned as a value.
    try:
        return predict_file(task, job)
    except PhazeError as error:
        return error
