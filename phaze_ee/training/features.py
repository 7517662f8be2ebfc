"""Features of a frozen backbone: computed once, kept in files, and looked up in every epoch."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from phaze_ee.errors import RunError
from phaze_ee.exits.engine import Engine
from phaze_ee.models.cached import CachedBackbone, CachedJets
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetBatch, Jets, State, ragged_rows


@final
@dataclass(frozen=True)
class CachedBatch:
    """A batch of jets as :class:`phaze_ee.types.JetBatch`, with stored features in place of inputs."""

    inputs: CachedJets
    label_N: Int[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.inputs)


@final
@dataclass(frozen=True)
class Features:
    """Stored features of jets, in the order in which these came.

    Each column holds the particles of all jets at one stage; those of a jet follow each other from ``first_N`` on.
    """

    tagger: Tagger  # takes CachedJets, and shares its exits with the tagger that the features are of
    columns: tuple[Float[Tensor, "V _"], ...]
    first_N: Int[Tensor, " N"]
    count_N: Int[Tensor, " N"]
    logits_NK: Float[Tensor, "N K"]
    label_N: Int[Tensor, " N"]

    def batch(self, index_N: Int[Tensor, " N"]) -> CachedBatch:
        """Return the jets at some positions."""
        count_N = self.count_N[index_N]
        row_V = ragged_rows(self.first_N[index_N], count_N)
        rows = tuple(column_VC.index_select(0, row_V) for column_VC in self.columns)
        return CachedBatch(CachedJets(rows, count_N, self.logits_NK[index_N]), self.label_N[index_N])


class FeatureFiles:
    """Computes the features of jets at the stages with an exit, and writes them: a context manager.

    The files have no names, so nothing is left of them however the program ends.

    Args:
        tagger: its backbone is run in the form and on the device that it has, in evaluation mode, on all cores.
        folder: where the files lie; it must exist.
    """

    def __init__(self, tagger: Tagger, folder: Path) -> None:
        self.tagger, self.folder = tagger, folder
        # Where exit heads sit, the walk yields the features themselves.
        self._recorder = Tagger(
            tagger.backbone, tagger.exit_stages, heads=nn.ModuleList(_Rows() for _ in tagger.exit_stages)
        ).eval()
        self._engine = Engine(self._recorder, threads=torch.get_num_threads(), backend="given")
        self._stack = ExitStack()
        files = (TemporaryFile(dir=folder, buffering=0) for _ in tagger.exit_stages)  # noqa: SIM115 - the stack closes
        self._files = list(map(self._stack.enter_context, files))
        self._channels = [1] * len(self._files)
        self._parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # as the last four of Features
        self._particles = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._stack.close()

    def __len__(self) -> int:
        return sum(len(first_N) for first_N, *_ in self._parts)

    @property
    def size(self) -> int:
        """The bytes written so far."""
        return 4 * self._particles * sum(self._channels)

    def add(self, batch: JetBatch) -> None:
        """Compute and write the features of more jets.

        Raises:
            RunError: they cannot be written.
        """
        device = next(self.tagger.backbone.parameters()).device
        order_N, chunks = self._engine.in_chunks(batch.inputs.to(device), self._walk)
        for *rows, _ in chunks:
            self._write(rows)
        count_N = batch.inputs.particle_count_N.cpu()
        written_N = count_N[order_N.cpu()]
        jet_N = order_N.argsort().cpu()  # where each jet stands in the chunks
        first_N = (self._particles + written_N.cumsum(0) - written_N)[jet_N]
        logits_NK = torch.cat([logits_NK for *_, logits_NK in chunks]).cpu()[jet_N]
        self._parts.append((first_N, count_N, logits_NK, batch.label_N.cpu()))
        self._particles += int(count_N.sum())

    def _walk(self, jets: Jets) -> list[Tensor]:
        return [exit_.logits_NK.cpu() for exit_ in self._recorder.walk(jets)]

    def _write(self, rows: list[Tensor]) -> None:
        self._channels = [row_VC.shape[1] for row_VC in rows]
        try:
            for file, row_VC in zip(self._files, rows, strict=True):
                _write_all(file, row_VC.float().contiguous().numpy().reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise RunError(
                f"cannot keep features in {self.folder}: {error.strerror or error}; free space, or set "
                "feature_cache_gb = 0, and they are computed in every epoch"
            ) from error

    def finish(self) -> Features:
        """Return what was written, mapped into memory; valid until the files are closed."""
        columns = tuple(map(self._map, self._files, self._channels))
        first_N, count_N, logits_NK, label_N = map(torch.cat, zip(*self._parts, strict=True))
        tagger = self.tagger.with_backbone(CachedBackbone(self.tagger.backbone, self.tagger.exit_stages))
        return Features(tagger, columns, first_N, count_N, logits_NK, label_N)

    def _map(self, file: IO[bytes], channels: int) -> Float[Tensor, "V _"]:
        if self._particles == 0:
            return torch.empty(0, channels)  # nothing to map
        # Copied on write: torch knows no read-only memory.
        return torch.from_numpy(np.memmap(file, np.float32, mode="c", shape=(self._particles, channels)))


class _Rows(nn.Module):
    def forward(self, state: State) -> Float[Tensor, "V C"]:
        return state.rows()


def _write_all(file: IO[bytes], content: memoryview) -> None:
    while len(content):  # what is not buffered may be written in part
        content = content[file.write(content) :]
