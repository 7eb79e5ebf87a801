"""The LightningModule: loss, metrics, optimiser. It does not know where images come from."""

import logging
import math
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from src.runs.errors import DIVERGED
from src.runs.outcomes import Outcomes
from src.training.image_outcomes import ImageOutcomes
from src.training.schedules import Schedule

log = logging.getLogger(__name__)

COMPILE_MODES = ("reduce-overhead", "max-autotune")  # with CUDA graphs; and with the fastest of several kernels


class ImageMean(Metric):
    """Mean over images, from batch means. torchmetrics' MeanMetric checks for NaN in every step, which synchronises
    the GPU; with nan_strategy="disable" it ignores the weights (torchmetrics issue 3434)."""

    mean_value: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("mean_value", torch.tensor(0.0), "sum")
        self.add_state("weight", torch.tensor(0.0), "sum")

    def update(self, mean: Tensor, images: int) -> None:
        self.mean_value += mean * images
        self.weight += images

    def compute(self) -> Tensor:
        return self.mean_value / self.weight


class StageMetrics(nn.Module):
    """Mean loss and accuracy over the images of an epoch."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.loss = ImageMean()
        # Checking the arguments costs more than the metric; the loss has already rejected wrong labels.
        self.accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, logits ``[B, num_classes]`` and labels, see ``Classifier``."""
        self.loss.update(loss.detach(), len(labels))
        labels = labels.argmax(dim=1) if labels.ndim == 2 else labels
        self.accuracy.update(logits.detach(), labels)

    def so_far(self) -> tuple[float, float]:
        """Loss and accuracy over the images that this process has seen."""
        loss: Any = self.loss
        accuracy: Any = self.accuracy
        return (loss.mean_value / loss.weight).item(), (accuracy.tp / (accuracy.tp + accuracy.fn)).item()

    def of_all_processes(self) -> dict[str, Tensor]:
        """The sums so far, as in ``state_dict`` but over all processes that train together."""
        with self.loss.sync_context(), self.accuracy.sync_context():
            return {name: value.clone() for name, value in self.state_dict().items()}


class Classifier(L.LightningModule):
    """Any backbone, trained with any loss.

    Labels are int64 ``[B]`` or, of mixed training images, class probabilities ``[B, num_classes]``. An image of the
    latter counts as right in ``train/accuracy`` if its most probable class is predicted. ``val/loss`` and ``test/loss``
    are the cross-entropy whatever the loss, so that runs can be compared.

    Args:
        network: float images ``[B, 3, S, S]`` to logits ``[B, num_classes]``.
        optimizer: makes the optimiser for a module's parameters; if that is fused, also one with ``fused=False``.
        schedule: the factor on the learning rate at each step.
        classes: names of the classes, by index; their number is ``num_classes``.
        image_size: side of the images. Every checkpoint contains it, ``classes`` and ``config``, so that a checkpoint
            can be used without its run folder and without data.
        seed: seed of the network's own random numbers in training (dropout, for example).
        loss: of training: logits ``[B, num_classes]`` and labels to their mean over images, a scalar.
        metrics: more metrics of validation and test by name, of logits and labels; each stage gets copies.
        trained: name of the only module of the network that is trained; "" for all. The rest stays in eval mode.
        channels_last: memory layout of the network and of the images.
        compile: whether to ``torch.compile`` the network, or a mode of ``COMPILE_MODES`` to compile it in.
        config: the run's configuration, plain values.

    Raises:
        ValueError: ``channels_last`` or ``compile`` is not a valid choice.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Schedule,
        *,
        classes: tuple[str, ...],
        image_size: int,
        seed: int = 0,
        loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
        metrics: Mapping[str, Metric] | None = None,
        trained: str = "",
        channels_last: bool = True,
        compile: bool | str = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(channels_last, bool):  # the string "no" would count as true
            raise ValueError(f"channels_last is {channels_last!r}; expected true or false.")
        if not isinstance(compile, bool) and compile not in COMPILE_MODES:
            raise ValueError(f"compile is {compile!r}; expected true, false, {' or '.join(COMPILE_MODES)}.")
        carried = {"config": config, "classes": list(classes), "image_size": image_size}
        self.save_hyperparameters(carried, logger=False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        if compile:
            log.info("compiling the network: the first step takes up to a minute")
            self.network.compile(mode=compile if isinstance(compile, str) else None)
        self.trained = trained
        if trained:
            self.network.requires_grad_(False).get_submodule(trained).requires_grad_(True)
        self.optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.loss = loss
        # Lightning would take a module called "train" for its own method.
        self.fit_metrics = StageMetrics(len(classes))
        self.val_metrics = StageMetrics(len(classes))
        self.test_metrics = StageMetrics(len(classes))
        more = {stage: {name: metric.clone() for name, metric in (metrics or {}).items()} for stage in ("val", "test")}
        self.more_metrics = nn.ModuleDict({stage: nn.ModuleDict(own) for stage, own in more.items()})
        self.test_images = ImageOutcomes(len(classes))
        self.outcomes: Outcomes | None = None  # of the latest test
        # The number of optimiser steps before the latest validation, and the weights that it validated.
        self._validated: tuple[int, dict[str, Tensor]] = -1, {}
        self._sums: dict[str, Tensor] = {}  # of ``fit_metrics``, from a checkpoint
        self._logged = False  # whether fit_metrics are, in this epoch
        self.tested: Mapping[str, Tensor] | None = None  # the weights to test; None: the current ones
        # Saved in the checkpoint, so that an epoch that is resumed half-way reports metrics of the whole epoch.
        self.fit_metrics.loss.persistent(True)
        self.fit_metrics.accuracy.persistent(True)

    def forward(self, images: Tensor) -> Tensor:
        """float images ``[B, 3, S, S]`` to logits ``[B, num_classes]``, in float32 or a higher precision."""
        logits = self.network(images.to(self.dtype).contiguous(memory_format=self.memory_format))
        if not isinstance(logits, Tensor):  # torchvision's GoogLeNet and Inception have more heads in training
            raise ValueError(f"In training the model returns {type(logits).__name__}; expected a tensor of logits.")
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.trained:  # BatchNorm's averages and dropout belong to the frozen backbone
            self.network.eval().get_submodule(self.trained).train(mode)
        return self

    def on_train_start(self) -> None:
        # A checkpoint restores the rate for the run's former length; this run's length may differ.
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        groups = scheduler.optimizer.param_groups
        for group, base, factor in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
            group["lr"] = base * factor(scheduler.last_epoch)
        loader: Any = self.trainer.train_dataloader
        self._batch_size = loader.batch_size * self.trainer.world_size
        images = torch.tensor(len(loader.sampler), device=self.device)
        self._images = int(self.trainer.strategy.reduce(images, reduce_op="sum"))  # of an epoch, in all processes
        if self.trainer.is_global_zero:  # the sums in a checkpoint are those of all processes
            sums = {name: value.to(self.device) for name, value in self._sums.items()}
            self.fit_metrics.load_state_dict(sums, strict=False)
        else:
            self.on_train_epoch_start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        sums = self.fit_metrics.of_all_processes()
        state, step, weights = checkpoint["state_dict"], *self._validated
        state.update({f"fit_metrics.{name}": value for name, value in sums.items()})
        # Other callbacks may validate weights that are not in the checkpoint, or change weights after validation.
        if step == self.global_step and not all(torch.equal(state[name], weights[name]) for name in weights):
            checkpoint["resumed_weights"] = {name: state[name] for name in weights}
            state.update(weights)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state, prefix = checkpoint["state_dict"], "fit_metrics."
        state.update(checkpoint.get("resumed_weights", {}))
        self._sums = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
        for name, value in self.network.state_dict(prefix="network.", keep_vars=True).items():
            value.data = value.data.to(state.get(name, value).dtype)  # for 64-true

    def on_fit_start(self) -> None:
        # A precision such as bf16-true applies to all modules, but is too low for a sum over thousands of images.
        for metrics in (self.fit_metrics, self.val_metrics, self.test_metrics):
            metrics.loss.set_dtype(torch.float32)

    on_test_start = on_fit_start

    def on_train_epoch_start(self) -> None:
        # Lightning skips this hook when it resumes within an epoch; the sums so far are then kept.
        self.fit_metrics.loss.reset()
        self.fit_metrics.accuracy.reset()
        self._logged = False

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # The network's random numbers (dropout) depend only on seed and batch, so no generator has to be saved. Both
        # are hashed, because torch's CPU generator uses only the lower 32 bits of a seed. A network of one's own may
        # draw from numpy or Python.
        rank = [self.global_rank] if self.global_rank else []  # rank 0 draws like a single process
        key = np.random.SeedSequence((self.seed, self.trainer.fit_loop.total_batch_idx, *rank))
        seed = int(key.generate_state(1, np.uint64)[0] >> 1)
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        if self.device.type != "cpu":  # seeding every device takes a while even where there is none
            torch.manual_seed(seed)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = self.loss(logits, labels)
        self._check_finite(loss, batch_idx)
        self.fit_metrics.update(loss, logits, labels)
        if not self._logged:  # once an epoch, as every call takes Lightning about 0.4 ms
            self._log("train", self.fit_metrics)
            self._logged = True
        # Lightning drops values logged in between, but first copies each to the GPU, which synchronises it.
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/batch_loss", loss)
            self.log("optim/lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss * self._share(len(labels), batch_idx)

    def _share(self, images: int, batch_idx: int) -> float:
        """Weight of this process's mean loss, so that a step uses the mean over all its images.

        Lightning takes the mean over the batches of a step and over processes. The weight is 1 unless the last batch of
        an epoch is smaller, or the last step of an epoch has fewer batches.
        """
        group, processes = self.trainer.accumulate_grad_batches, self.trainer.world_size
        first = batch_idx - batch_idx % group
        end = min(first + group, int(self.trainer.num_training_batches))
        total = min(end * self._batch_size, self._images) - first * self._batch_size
        return images * processes * group / total

    def on_validation_epoch_start(self) -> None:
        # Runs after the callbacks' own hooks, which may swap the weights.
        # Each process has running statistics of its own images; those of rank 0 are saved.
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)
        weights = self.network.state_dict(prefix="network.")
        self._validated = self.global_step, {name: value.clone() for name, value in weights.items()}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", self.val_metrics, batch, batch_idx)

    def on_test_epoch_start(self) -> None:
        if self.tested is not None:  # after the callbacks' own hooks, which may swap the weights
            self.network.load_state_dict(self.tested)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        logits = self._evaluate("test", self.test_metrics, batch, batch_idx)
        self.test_images.update(logits, batch[1], self.global_rank, self.trainer.world_size)

    def on_test_epoch_end(self) -> None:
        self.outcomes = self.test_images.compute()
        self.test_images.reset()

    def _evaluate(self, stage: str, metrics: StageMetrics, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images)
        metrics.update(cross_entropy(logits, labels), logits, labels)
        for metric in self.more_metrics[stage].values():  # type: ignore[operator]
            metric.update(logits, labels)
        if batch_idx == 0:  # once an epoch, as in training
            self._log(stage, metrics)
            for name, metric in self.more_metrics[stage].items():  # type: ignore[operator]
                self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True)
        return logits

    def _log(self, stage: str, metrics: StageMetrics) -> None:
        self.log(f"{stage}/loss", metrics.loss, on_step=False, on_epoch=True)
        self.log(f"{stage}/accuracy", metrics.accuracy, on_step=False, on_epoch=True, prog_bar=stage == "val")

    def _check_finite(self, loss: Tensor, batch_idx: int) -> None:
        """Raise if the loss is not finite. A GPU, which this synchronises, is checked only now and then."""
        if self.device.type != "cpu" and batch_idx % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        if not math.isfinite(value := loss.item()):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise FloatingPointError(
                f"The loss became {value} in epoch {self.current_epoch + 1}, at step {self.global_step}, with "
                f"learning rate {rate:.3g}: {DIVERGED}. Lower optim.lr or raise schedule.warmup_epochs; "
                "the checkpoints of earlier epochs are intact."
            )

    def on_train_epoch_end(self) -> None:
        # Catches what happened between two checks, before any checkpoint of this epoch is written.
        self._check_finite(self.fit_metrics.loss.compute(), batch_idx=0)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer(self.network)
        # In mixed precision Lightning cannot clip the gradients of a fused optimiser.
        clips = bool(self.trainer.gradient_clip_val) and isinstance(self.trainer.precision_plugin, MixedPrecision)
        if clips and optimizer.defaults.get("fused"):
            try:
                optimizer = self.optimizer(self.network, fused=False, foreach=True)
            except TypeError:  # a function of the user's own
                raise ValueError(
                    "optim makes a fused optimiser, whose gradients cannot be clipped in mixed precision: let its "
                    "function take fused and foreach, or set trainer.gradient_clip_val=null."
                ) from None
        steps = int(self.trainer.estimated_stepping_batches)
        batches, group = self.trainer.num_training_batches, self.trainer.accumulate_grad_batches
        if group > batches:
            raise ValueError(
                f"trainer.accumulate_grad_batches is {group}, but an epoch has only {batches} batches; lower it."
            )
        epoch = math.ceil(batches / group)
        if (warmup := self.schedule.warmup_epochs) * epoch > steps:
            log.warning(
                "The warm-up (schedule.warmup_epochs=%s) is longer than the run (%g epochs): the learning rate never "
                "reaches optim.lr.",
                *(warmup, steps / epoch),
            )
        average = ((self.hparams.get("config") or {}).get("average") or {}).get("decay")
        if isinstance(average, float) and average**steps > 0.01:
            log.warning(
                "average.decay=%s is too high for a run of %d steps: %.0f %% of the averaged weights, which are "
                "validated and saved, are the initial ones. A decay of %.4f leaves 1 %% of them.",
                *(average, steps, 100 * average**steps, 0.01 ** (1 / steps)),
            )
        factor = partial(self.schedule.factor, steps=steps, steps_per_epoch=epoch)
        # A number of numpy's could not be read back from a checkpoint.
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(factor(step)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
