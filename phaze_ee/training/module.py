"""The Lightning module: a tagger, the loss of the full model, and the losses of its exits."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Self, final

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from phaze_ee.config.options import ExitOptions, TrainingOptions
from phaze_ee.errors import RunError, UsageError
from phaze_ee.models.layers_by_name import check_layers, innermost
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import CROSS_ENTROPY
from phaze_ee.shapes import Float
from phaze_ee.training.bad_batches import BadBatches, HostFlag, save_batch
from phaze_ee.training.losses import TargetLoss, WorkingPoint, beta_at, make_loss, regression_loss
from phaze_ee.training.optim import build_optimizer
from phaze_ee.transfer import moved
from phaze_ee.types import Exit, JetBatch


@final
@dataclass
class RunningMeans:
    """The sums of some values over jets, and the number of jets. Sums stay on their device until they are read."""

    jets: int = 0
    sums: dict[str, Float[Tensor, ""]] = field(default_factory=dict)

    def add(self, values: Mapping[str, Float[Tensor, ""]], jets: int) -> None:
        """Add the mean values over some jets."""
        self.jets += jets
        added = torch.stack(list(values.values())).double() * jets
        if self.sums:
            added += torch.stack(list(self.sums.values())).to(added.device)
        self.sums = dict(zip(values, added.unbind(), strict=True))

    @property
    def means(self) -> dict[str, Float[Tensor, ""]]:
        """The mean of each value over all jets; there must be some."""
        return {name: value / self.jets for name, value in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"jets": self.jets, "sums": {name: float(value) for name, value in self.sums.items()}}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the sums of :meth:`state_dict`.

        Raises:
            TypeError: they are no numbers.
        """
        for name, value in state["sums"].items():
            if not isinstance(value, int | float):
                raise TypeError(f"the sum of {name} is no number, but of type {type(value).__name__}")
        sums = {name: torch.tensor(float(value), dtype=torch.float64) for name, value in state["sums"].items()}
        return cls(operator.index(state["jets"]), sums)


@dataclass(frozen=True)
class Terms:
    """The losses and accuracies of one batch, exits first and the full model last."""

    loss_E: Float[Tensor, " E"]
    accuracy_E: Float[Tensor, " E"]
    total: Float[Tensor, ""]


class TaggerModule(LightningModule):
    """Minimises CE(full model) + Σ β_k(epoch) × exit loss_k.

    With targets, each of these losses has ``regression_loss_weight`` times that of the targets added.

    With ``freeze_backbone``, and in the second phase of the regime ``disjoint``, the first term is a constant and the
    backbone stays in evaluation mode. So the statistics of normalisations do not change, and a packed backbone runs as
    in inference. The second phase starts with a new optimiser and the learning-rate schedule from the beginning. If the
    link between exits has parameters, exit loss_k includes the cross-entropy of the linked answer.

    Args:
        tagger: the network with exits, trained in place.
        options: exit losses and their weights β.
        training: optimiser and epochs.
        total_steps: optimiser steps of the whole training, for the schedule.
        bad_batch: file for a batch with a non-finite loss, written before the training stops.
        point: the working point of a cascade, for a loss that needs one.

    Raises:
        UsageError: the exit loss needs a working point, or ``lr_factors`` names a layer that is not there.
    """

    def __init__(
        self,
        tagger: Tagger,
        options: ExitOptions,
        training: TrainingOptions,
        total_steps: int,
        bad_batch: Path | None = None,
        point: WorkingPoint | None = None,
    ) -> None:
        super().__init__()
        self.bad_batch = bad_batch
        self.point = point
        self.bad_batches = BadBatches(training.skip_nan_batches)
        self.tagger = tagger
        self.exit_options = options
        self.training_options = training
        self.total_steps = total_steps
        self.exit_loss = make_loss(options.exit_loss_strategy, options, point, len(tagger.exit_stages))
        self.answer_loss = TargetLoss(options, detach=True)
        self.frozen = False
        self.so_far = RunningMeans()  # over this epoch
        self._validated = RunningMeans()
        self._rate = 0.0  # of the last training batch
        self._unchecked: tuple[HostFlag, Terms, JetBatch, int] | None = None  # the last batch, until its backward pass
        self.latest: dict[str, Float[Tensor, ""]] = {}  # of the last training batch
        self._freeze(training.lr_factors)
        if options.freeze_backbone:
            self._freeze_backbone()

    def _freeze(self, factors: Mapping[str, float]) -> None:
        """Freeze the layers whose learning rate is 0."""
        parameters = dict(self.tagger.named_parameters())
        check_layers("lr_factors", factors, parameters)
        for name, parameter in parameters.items():
            layer = innermost(name, factors)
            if layer is not None and factors[layer] == 0:
                parameter.requires_grad_(False)
        if factors and not any(parameter.requires_grad for parameter in self.tagger.backbone.parameters()):
            raise UsageError("lr_factors freezes the whole network; set c.freeze_backbone = True in place of that")

    def _freeze_backbone(self) -> None:
        self.tagger.backbone.requires_grad_(False).eval()  # Lightning does not call train() before the first validation
        self.frozen = True

    @property
    def beta(self) -> tuple[float, ...]:
        """The weights of the exit losses in the current epoch."""
        options = self.exit_options
        return beta_at(
            self.current_epoch,
            beta_max=options.weights(len(self.tagger.exit_stages)),
            schedule=options.beta_schedule,
            zero_epochs=options.zero_epochs,
            epochs=self.training_options.epochs,
        )

    @property
    def judged_exits(self) -> tuple[str, ...]:
        """The exits whose mean validation accuracy selects the best model: the full model, unless it is frozen."""
        names = self.tagger.exit_names
        return names[:-1] if self.frozen else names[-1:]

    def judged(self, metrics: Mapping[str, float]) -> float:
        """Return how good the validated epoch is, between 0 and 1: the accuracy of the judged exits.

        Exits that are trained for one working point have no meaningful accuracy. It is 1 / (1 + their mean loss).
        """
        by_loss = self.frozen and self.exit_loss.needs_working_point
        values = [metrics[f"val/{'loss' if by_loss else 'accuracy'}/{name}"] for name in self.judged_exits]
        return 1 / (1 + fmean(values)) if by_loss else fmean(values)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.tagger.backbone.eval()
        return self

    @property
    def trains_exits(self) -> bool:
        """Whether the exits learn in this epoch; True for a network without exits."""
        return not self.tagger.exit_stages or any(self.beta)

    @property
    def loss_title(self) -> str:
        """What the loss of an exit is, in words."""
        answers = " + CE of the linked answer" if self.tagger.link.trains_answers else ""
        return f"{self.exit_loss.title}{answers}{self._regression_title}"

    @property
    def full_loss_title(self) -> str:
        """What the loss of the full model is, in words."""
        return f"{CROSS_ENTROPY}{self._regression_title}"

    @property
    def _regression_title(self) -> str:
        weight = self.exit_options.regression_loss_weight
        return f" + {weight:g}·log cosh" if self.tagger.target_count else ""

    def terms(self, batch: JetBatch) -> Terms:
        """Run the network on a batch and return its losses and accuracies."""
        exits = list(self.tagger.walk(batch.inputs, detach=self.exit_loss.detach))
        logits_ENK = torch.stack([exit_.logits_NK for exit_ in exits])
        trained_ENK = torch.stack([exit_.trained_NK for exit_ in exits])
        exit_losses = self.exit_loss(trained_ENK, batch.label_N)
        if self.tagger.link.trains_answers:
            exit_losses = exit_losses + self.answer_loss(logits_ENK, batch.label_N)
        full_loss = cross_entropy(trained_ENK[-1], batch.label_N)
        if self.tagger.targets is not None and batch.target_NR is not None:
            regression_E = self._regression(exits, batch.target_NR, self.tagger.targets.spread_R)
            exit_losses, full_loss = exit_losses + regression_E[:-1], full_loss + regression_E[-1]
        return Terms(
            loss_E=torch.cat([exit_losses, full_loss[None]]).detach(),
            accuracy_E=(logits_ENK.argmax(dim=-1) == batch.label_N).float().mean(dim=-1),
            # Numbers, not a tensor: the host would wait for the device to copy it there.
            total=sum((beta * loss for beta, loss in zip(self.beta, exit_losses, strict=False)), start=full_loss),
        )

    def _regression(
        self, exits: Sequence[Exit], target_NR: Float[Tensor, "N R"], spread_R: Float[Tensor, " R"]
    ) -> Float[Tensor, " E"]:
        """Return the weighted loss of the targets at each exit, the full model last."""
        values = [exit_.value_NR for exit_ in exits if exit_.value_NR is not None]
        losses = torch.stack([regression_loss(value_NR, target_NR, spread_R) for value_NR in values])
        return self.exit_options.regression_loss_weight * losses

    def training_step(self, batch: JetBatch, batch_idx: int) -> Tensor | None:
        begins_step = batch_idx % self.trainer.accumulate_grad_batches == 0
        with self.bad_batches.guarding(self.tagger, begins_step=begins_step):
            terms = self.terms(batch)
        finite = HostFlag(torch.isfinite(terms.total))
        if self.bad_batches.may_skip and not finite.read():
            self.bad_batches.skip(self.tagger, f"epoch {self.current_epoch + 1}, batch {batch_idx + 1}")
            return None
        self._unchecked = (finite, terms, batch, batch_idx)
        self.bad_batches.good += 1
        self.latest = self._values("train", terms)
        self._rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])  # the same in all groups
        self.so_far.add(self.latest, len(batch))
        return terms.total

    def on_after_backward(self) -> None:
        # The device works on the backward pass while the host waits for the loss, before the optimiser's step.
        if self._unchecked is not None:
            (finite, terms, batch, batch_idx), self._unchecked = self._unchecked, None
            if not finite.read():
                self._stop(terms, batch, batch_idx)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Lightning divides each gradient by the batches of a whole step. The last step of an epoch may have fewer.
        good, whole = self.bad_batches.good, self.trainer.accumulate_grad_batches
        if good != whole:
            gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            torch._foreach_mul_(gradients, whole / good)

    def validation_step(self, batch: JetBatch, batch_idx: int) -> None:
        self._validated.add(self._values("val", self.terms(batch)), len(batch))

    def _values(self, stage: Literal["train", "val"], terms: Terms) -> dict[str, Float[Tensor, ""]]:
        values = {f"{stage}/total_loss": terms.total.detach()}
        for name, loss, accuracy in zip(self.tagger.exit_names, terms.loss_E, terms.accuracy_E, strict=True):
            values |= {f"{stage}/loss/{name}": loss, f"{stage}/accuracy/{name}": accuracy}
        return values

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Lightning's log does some work on the device for each value. Numbers that are no tensors it copies there, for
        # which the host waits. So values are given to it only where it writes them, and at the end of an epoch.
        if self.latest and self.trainer._logger_connector.should_update_logs:
            steps = {f"{name}_step": value for name, value in self.latest.items()}
            self.log_dict({**steps, "lr": self._rate}, on_step=True, on_epoch=False, batch_size=len(batch))
        if self.trainer.is_last_batch:
            self._end_epoch()

    def _end_epoch(self) -> None:
        if not self.so_far.jets:
            raise RunError(
                f"all batches of epoch {self.current_epoch + 1} were skipped, because no loss is finite; lower lr, set "
                "gradient_clip, or check the inputs, and start again with --fresh"
            )
        self._log_means(self.so_far)
        betas = {f"beta/{name}": beta for name, beta in zip(self.tagger.exit_names, self.beta, strict=False)}
        self.log_dict(betas, on_step=False, on_epoch=True, batch_size=self.so_far.jets)

    def on_validation_epoch_start(self) -> None:
        self._validated = RunningMeans()

    def on_validation_epoch_end(self) -> None:
        if self._validated.jets:
            self._log_means(self._validated)
        if not self.latest:  # the training resumed in this validation
            self._end_epoch()

    def _log_means(self, found: RunningMeans) -> None:
        means = {name: value.float() for name, value in found.means.items()}
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=found.jets, sync_dist=True)

    def go_on_from(self, earlier: RunningMeans) -> None:
        """Continue the means of the current epoch from those before an interruption."""
        self.so_far = earlier

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        with self.bad_batches.skipping_the_step():
            super().optimizer_step(epoch, batch_idx, optimizer, self.bad_batches.wrapped(optimizer_closure))

    def _stop(self, terms: Terms, batch: JetBatch, batch_idx: int) -> None:
        losses = ", ".join(
            f"{name} {loss:.4g}" for name, loss in zip(self.tagger.exit_names, terms.loss_E.tolist(), strict=True)
        )
        where = "" if self.bad_batch is None else f"; the batch is kept in {self.bad_batch}"
        kept = "; latest_model.pt holds the last whole epoch" if self.current_epoch else ""
        if self.bad_batch is not None:
            save_batch(batch, self.bad_batch)
        raise RunError(
            f"the loss is not finite in epoch {self.current_epoch + 1}, batch {batch_idx + 1} ({losses}){where}; lower "
            f"lr, set gradient_clip, or check the inputs, and start again with --fresh{kept}"
        )

    def on_train_start(self) -> None:
        self._validate_the_last_epoch()  # a training that is resumed within an epoch does not start the epoch

    def on_train_epoch_start(self) -> None:
        if self.second_phase_begins:
            self._freeze_backbone()
            # A new optimiser, for the exits only: Lookahead in the old one would still move frozen weights.
            self.trainer.strategy.setup_optimizers(self.trainer)
        self.so_far = RunningMeans()
        loader: Any = self.trainer.train_dataloader
        loader.set_epoch(self.current_epoch)
        self._validate_the_last_epoch()

    def _validate_the_last_epoch(self) -> None:
        """Validate after the last epoch for any ``val_interval``; otherwise a run could end without a best model."""
        if self.current_epoch == self.training_options.epochs - 1:
            self.trainer.check_val_every_n_epoch = 1

    @property
    def second_phase_begins(self) -> bool:
        """Whether the backbone must be frozen now: the regime ``disjoint`` begins to train the exits alone."""
        options = self.exit_options
        return options.ends_frozen and not self.frozen and self.current_epoch >= options.zero_epochs

    # A training that is resumed in its second phase must be frozen before the optimiser is made.
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["backbone_frozen"] = self.frozen
        checkpoint["skipped_batches"] = self.bad_batches.count

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint["backbone_frozen"] and not self.frozen:
            self._freeze_backbone()
        # Earlier versions did not save how many batches were skipped.
        self.bad_batches.count = operator.index(checkpoint.get("skipped_batches", 0))

    def configure_optimizers(self) -> Any:
        module, epochs = self._trained_now()
        steps = self.total_steps * epochs // self.training_options.epochs
        optimizer, schedule = build_optimizer(module, self.training_options, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _trained_now(self) -> tuple[nn.Module, int]:
        """Return the module that the optimiser of this phase trains, and for how many epochs."""
        options, epochs = self.exit_options, self.training_options.epochs
        if options.training_regime != "disjoint":
            return self.tagger, epochs
        if not self.frozen:
            return self.tagger.backbone, options.zero_epochs
        return self.tagger, epochs - options.zero_epochs

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # The backbone and the heads are clipped separately. With one norm over both, exits that are detached from the
        # backbone would still shorten its steps.
        limit = self.training_options.gradient_clip
        if limit > 0:
            exits = chain(self.tagger.heads.parameters(), self.tagger.link.parameters())
            for part in (self.tagger.backbone.parameters(), exits):
                clip_grad_norm_(list(part), limit)

    def transfer_batch_to_device(self, batch: JetBatch, device: torch.device, dataloader_idx: int) -> JetBatch:
        return moved(batch.map, device, non_blocking=True)  # nothing moves if a thread has sent the batch


def tagger_module(module: nn.Module) -> TaggerModule:
    """Return the module of a training, which callbacks get as any module."""
    assert isinstance(module, TaggerModule)
    return module
