"""The score that the best epoch is chosen by, metrics of one's own, averages of the weights, early stopping."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import src.train
from src.runs.folder import score, signed
from src.training.callbacks.averaging import SWA
from tests.conftest import TINY, Run, launch

Launch = Callable[..., Any]
QUIET = ("logger=none", "callbacks=none")


def test_the_score_is_higher_where_it_is_better() -> None:
    metrics = {"val/accuracy": 0.5, "val/loss": 2.0, "test/loss": 3.0, "test/accuracy": 0.4}
    assert (
        signed(metrics, "val/accuracy") == 0.5 and signed(metrics, "-val/loss") == -2 and signed({}, "-val/f1") is None
    )
    assert {signed({"val/f1": math.nan}, score) for score in ("val/f1", "-val/f1")} == {-math.inf}
    assert score({"metrics": metrics}) == 0.5  # a run from before the setting
    assert score({"metrics": metrics, "config": {"score": "-val/loss"}}) == -2
    tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
    assert score({"metrics": tested, "config": {"score": "-val/loss"}}) == -3
    assert score({"metrics": tested, "config": {"score": "val/f1"}}) == 0.4


def test_the_best_epoch_is_chosen_by_the_score_also_one_of_ones_own(launch_in: Launch) -> None:
    run = launch_in(*QUIET, "metrics=f1", "score=val/f1", "trainer.max_epochs=3", "optim.lr=0.02")
    assert run.code == 0, run.err
    best = max(run.rows, key=lambda row: float(row["val/f1"]))
    assert run.results["best_epoch"] == int(best["epoch"])
    assert run.results["metrics"]["val/f1"] == pytest.approx(float(best["val/f1"]))
    assert 0 < run.results["metrics"]["test/f1"] < 1
    assert "val/f1" in run.out
    assert run.checkpoint("best")["callbacks"]["Checkpoints"]["highest"] == pytest.approx(float(best["val/f1"]))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("score=val/f2", "metrics=f1"), "score is val/f2, which no epoch has; expected one of val/f1, val/loss, val/"),
        (("score=test/loss", "data.val_size=0"), "score is test/loss, which no epoch has; expected one of val/loss, "),
        (("+metrics.loss._target_=torchmetrics.MeanMetric",), "expected a Metric of torchmetrics, not called loss"),
        (("score=val/loss",), "score is val/loss, which would choose the worst; expected -val/loss."),
        (("score=-val/accuracy",), "expected val/accuracy."),
        (
            ("callbacks=early_stopping", "callbacks.early_stopping.monitor=val/accuracy"),
            "callbacks.early_stopping.mode is min; expected max for val/accuracy.",
        ),
        (("metrics=f1", "score=-val/f1"), "score is -val/f1, which would choose the worst; expected val/f1."),
        (
            ("+metrics.gap._target_=torchmetrics.classification.MulticlassCalibrationError", "score=val/gap"),
            "score is val/gap, which would choose the worst; expected -val/gap.",
        ),
        (
            ("metrics=f1", "callbacks=early_stopping", "callbacks.early_stopping.monitor=val/f1"),
            "callbacks.early_stopping.mode is min; expected max for val/f1.",
        ),
        (
            (
                "metrics=f1",
                "+callbacks.mine._target_=lightning.pytorch.callbacks.EarlyStopping",
                "+callbacks.mine.monitor=val/f1",
            ),
            "callbacks.mine.mode is min; expected max for val/f1.",
        ),
        (("average=swa", "average.start=1"), "average.start is 1; expected a fraction of the run, 0 to less than 1."),
        (("callbacks=early_stopping", "data.val_size=0"), "Early stopping needs validation images"),
        (("freeze=head",), "freeze is 'head'; expected backbone, to train the head only, or null."),
        (("model=custom", "model._target_=torch.nn.Identity"), "The model should take images [B, 3, 8, 8] to logits"),
    ],
)
def test_what_cannot_be_gets_a_sentence(launch_in: Launch, overrides: tuple[str, ...], words: str) -> None:
    run = launch_in(*QUIET, "trainer.max_epochs=1", *overrides)
    assert run.code == 1 and words in run.err and run.err.count("\n") == 1, run.err
    assert not run.rows  # before training


def test_swa_is_the_mean_over_the_last_part_of_the_run() -> None:
    swa = SWA(start=0.5)
    swa._first = 4
    weights = [torch.tensor(float(step)) for step in range(1, 9)]
    averaged = weights[0]
    for step, current in enumerate(weights):
        averaged = swa._average(averaged, current, torch.tensor(step))
    assert averaged.item() == pytest.approx(sum(range(5, 9)) / 4)


@pytest.fixture(scope="module", params=["ema", "swa"])
def averaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Run]]:
    yield (
        request.param,
        launch(src.train.main, tmp_path_factory.mktemp("run"), *TINY, *QUIET, f"average={request.param}"),
    )


def test_averaged_weights_are_validated_saved_and_tested(averaged: tuple[str, Run]) -> None:
    name, run = averaged
    assert run.code == 0, run.err
    checkpoint = run.checkpoint("last")
    assert run.results["choices"]["average"] == name
    mean, current = (checkpoint[key]["network.fc.weight"] for key in ("state_dict", "current_model_state"))
    assert not torch.equal(mean, current)


@pytest.mark.parametrize("batch", [2, 5, 7])
def test_an_averaged_run_goes_on_bit_for_bit_wherever_it_stopped(
    averaged: tuple[str, Run], batch: int, launch_in: Launch, resume: Launch
) -> None:
    name, whole = averaged
    stop = [f"+callbacks.stop._target_={__name__}.StopAfter", f"+callbacks.stop.batches={batch}"]
    stopped = launch_in("logger=none", "callbacks=none", f"average={name}", *stop)
    assert stopped.results["status"] == "interrupted"
    resumed = resume(stopped.folder, f"trust=[{__name__}.StopAfter]")
    assert resumed.code == 0, resumed.err
    assert resumed.trained() == whole.trained()
    assert resumed.results["metrics"]["test/accuracy"] == whole.results["metrics"]["test/accuracy"]


class StopAfter(L.Callback):
    """Ctrl-C during a batch, once."""

    only_watches = True

    def __init__(self, batches: int) -> None:
        self.left = batches

    def state_dict(self) -> dict[str, Any]:
        return {"left": self.left}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.left = -1

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            import signal

            signal.raise_signal(signal.SIGINT)


def test_an_early_stop_is_recorded(launch_in: Launch) -> None:
    patient = (
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=9",
    )
    run = launch_in("logger=none", *patient, "trainer.max_epochs=5")
    assert run.code == 0, run.err
    assert (run.results["ended"], run.results["epochs"], len(run.rows)) == ("early stopping", 2, 2)
    assert "stopped by early stopping before the end of epoch 5" in run.out


def test_a_run_killed_after_the_decision_to_stop_trains_no_more(launch_in: Launch, resume: Launch) -> None:
    patient = (
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=9",
    )
    run = launch_in("logger=none", *patient, "trainer.max_epochs=5")
    file = Path(run.folder) / "results.json"
    results = json.loads(file.read_text())
    killed = {key: value for key, value in results.items() if key not in ("ended", "metrics", "epochs")}
    file.write_text(json.dumps(killed | {"status": "running"}))
    again = resume(run.folder)
    assert again.code == 0, again.err
    assert (again.results["ended"], again.results["epochs"]) == ("early stopping", 2)
    assert again.results["metrics"] == results["metrics"]


@pytest.mark.parametrize("monitor", ["val_loss", "val/acuracy", "test/loss"])
def test_early_stopping_by_what_no_epoch_has_is_told_before_training(train: Launch, monitor: str) -> None:
    run = train("callbacks=early_stopping", f"callbacks.early_stopping.monitor={monitor}")
    assert run.code == 1 and not run.rows
    assert run.err.startswith(f"monitor of the early stopping is {monitor}, which no epoch has; expected one of ")
    assert ("val/loss, " if "loss" in monitor else "expected one of val/accuracy, ") in run.err
