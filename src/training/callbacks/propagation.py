"""Signal propagation: activations and gradients from layer to layer, and a verdict in plain words."""

import csv
import io
import logging
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from src.data.datamodule import ImageDataModule
from src.runs.escaping import csv_cell
from src.runs.files import LARGEST_SIGNALS, read_regular
from src.runs.folder import RunFolder, write_whole
from src.training.tensorboard import tensorboards

log = logging.getLogger(__name__)

_SMOOTH = (nn.CELU, nn.ELU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.Mish, nn.ReLU6, nn.SiLU, nn.Softplus, nn.Tanh)
_LAYERS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "norm": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm),
    "linear": (nn.Linear,),
    "relu": (nn.ReLU,),
    "activation": _SMOOTH,
}
QUANTITIES = {
    "activation_mean": "Mean of the layer's output.",
    "activation_std": "Standard deviation of the layer's output.",
    "dead_fraction": "Share of the ReLU's channels that are zero for the whole batch, 0 to 1.",
    "activation_gradient": "L2 norm of the loss's gradient with respect to the layer's output.",
    "weight_gradient": "L2 norm of the loss's gradient with respect to the layer's weight.",
    "weight_std": "Standard deviation of the layer's weight.",
    "update_ratio": "L2 norm of the optimiser's step over that of the weight.",
}
COLUMNS = ("step", "depth", "layer", "kind", *QUANTITIES)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the verdict.

    A run is not learning, or a layer is dying, only if two looks in a row find it: a slow start may look like guessing
    once, and a unit that is zero for one batch is not dead.
    """

    patience: int = 100  # optimiser steps before a run may be called "not learning"
    loss: float = 1e-3  # a mean loss this close to that of guessing, relatively, is guessing
    one_class: float = 0.95  # share of one class among a batch's predictions from which they count as collapsed
    vanishing: float = 1e-2  # of the last convolution's weight gradient, below which the first one's has vanished;
    # in a network without convolutions, of the last layer's
    exploding: float = 1e3  # norm of the gradient of all weights above which it explodes
    dead: float = 0.9  # share of a layer's ReLUs that are zero for a whole batch, above which the layer is dying


class Verdict(NamedTuple):
    """A problem that was found in the signals, and the step at which."""

    kind: str
    text: str
    step: int


@dataclass(frozen=True)
class Look:
    """The measurements of one step."""

    step: int  # optimiser steps taken before
    loss: float  # mean of the losses since the last look
    guessing: float  # see ``loss_of_guessing``
    one_class: float  # share of the most frequent class among the batch's predictions
    rows: list[dict[str, Any]] = field(repr=False)  # one per layer, in the order of the forward pass, see ``COLUMNS``


def loss_of_guessing(loss: Callable[[Tensor, Tensor], Tensor], classes: int) -> float:
    """The lowest mean loss, over one image of each class, of logits that are the same for all images and classes.

    It is ln(C) for cross-entropy, at any logit, and the entropy of C coins of probability 1/C for binary cross-entropy.

    Args:
        loss: of training: logits ``[B, C]`` and int64 labels ``[B]`` to a scalar.
    """
    loss = deepcopy(loss)  # it may keep a state
    loss = loss.cpu() if isinstance(loss, nn.Module) else loss
    labels = torch.arange(classes)

    def of(logit: float) -> float:
        return loss(torch.full((classes, classes), logit), labels).item()

    return float(minimize_scalar(of, bounds=(-20, 20), method="bounded").fun)


def judge(look: Look, previous: Look | None, thresholds: Thresholds) -> Verdict | None:
    """Describe the problem of a run, if it has one.

    Args:
        look: the latest look.
        previous: the look before it.
        thresholds: of the verdict.
    """
    weighted = [row for row in look.rows if row["weight_gradient"] is not None]
    convs = [row for row in weighted if row["kind"] == "conv"] or weighted  # a network may have none
    total = math.sqrt(sum(row["weight_gradient"] ** 2 for row in weighted))
    if not total <= thresholds.exploding:  # also when it is not a number
        worst = max(weighted, key=lambda row: row["weight_gradient"])
        return Verdict(
            "exploding gradient",
            f"the norm of the gradient is {total:.2g} at step {look.step}, largest in {worst['layer']}: exploding "
            "gradient. Try a lower optim.lr, model.norm=batch or trainer.gradient_clip_val=1",
            look.step,
        )
    if previous is not None:
        dead_before = {row["layer"]: row["dead_fraction"] for row in previous.rows}
        relus = [row for row in look.rows if row["kind"] == "relu"]
        dying = [row for row in relus if min(row["dead_fraction"], dead_before.get(row["layer"], 0)) > thresholds.dead]
        if dying:
            worst = max(dying, key=lambda row: row["dead_fraction"])
            return Verdict(
                "dying ReLUs",
                f"{worst['dead_fraction']:.0%} of the units of {worst['layer']} are zero for every image of the "
                f"batch at step {look.step}: dying ReLUs. Try a lower optim.lr, schedule.warmup_epochs=1 or "
                "model.norm=batch",
                look.step,
            )

    def stuck(look: Look) -> bool:
        guesses = abs(look.loss - look.guessing) < thresholds.loss * abs(look.guessing)
        return guesses and look.one_class >= thresholds.one_class

    if look.step < thresholds.patience or previous is None or not (stuck(look) and stuck(previous)):
        return None
    fact = (
        f"not learning: loss within {thresholds.loss:.1%} of that of guessing, {look.guessing:.4f}, after "
        f"{look.step} steps, {look.one_class:.0%} of predictions are one class"
    )
    first, last = convs[0], convs[-1]
    ratio = first["weight_gradient"] / max(last["weight_gradient"], 1e-30)
    if ratio < thresholds.vanishing:
        return Verdict(
            "vanishing gradient",
            f"{fact}; the gradient reaching {first['layer']} is {ratio:.1e} of {last['layer']}'s: vanishing "
            "gradient. Try model.skip=true, model.norm=batch or model.init=he",
            look.step,
        )
    return Verdict("not learning", f"{fact}; the gradient does reach {first['layer']}. Try another optim.lr", look.step)


class PropagationMonitor(L.Callback):
    """Measure activations and gradients, layer by layer, at the first step and every ``every_n_steps`` steps.

    Measures every convolution, normalisation, linear layer and activation of the network during a training step. Hooks
    are added before that step and removed after it, so the other steps cost nothing. The hooks see the training batch
    and change no numbers. In distributed training only rank 0 measures: activations of its share of the batch, and
    gradients of the whole batch.

    Writes ``signals.csv`` (a row per layer and look), ``signals.png`` (layer by step, forward and backward),
    ``predictions.csv`` and ``predictions.png`` (what the network predicts before the first step and after
    training), the same to TensorBoard, and ``verdict`` in results.json.

    Columns of signals.csv: ``step``; ``depth``, the layer's place in the forward pass, from 0; ``layer``, ``kind``;
    then each of ``QUANTITIES``, empty where it does not apply.

    Args:
        every_n_steps: steps between two looks.
        histograms: whether TensorBoard gets histograms of activations and weight gradients.
        stop_hopeless: whether to stop a run that is not learning, or whose ReLUs die, after the current epoch.
        thresholds: of the verdict, by the names of ``Thresholds``.
        images: number of images for the predictions, of the validation set, else of the training set.
    """

    only_watches = "stop_hopeless"  # only if that is not set

    def __init__(
        self,
        every_n_steps: int = 50,
        histograms: bool = True,
        stop_hopeless: bool = False,
        thresholds: dict[str, float] | None = None,
        images: int = 1000,
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(
                f"every_n_steps is {every_n_steps}; expected 1 or more (leave the callback out for never)."
            )
        self.every_n_steps = every_n_steps
        self.histograms = histograms
        self.stop_hopeless = stop_hopeless
        self.thresholds = Thresholds(**(thresholds or {}))  # type: ignore[arg-type]
        self.images = images
        self.verdict: Verdict | None = None
        self._previous: Look | None = None
        self._handles: list[RemovableHandle] = []
        self._measured: dict[str, dict[str, Tensor]] = {}
        self._samples: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
        self._predictions: list[dict[str, Any]] = []

    state_key = "SignalPropagation"  # its name in checkpoints: the class's former name

    def state_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict and self.verdict._asdict(), "predictions": self._predictions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.verdict = state_dict["verdict"] and Verdict(**state_dict["verdict"])
        self._predictions = state_dict["predictions"]

    # ---- when to look -------------------------------------------------------------------------------------------

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.folder = RunFolder(trainer.default_root_dir)
        self.file = self.folder.path / "signals.csv"
        self._guessing = loss_of_guessing(pl_module.loss, len(pl_module.hparams["classes"]))  # type: ignore[arg-type]
        text = read_regular(self.file, LARGEST_SIGNALS).decode() if trainer.global_step else "\n"
        rows = csv.DictReader(io.StringIO(text[: text.rindex("\n") + 1]))  # a killed run may have left half a line
        with write_whole(self.file, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            # Rows after the checkpoint are dropped: their steps are repeated.
            writer.writerows(row for row in rows if int(row["step"]) < trainer.global_step)
        if trainer.global_step == 0:
            self._predict(trainer, pl_module, "before the first step")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._step = trainer.global_step
        # With gradient accumulation, look at the batch after which the optimiser steps.
        last = batch_idx + 1 == trainer.num_training_batches
        steps = last or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        self._looking = steps and self._step % self.every_n_steps == 0
        if self._looking and trainer.is_global_zero:
            self._attach(pl_module.network)  # type: ignore[arg-type]

    def on_before_optimizer_step(self, *_: Any) -> None:
        if self._handles:
            self._measure_weights()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        if trainer.is_global_zero:
            self._losses.append(outputs["loss"].detach())
            if self._looking:
                self._look(trainer)
        if self._looking and self.stop_hopeless and trainer.world_size > 1:
            trainer.should_stop = trainer.strategy.broadcast(trainer.should_stop)

    def _look(self, trainer: L.Trainer) -> None:
        self._detach()
        look = self._collect(self._guessing)
        self._losses.clear()
        with self.file.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerows(look.rows)
        self._to_tensorboard(trainer, look)
        self._judge(trainer, look)
        self._previous = look

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        import pandas as pd  # and matplotlib: a second that the first step need not wait for

        from src.training.callbacks.propagation_figures import draw_heatmaps, draw_predictions

        self._predict(trainer, pl_module, "after training")
        table = pd.DataFrame(self._predictions)
        table.map(csv_cell).to_csv(self.folder.path / "predictions.csv", index=False)
        figures = (
            ("predictions", draw_predictions(table), "What is predicted before the first step and after training."),
            ("signals", draw_heatmaps(pd.read_csv(self.file)), "Layer by step: activations forward, gradients back."),
        )
        for name, figure, description in figures:
            figure.savefig(self.folder.path / f"{name}.png")
            for logger in tensorboards(trainer):
                logger.log_figure(f"signal/{name}", figure, trainer.global_step, description)
        if self.verdict is None:
            verdict = {"kind": "healthy", "text": "no fault found in the signals"}
            patience = self.thresholds.patience
            if trainer.global_step < patience:
                text = f"no fault found in {trainer.global_step} steps; whether it learns is judged after {patience}"
                verdict = {"kind": "too short to judge", "text": text}
            log.info("%s: %s", verdict["kind"], verdict["text"])
            self.folder.update(verdict=verdict)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._detach()

    # ---- looking ------------------------------------------------------------------------------------------------

    def _attach(self, network: nn.Module) -> None:
        torch.compiler.set_stance("force_eager")  # a compiled network would not call the hooks
        self._layers = [
            (name, kind, module)
            for name, module in network.named_modules()
            for kind, types in _LAYERS.items()
            if isinstance(module, types)
        ]
        self._measured, self._samples = {}, {}
        for name, kind, module in self._layers:
            self._handles.append(module.register_forward_hook(self._forward_hook(name, kind)))
        self._handles.append(network.register_forward_hook(self._output_hook))

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        torch.compiler.set_stance("default")

    def _forward_hook(self, name: str, kind: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            activations = output.detach().float()
            std, mean = torch.std_mean(activations)
            measured = {"activation_mean": mean, "activation_std": std}
            if kind == "relu":
                others = [dim for dim in range(activations.ndim) if dim != 1]
                measured["dead_fraction"] = (activations.amax(others) <= 0).float().mean()
                self._samples[f"activations/{name}"] = _sample(activations[:8])
            self._measured[name] = measured  # in the order of the forward pass

            def backward_hook(gradient: Tensor) -> None:
                measured["activation_gradient"] = gradient.float().norm()

            if output.requires_grad:
                output.register_hook(backward_hook)

        return hook

    def _output_hook(self, module: nn.Module, inputs: Any, logits: Tensor) -> None:
        counts = logits.detach().argmax(dim=1).bincount(minlength=logits.shape[1])
        self._one_class = counts.max() / len(logits)

    def _measure_weights(self) -> None:
        self._weights = {}
        for name, kind, module in self._layers:
            if (weight := getattr(module, "weight", None)) is None or weight.grad is None:
                continue
            self._weights[name] = weight.detach().clone()
            self._measured[name] |= {"weight_gradient": weight.grad.float().norm(), "weight_std": weight.detach().std()}
            if kind in ("conv", "linear"):
                self._samples[f"weight_gradients/{name}"] = _sample(weight.grad.float())

    def _collect(self, guessing: float) -> Look:
        """Copy the measurements to the host in one transfer."""
        kinds = {name: (kind, module) for name, kind, module in self._layers}
        for name, before in self._weights.items():
            weight = kinds[name][1].weight
            assert isinstance(weight, Tensor)
            self._measured[name]["update_ratio"] = (weight.detach() - before).norm() / before.norm()
        self._weights = {}
        mean_loss = torch.stack(self._losses).float().mean()
        tensors = [value for measured in self._measured.values() for value in measured.values()]
        values = iter(torch.stack([mean_loss, self._one_class.to(mean_loss.device), *tensors]).tolist())
        loss, one_class = next(values), next(values)
        rows = []
        for depth, (name, measured) in enumerate(self._measured.items()):
            row: dict[str, Any] = {"step": self._step, "depth": depth, "layer": name, "kind": kinds[name][0]}
            rows.append(row | dict.fromkeys(QUANTITIES) | {quantity: next(values) for quantity in measured})
        return Look(self._step, loss, guessing, one_class, rows)

    # ---- reporting ----------------------------------------------------------------------------------------------

    def _to_tensorboard(self, trainer: L.Trainer, look: Look) -> None:
        for logger in tensorboards(trainer):
            for row in look.rows:
                for quantity, meaning in QUANTITIES.items():
                    if row[quantity] is not None:
                        logger.log_scalar(f"signal_{quantity}/{row['layer']}", row[quantity], look.step, meaning)
            if self.histograms:
                for name, sample in self._samples.items():
                    if sample.isfinite().all():
                        logger.experiment.add_histogram(f"signal_{name}", sample, look.step)

    def _judge(self, trainer: L.Trainer, look: Look) -> None:
        if self.verdict is not None:  # only the first: later ones may be its consequences
            return
        self.verdict = judge(look, self._previous, self.thresholds)
        if self.verdict is None:
            return
        log.warning("%s.", self.verdict.text)
        stopped = self.stop_hopeless and self.verdict.kind != "exploding gradient"  # which may recover
        self.folder.update(verdict=self.verdict._asdict() | {"stopped": stopped})
        if stopped:
            log.warning("Stopping the run, since stop_hopeless is set.")
            trainer.should_stop = True

    def _predict(self, trainer: L.Trainer, pl_module: L.LightningModule, when: str) -> None:
        """Record mean softmax and distribution of the predictions on a fixed set of images."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ImageDataModule)
        images = data.val if len(data.val) else data.train
        pixels, labels, _ = images.sample(self.images)
        classes = len(data.classes)
        pl_module.eval()
        with torch.no_grad():
            chunks = [
                pl_module(data.normalise(chunk.to(pl_module.device))).float().softmax(dim=1).cpu()
                for chunk in pixels.split(data.eval_batch_size)
            ]
        pl_module.train()
        softmax = torch.cat(chunks)
        predicted = softmax.argmax(dim=1).bincount(minlength=classes) / len(labels)
        actual = labels.bincount(minlength=classes) / len(labels)
        shares = {"mean_softmax": softmax.mean(dim=0), "predicted": predicted, "actual": actual}
        self._predictions += [
            {"when": when, "class": name} | {quantity: share[place].item() for quantity, share in shares.items()}
            for place, name in enumerate(data.classes)
        ]


def _sample(values: Tensor, size: int = 4096) -> Tensor:
    """About ``size`` of the values, evenly spaced: enough for a histogram."""
    flat = values.reshape(-1)
    return flat[:: max(1, flat.numel() // size)]
