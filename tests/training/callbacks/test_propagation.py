"""The verdict, on looks made by hand and on real runs that do and do not suffer; what a look sees; what it costs."""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from src.models.simplecnn import SimpleCNN
from src.runs.trust import with_current_targets
from src.training.callbacks.propagation import QUANTITIES, Look, PropagationMonitor, Thresholds, judge, loss_of_guessing
from src.training.losses import BinaryCrossEntropy
from tests.conftest import Run

# The protocol of study 1, on digits: 20 steps an epoch, a look every tenth.
STUDY = (
    "callbacks=signals",
    "callbacks.signals.every_n_steps=10",
    "data.train_size=1000",
    "optim.lr=0.02",
    "optim.nesterov=false",
    "optim.weight_decay=0",
    "schedule=constant",
    "trainer.max_epochs=6",
)


def look(
    step: int = 200,
    loss: float = math.log(10),
    one_class: float = 1.0,
    guessing: float = math.log(10),
    **changes: Any,
) -> Look:
    """A look at a network of two convolutions and a ReLU, healthy but for its loss unless told otherwise."""
    values = {"conv1": 0.1, "conv2": 0.2, "dead": 0.1} | changes
    blank = dict.fromkeys(QUANTITIES)
    rows = [
        {"layer": "conv1", "kind": "conv", **blank, "weight_gradient": values["conv1"]},
        {"layer": "relu1", "kind": "relu", **blank, "dead_fraction": values["dead"]},
        {"layer": "conv2", "kind": "conv", **blank, "weight_gradient": values["conv2"]},
    ]
    return Look(step, loss, guessing, one_class, rows)


def test_a_stuck_loss_with_a_tiny_gradient_at_the_first_layer_is_a_vanishing_gradient() -> None:
    verdict = judge(look(conv1=1.1e-3, conv2=1.0), look(), Thresholds())
    assert verdict is not None
    assert verdict.text == (
        "not learning: loss within 0.1% of that of guessing, 2.3026, after 200 steps, 100% of predictions are one "
        "class; the gradient reaching conv1 is 1.1e-03 of conv2's: vanishing gradient. Try model.skip=true, "
        "model.norm=batch or model.init=he"
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_guessing_is_that_of_the_runs_own_loss(smoothing: float) -> None:
    assert loss_of_guessing(nn.CrossEntropyLoss(label_smoothing=smoothing), 10) == pytest.approx(math.log(10))
    coins = 10 * -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    guessing = loss_of_guessing(BinaryCrossEntropy(smoothing), 10)
    assert guessing == pytest.approx(coins, rel=1e-5)
    stuck, learns = (look(loss=loss, guessing=guessing) for loss in (coins, math.log(10)))
    verdict = judge(stuck, stuck, Thresholds())
    assert verdict is not None and "of that of guessing, 3.2508, after" in verdict.text
    assert judge(learns, learns, Thresholds()) is None


def test_a_stuck_loss_with_a_gradient_is_only_not_learning() -> None:
    verdict = judge(look(), look(), Thresholds())
    assert verdict is not None
    assert verdict.kind == "not learning"
    assert judge(look(), look(loss=2.2), Thresholds()) is None  # not twice in a row


@pytest.mark.parametrize(
    "healthy",
    [
        look(loss=2.2, conv1=1e-9),  # it learns, whatever the gradient
        look(loss=2.3004, one_class=0.6),  # a slow start, with predictions that differ
        look(step=50, conv1=1e-9),  # too early to say
    ],
)
def test_no_false_alarm(healthy: Look) -> None:
    assert judge(healthy, look(dead=0.95), Thresholds()) is None


@pytest.mark.parametrize("norm", [1e4, math.inf, math.nan])
def test_a_huge_gradient_explodes(norm: float) -> None:
    verdict = judge(look(step=0, conv1=norm), None, Thresholds())
    assert verdict is not None
    assert verdict.kind == "exploding gradient"


def test_relus_are_dying_when_they_are_dead_twice() -> None:
    thresholds = Thresholds()
    assert judge(look(loss=2.0, dead=0.95), look(dead=0.1), thresholds) is None
    verdict = judge(look(loss=2.0, dead=0.95), look(dead=0.97), thresholds)
    assert verdict is not None
    assert verdict.kind == "dying ReLUs"
    assert "95% of the units of relu1" in verdict.text


@pytest.fixture(scope="session")
def vanished(launch_in: Callable[..., Run]) -> Run:
    return launch_in(*STUDY, "model=deepcnn", "logger=tensorboard")


def signals(run: Run) -> pd.DataFrame:
    return pd.read_csv(run.folder / "signals.csv")


def test_the_published_network_is_found_to_have_a_vanishing_gradient(vanished: Run) -> None:
    assert vanished.results["verdict"]["kind"] == "vanishing gradient"
    assert vanished.results["verdict"]["stopped"] is False
    assert "vanishing gradient. Try model.skip=true" in vanished.log
    # It stays within half a percent of guessing ...
    assert all(abs(float(row["train/loss"]) / math.log(10) - 1) < 5e-3 for row in vanished.rows)


@pytest.mark.parametrize("cure", ["model.init=he", "model.norm=batch"])
@pytest.mark.slow
def test_its_cures_are_healthy(cure: str, launch_in: Callable[..., Run]) -> None:
    run = launch_in(*STUDY, "model=deepcnn", cure)
    assert run.results["verdict"]["kind"] == "healthy"
    # ... while each of them moves it.
    assert min(float(row["train/loss"]) for row in run.rows) < 0.998 * math.log(10)


@pytest.mark.parametrize(
    "model", ["simplecnn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet10", "resnet20"))]
)
def test_healthy_networks_are_found_healthy(model: str, launch_in: Callable[..., Run]) -> None:
    run = launch_in(*STUDY, f"model={model}", "data.train_size=200")
    assert run.results["verdict"]["kind"] in ("healthy", "too short to judge")  # no fault found


def test_weights_start_with_the_deviations_that_study_1_took_for_those_of_outputs(vanished: Run) -> None:
    start = signals(vanished).query("step == 0").set_index("layer")
    assert start.weight_std["conv1"] == pytest.approx(1 / math.sqrt(3 * 27), rel=0.03)  # 0.111
    assert start.weight_std["conv10"] == pytest.approx(1 / math.sqrt(3 * 2304), rel=0.01)  # 0.0120
    # The outputs' are others: they fall at once, and end far lower in relation.
    assert start.activation_std["conv10"] < 0.05 * start.activation_std["conv1"]


@pytest.mark.slow
def test_the_skip_alone_brings_the_gradient_to_the_first_layer(vanished: Run, launch_in: Callable[..., Run]) -> None:
    with_skip = launch_in(*STUDY, "model=deepcnn", "model.skip=true", "trainer.max_epochs=1")
    plain, residual = (
        signals(run).query("step == 0 and layer == 'conv1'").weight_gradient.item() for run in (vanished, with_skip)
    )
    assert plain < residual / 100


@pytest.mark.slow
def test_an_exploding_gradient_is_told_although_the_run_fails(launch_in: Callable[..., Run]) -> None:
    run = launch_in(*STUDY, "model=resnet56", "model.norm=none", "trainer.max_epochs=1")
    assert run.results["verdict"]["kind"] == "exploding gradient"
    assert run.results["verdict"]["step"] == 0


def network_with_a_dead_layer(**arguments: Any) -> nn.Module:
    network = SimpleCNN(**arguments)
    assert network.conv2.bias is not None
    nn.init.constant_(network.conv2.bias, -1e3)
    return network


def test_dying_relus_are_found(launch_in: Callable[..., Run]) -> None:
    dead = f"model._target_={__name__}.network_with_a_dead_layer"
    run = launch_in(*STUDY, "model=simplecnn", dead, "data.train_size=200", "callbacks.signals.every_n_steps=2")
    assert run.results["verdict"]["kind"] == "dying ReLUs"
    assert run.results["verdict"]["step"] == 2
    assert "100% of the units of relu2" in run.results["verdict"]["text"]


@pytest.mark.slow
def test_a_hopeless_run_is_stopped_if_asked(launch_in: Callable[..., Run]) -> None:
    run = launch_in(*STUDY, "model=deepcnn", "callbacks.signals.stop_hopeless=true", "trainer.max_epochs=20")
    results = run.results
    assert results["status"] == "completed"
    assert results["verdict"]["stopped"] is True
    assert results["epochs"] < 10
    assert "test/accuracy" in results["metrics"]


def test_a_run_is_the_same_whether_watched_or_not(launch_in: Callable[..., Run]) -> None:
    watched = launch_in("callbacks=signals", "callbacks.signals.every_n_steps=2")
    assert watched.trained()[0] == launch_in().trained()[0]


def test_what_is_written(vanished: Run) -> None:
    table = signals(vanished)
    assert sorted(set(table.step)) == list(range(0, 120, 10))
    assert list(table[table.step == 0].layer)[:4] == ["conv1", "relu1", "conv2", "relu2"]
    relu, conv = table[table.kind == "relu"], table[table.kind == "conv"]
    assert relu.dead_fraction.between(0, 1).all()
    assert relu.weight_std.isna().all()
    assert conv[["activation_std", "activation_gradient", "weight_gradient", "update_ratio"]].gt(0).all(axis=None)
    predictions = pd.read_csv(vanished.folder / "predictions.csv")
    assert list(predictions.when.unique()) == ["before the first step", "after training"]
    shares = predictions.groupby("when")[["mean_softmax", "predicted", "actual"]].sum()
    assert (shares - 1).abs().lt(1e-5).all(axis=None)
    for name in ("signals.png", "predictions.png"):
        assert (vanished.folder / name).read_bytes().startswith(b"\x89PNG")
    tags = vanished.events.Tags()
    assert {"signal_weight_gradient/conv1", "signal_dead_fraction/relu10"} <= set(tags["scalars"])
    assert "signal_activations/relu1" in tags["histograms"]
    assert {"signal/signals", "signal/predictions"} <= set(tags["images"])


def test_accumulated_batches_are_looked_at_once_a_step(launch_in: Callable[..., Run]) -> None:
    run = launch_in("callbacks=signals", "callbacks.signals.every_n_steps=1", "trainer.accumulate_grad_batches=3")
    assert run.code == 0
    table = signals(run)  # four batches an epoch: three of them make a step, the last one another
    assert not table.duplicated(["step", "layer"]).any()
    assert sorted(set(table.step)) == [0, 1, 2, 3]
    assert table[table.kind == "conv"].update_ratio.gt(0).all()


def test_a_network_without_convolutions_is_judged_by_its_first_layer() -> None:
    def linear(gradients: tuple[float, float]) -> Look:
        blank = dict.fromkeys(QUANTITIES)
        rows = [
            {"layer": f"fc{i}", "kind": "linear", **blank, "weight_gradient": value}
            for i, value in enumerate(gradients)
        ]
        return Look(200, math.log(10), math.log(10), 1.0, rows)

    verdict = judge(linear((1e-4, 1.0)), linear((1e-4, 1.0)), Thresholds())
    assert verdict is not None
    assert verdict.kind == "vanishing gradient"
    assert "reaching fc0 is 1.0e-04 of fc1's" in verdict.text


@pytest.mark.slow
def test_a_resumed_run_has_every_look_once(launch_in: Callable[..., Run], resume: Callable[..., Run]) -> None:
    run = launch_in("callbacks=signals", "callbacks.signals.every_n_steps=3")
    resume(run.folder, "trainer.max_epochs=4")
    table = signals(run)
    assert not table.duplicated(["step", "layer"]).any()
    assert sorted(set(table.step)) == [0, 3, 6, 9, 12, 15]


class Watched(L.LightningModule):
    """A network of two layers, just enough for the callback."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def test_a_look_sees_what_a_calculation_by_hand_gives() -> None:
    module, callback = Watched(), PropagationMonitor()
    images = torch.randn(5, 3, 8, 8)
    callback._attach(module.network)
    logits = module.network(images)
    loss = logits.square().mean()
    loss.backward()
    callback._measure_weights()
    conv = module.network[0]
    assert isinstance(conv, nn.Conv2d)
    gradient, before = conv.weight.grad, conv.weight.detach().clone()
    assert gradient is not None
    with torch.no_grad():
        conv.weight -= 0.5 * gradient
    callback._detach()
    callback._losses, callback._step = [loss.detach()], 7
    seen = callback._collect(math.log(2))

    activations = conv._conv_forward(images, before, conv.bias)
    row, relu = seen.rows[0], seen.rows[1]
    assert row["activation_mean"] == pytest.approx(activations.mean().item(), rel=1e-4)
    assert row["activation_std"] == pytest.approx(activations.std().item(), rel=1e-4)
    assert row["weight_std"] == pytest.approx(before.std().item(), rel=1e-4)
    assert row["weight_gradient"] == pytest.approx(gradient.norm().item(), rel=1e-4)
    assert row["update_ratio"] == pytest.approx((0.5 * gradient.norm() / before.norm()).item(), rel=1e-4)
    assert relu["dead_fraction"] == (activations.amax((0, 2, 3)) <= 0).float().mean().item()
    assert seen.loss == pytest.approx(loss.item())
    predictions = logits.argmax(1)
    assert seen.one_class == pytest.approx(max(predictions.eq(0).sum(), predictions.eq(1).sum()).item() / 5)
    assert not any(layer._forward_hooks for layer in module.network.modules())


def test_there_are_hooks_during_a_look_and_none_otherwise(launch_in: Callable[..., Run]) -> None:
    seen: dict[int, int] = {}
    original = PropagationMonitor.on_train_batch_start

    def counting(self: PropagationMonitor, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        original(self, trainer, pl_module, batch, batch_idx)
        seen[trainer.global_step] = sum(len(layer._forward_hooks) for layer in pl_module.network.modules())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PropagationMonitor, "on_train_batch_start", counting)
        launch_in("callbacks=signals", "callbacks.signals.every_n_steps=3", "trainer.max_epochs=1")
    assert [step for step, hooks in seen.items() if hooks] == [0, 3]


def test_a_senseless_interval_is_refused(train: Callable[..., Run]) -> None:
    run = train("callbacks=signals", "callbacks.signals.every_n_steps=0")
    assert run.code == 1
    assert "every_n_steps is 0; expected 1 or more" in run.err


def test_it_is_found_under_its_former_name() -> None:
    config = with_current_targets({"_target_": "src.callbacks.signals.SignalPropagation"})
    assert instantiate(config).state_key == "SignalPropagation"
