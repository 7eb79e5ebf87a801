"""Whatever Lightning's Trainer, a callback, an optimiser or a backbone of one's own brings along: what is recorded is
what was trained, or the run is refused in one sentence before it trains."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src.inference.load import load
from src.runs import trust
from src.training.build import build_data, build_network
from tests.training.test_resume import ctrl_c

Launch = Callable[..., Any]

EMA = ("+callbacks.ema._target_=lightning.pytorch.callbacks.EMAWeightAveraging", "+callbacks.ema.decay=0.9")


@pytest.fixture(autouse=True)
def what_the_tests_name_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a file of conf/ named it."""
    more = {
        "lightning.pytorch.callbacks.EMAWeightAveraging",
        "lightning.pytorch.callbacks.WeightAveraging",
        "lightning.pytorch.loggers.CSVLogger",
        "torch.optim.AdamW",
        "torchvision.models.mobilenet_v3_small",
        *(f"{__name__}.{name}" for name in ("StopsWithinAnEpoch", "SwapsOnlyToValidate", "ChangesAfterValidation")),
    }
    known = trust.known_targets
    monkeypatch.setattr(trust, "known_targets", lambda group: known(group) | more)


class StopsWithinAnEpoch(L.Callback):
    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == 6


class SwapsOnlyToValidate(L.Callback):
    """Validates and tests other weights than it leaves in the checkpoint, as hand-written averages do."""

    def _swap(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for parameter in pl_module.network.parameters():
            parameter.data.neg_()

    on_validation_start = on_validation_end = on_test_start = on_test_epoch_end = _swap


class ChangesAfterValidation(L.Callback):
    """Prunes at the end of an epoch."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.network.fc.weight.data[:, ::2] = 0


def validate(run: Any) -> dict[str, float]:
    """Loss and accuracy of best.ckpt on the validation images, computed anew."""
    trained = load(run.folder)
    data = build_data(trained.config)
    images, labels, _ = data.val.__getitems__(range(len(data.val)))
    with torch.inference_mode():
        logits = trained.network(trained.preprocess(images))
    return {
        "val/loss": nn.functional.cross_entropy(logits, labels).item(),
        "val/accuracy": (logits.argmax(1) == labels).double().mean().item(),
    }


def assert_one_network(run: Any, evaluate: Launch) -> None:
    """What was validated and what was tested is what best.ckpt holds."""
    assert run.code == 0, run.err
    recorded = run.results["metrics"]
    assert {name: recorded[name] for name in ("val/loss", "val/accuracy")} == pytest.approx(validate(run), abs=1e-5)
    tested = evaluate(f"ckpt={run.folder}", "trainer=cpu")
    assert tested.code == 0, tested.err
    metrics = json.loads((tested.folder / "eval.json").read_text())["metrics"]
    assert metrics == {name: recorded[name] for name in ("test/loss", "test/accuracy")}


# ------------------------------------------------------------------------------------------------------------
# The validation score is that of the checkpoint
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        "val_check_interval=0.7", "val_check_interval=3", "val_check_interval=1", "val_check_interval=00:00:00:01",
        "check_val_every_n_epoch=2", "max_steps=6", "val_check_interval=0.5",
    ],
)  # fmt: skip
def test_a_setting_that_could_validate_other_weights_is_refused(train: Launch, setting: str) -> None:
    run = train(f"+trainer.{setting}")
    assert run.code == 1 and not run.rows
    assert f"trainer.{setting.split('=')[0]} is " in run.err and run.err.count("\n") == 1


@pytest.mark.parametrize(
    "settings",
    [
        ("trainer.num_sanity_val_steps=2",),
        pytest.param(("+trainer.reload_dataloaders_every_n_epochs=1",), marks=pytest.mark.slow),
        ("trainer.limit_train_batches=3", "+trainer.val_check_interval=1.0"),
        pytest.param(("trainer.limit_train_batches=0.5", "+trainer.check_val_every_n_epoch=1"), marks=pytest.mark.slow),
        pytest.param(("trainer.accumulate_grad_batches=3",), marks=pytest.mark.slow),
        ("+callbacks.stops._target_=" + __name__ + ".StopsWithinAnEpoch",),
        pytest.param(("+trainer.min_epochs=2",), marks=pytest.mark.slow),
        pytest.param(("+trainer.inference_mode=false", "+trainer.detect_anomaly=true"), marks=pytest.mark.slow),
        ("+trainer.overfit_batches=2", "trainer.limit_val_batches=1.0"),
    ],
)
def test_every_other_setting_validates_what_is_saved(
    train: Launch, evaluate: Launch, settings: tuple[str, ...]
) -> None:
    assert_one_network(train(*settings), evaluate)


# ------------------------------------------------------------------------------------------------------------
# Callbacks that swap weights: one network is validated, saved, tested and evaluated
# ------------------------------------------------------------------------------------------------------------

SWAPS = {
    "ema": EMA,
    "ema of epochs": (*EMA, "+callbacks.ema.update_every_n_steps=0", "+callbacks.ema.update_starting_at_epoch=0"),
    "ema of parameters only": (*EMA, "+callbacks.ema.use_buffers=false"),
    "mean": ("+callbacks.mean._target_=lightning.pytorch.callbacks.WeightAveraging",),
    "swaps": (f"+callbacks.swaps._target_={__name__}.SwapsOnlyToValidate",),
    "prunes": (f"+callbacks.prunes._target_={__name__}.ChangesAfterValidation",),
}  # fmt: skip
HARDEST = ("ema of epochs", "swaps")


@pytest.mark.parametrize(
    "callback", [*HARDEST, *(pytest.param(name, marks=pytest.mark.slow) for name in SWAPS if name not in HARDEST)]
)
def test_a_callback_that_swaps_weights(train: Launch, evaluate: Launch, resume: Launch, callback: str) -> None:
    arguments = (*SWAPS[callback], "data.batch_size=30", "model.norm=batch", "logger=none")
    run = train(*arguments)
    assert_one_network(run, evaluate)
    if callback not in HARDEST:
        return
    with ctrl_c("training_step", 9):  # within the second epoch
        stopped = train(*arguments)
    assert stopped.code == 130
    again = resume(stopped.folder)
    assert again.code == 0, again.err
    assert again.trained() == run.trained() and again.results["metrics"] == run.results["metrics"]


def test_an_average_that_comes_after_the_last_validation_is_refused(train: Launch) -> None:
    swa = "+callbacks.swa._target_=lightning.pytorch.callbacks.StochasticWeightAveraging"
    run = train(swa, "+callbacks.swa.swa_lrs=0.01")
    assert run.code == 1 and not run.rows
    assert "use lightning.pytorch.callbacks.WeightAveraging" in run.err and run.err.count("\n") == 1


# ------------------------------------------------------------------------------------------------------------
# Gradient accumulation
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "accumulated"),
    [(20, 3), (30, 2), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((25, 2), (10, 6)))],
)
def test_accumulated_gradients_are_those_of_one_large_batch(
    launch_in: Launch, batch_size: int, accumulated: int
) -> None:
    """200 images: the last step has fewer batches, or a smaller one, or both."""
    runs = [
        launch_in(
            f"data.batch_size={size}",
            f"trainer.accumulate_grad_batches={count}",
            "optim.lr=0.01",
            "aug=none",
            "logger=none",
        )
        for size, count in ((batch_size * accumulated, 1), (batch_size, accumulated))
    ]
    large, small = (run.checkpoint()["state_dict"] for run in runs)
    assert runs[0].results["steps"] == runs[1].results["steps"]
    for name, weight in large.items():
        if name.startswith("network."):
            assert torch.allclose(small[name], weight, rtol=0, atol=1e-6), name


def test_more_batches_a_step_than_an_epoch_has_are_refused(train: Launch) -> None:
    run = train("trainer.accumulate_grad_batches=5")
    assert run.code == 1 and not run.rows
    assert run.err == "trainer.accumulate_grad_batches is 5, but an epoch has only 4 batches; lower it.\n"


# ------------------------------------------------------------------------------------------------------------
# Warm-up
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_warm_up_counts_epochs_however_the_run_is_ended(train: Launch, accumulated: int) -> None:
    run = train(
        "+trainer.max_steps=9", "trainer.max_epochs=20", "data.val_size=0", "schedule=constant", "optim.lr=0.01",
        f"trainer.accumulate_grad_batches={accumulated}", "schedule.warmup_epochs=2", "trainer.log_every_n_steps=1",
        "logger=tensorboard",
    )  # fmt: skip
    assert run.code == 0 and run.results["steps"] == 9
    rates = [event.value for event in run.events.Scalars("optimisation/learning_rate")]
    warmup = 2 * math.ceil(4 / accumulated)
    expected = [0.01 * min(1, (step + 1) / warmup) for step in range(9)]
    assert sorted(set(rates)) == pytest.approx(sorted(set(expected)), rel=1e-4)


def test_a_warm_up_that_is_longer_than_the_run_is_reported(train: Launch) -> None:
    run = train("schedule.warmup_epochs=3")
    assert "is longer than the run (2 epochs): the learning rate never reaches optim.lr" in " ".join(run.log.split())
    assert "warm-up" not in train("schedule.warmup_epochs=2").log


def test_an_average_that_stays_near_the_initial_weights_is_reported(train: Launch) -> None:
    told = " ".join(train("average=ema").log.split())  # of 8 steps
    assert "average.decay=0.999 is too high for a run of 8 steps: 99 % of the averaged weights" in told
    assert "A decay of 0.5623 leaves 1 %" in told
    assert "too high" not in train("average=ema", "average.decay=0.5").log


# ------------------------------------------------------------------------------------------------------------
# Precision
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optim",
    [
        ("optim=sgd",),
        pytest.param(("optim=adam",), marks=pytest.mark.slow),
        pytest.param(("optim=adamw", "+optim.fused=true"), marks=pytest.mark.slow),
        ("optim=adam", "optim.algorithm=NAdam"),  # which torch has not fused
        ("optim=custom", "optim._target_=torch.optim.AdamW", "+optim.lr=0.01", "+optim.fused=true"),
    ],
)
def test_gradients_are_clipped_in_mixed_precision(train: Launch, optim: tuple[str, ...]) -> None:
    run = train("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=1", *optim, "optim.lr=0.01")
    assert run.code == 0, run.err


def own_fused(module: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr, fused=True)


def test_a_function_that_makes_a_fused_optimiser_gets_a_sentence(train: Launch) -> None:
    own = ("optim=custom", f"optim._target_={__name__}.own_fused", "+optim._partial_=true", "+optim.lr=0.01")
    run = train("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=1", *own)
    assert run.code == 1 and run.err.count("\n") == 1
    assert run.err.startswith("optim makes a fused optimiser, whose gradients cannot be clipped in mixed precision")


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param("bf16-mixed", marks=pytest.mark.slow),
        pytest.param("64-true", marks=pytest.mark.slow),
        pytest.param("bf16-true", marks=pytest.mark.slow),
        pytest.param("16-true", marks=pytest.mark.slow),
    ],
)
def test_every_precision_trains_and_its_checkpoint_is_used(
    train: Launch, evaluate: Launch, resume: Launch, precision: str
) -> None:
    arguments = (f"trainer.precision={precision}", "optim.lr=0.01", "model.norm=batch", "callbacks=signals")
    run = train(*arguments)
    assert run.code == 0, run.err
    assert "No graph saved" not in run.out + run.err
    assert run.results["metrics"]["train/loss"] < math.log(10)
    tested = evaluate(f"ckpt={run.folder}", "trainer=cpu")
    assert tested.code == 0, tested.err
    metrics = json.loads((tested.folder / "eval.json").read_text())["metrics"]
    assert metrics == pytest.approx({name: run.results["metrics"][name] for name in metrics}, rel=1e-6)
    with ctrl_c("training_step", 5):
        stopped = train(*arguments)
    assert resume(stopped.folder).trained() == run.trained()


def test_a_precision_that_the_cpu_does_not_have_is_refused(train: Launch) -> None:
    run = train("trainer.precision=16-mixed")
    assert run.code == 1 and not run.rows
    assert run.err == "trainer.precision is 16-mixed, which needs a GPU; use bf16-mixed on the CPU.\n"


# ------------------------------------------------------------------------------------------------------------
# Components of one's own
# ------------------------------------------------------------------------------------------------------------


def test_an_optimiser_class_is_given_the_parameters(train: Launch, tmp_path: Path, evaluate: Launch) -> None:
    keys = ("algorithm", "decay_norm_and_bias")
    own = ("optim=adamw", "optim._target_=torch.optim.AdamW", *(f"~optim.{key}" for key in keys))
    run, ours = train(*own), train("optim=adamw", "+optim.foreach=true", "+optim.fused=false")
    assert run.code == 0, run.err
    assert run.results["metrics"] == pytest.approx(ours.results["metrics"], rel=1e-5)
    assert run.checkpoint()["optimizer_states"][0]["param_groups"][0]["betas"] in ([0.9, 0.999], (0.9, 0.999))
    assert_one_network(run, evaluate)


def test_a_backbone_that_does_not_know_the_size_of_images(train: Launch, evaluate: Launch) -> None:
    own = "model._target_=torchvision.models.mobilenet_v3_small"
    keys = [f"~model.{key}" for key in ("skip", "norm", "init")]
    run = train(own, *keys, "data.image_size=32", "logger=none", "callbacks=none", "trainer.max_epochs=1")
    assert run.code == 0, run.err
    assert_one_network(run, evaluate)


def test_the_size_of_images_is_passed_to_who_names_it() -> None:
    for name in ("simplecnn", "resnet10"):
        with initialize_config_dir(str(trust.CONF), version_base="1.3"):
            model = compose(f"model/{name}").model
        assert build_network(model, 3, 8)(torch.zeros(2, 3, 8, 8)).shape == (2, 3)


def test_two_loggers(train: Launch) -> None:
    run = train("logger=none", "+logger.board._target_=src.training.tensorboard.TensorBoard",
                "+logger.csv._target_=lightning.pytorch.loggers.CSVLogger", "+logger.csv.name=csv")  # fmt: skip
    assert run.code == 0, run.err
    assert run.events.Scalars("loss/train") and list(run.folder.glob("csv/*/metrics.csv"))


def test_a_source_that_delivers_no_images_as_we_take_them(train: Launch) -> None:
    run = train("data.source._target_=torchvision.datasets.FakeData", "~data.source.image_size")
    assert run.code == 1
    assert run.err.startswith("data.source is a FakeData, which has no") and run.err.count("\n") == 1


# ------------------------------------------------------------------------------------------------------------
# What a run sets itself
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    ["strategy=nonsense", "callbacks=[]", "logger=true", "plugins=[]", "default_root_dir=elsewhere",
     "enable_progress_bar=false", "use_distributed_sampler=true"],
)  # fmt: skip
def test_what_a_run_sets_itself_is_refused(train: Launch, setting: str) -> None:
    run = train(f"+trainer.{setting}")
    assert run.code == 1 and not run.rows
    assert run.err.startswith(f"trainer.{setting.split('=')[0]} cannot be chosen") and run.err.count("\n") == 1
