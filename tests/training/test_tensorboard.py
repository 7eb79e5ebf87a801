"""What TensorBoard finds in a run's events."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn

from src.runs import identity
from src.training.classifier import Classifier
from tests.conftest import WATCHED, Run

Launch = Callable[..., Any]

GROUPED = {
    "accuracy/train": "train/accuracy",
    "accuracy/val": "val/accuracy",
    "loss/train": "train/loss",
    "loss/val": "val/loss",
}


def curves(events: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    """Every curve that does not tell the time."""
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def test_training_and_validation_lie_in_one_group(finished: Any) -> None:
    events, rows = finished.events, finished.rows
    assert set(events.Tags()["scalars"]) == {
        *GROUPED,
        *("loss/train_batch", "loss/test", "accuracy/test", "optimisation/learning_rate", "speed/images_per_second"),
    }
    for tag, name in GROUPED.items():
        assert [event.value for event in events.Scalars(tag)] == pytest.approx([float(row[name]) for row in rows])
        assert [event.step for event in events.Scalars(tag)] == [int(row["step"]) - 1 for row in rows]
    assert all(event.value > 0 for event in events.Scalars("speed/images_per_second"))


def test_the_learning_rate_is_that_of_every_step(finished: Any) -> None:
    rates = [event.value for event in finished.events.Scalars("optimisation/learning_rate")]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    expected = []
    for _ in range(12):
        expected.append(cosine.get_last_lr()[0])
        optimizer.step(), cosine.step()
    assert rates == pytest.approx(expected)


def test_augmented_images_and_the_graph_are_there(finished: Any) -> None:
    events = finished.events
    (image,) = events.Images("data/augmented_images")
    assert (image.width - 2) // (8 + 2) * ((image.height - 2) // (8 + 2)) == 64
    assert events.Tags()["graph"]
    names = {node.name for node in events.Graph().node}
    assert any("conv1" in name for name in names) and any("fc" in name for name in names)


def test_every_curve_and_image_explains_itself(finished: Any) -> None:
    events = finished.events
    for tag in events.Tags()["scalars"] + events.Tags()["images"]:
        assert events.SummaryMetadata(tag).summary_description.endswith(".")


def test_one_chart_lays_training_beside_validation(finished: Any) -> None:
    (layout,) = finished.events.Tensors("custom_scalars__config__")
    charts = {
        (category.title, chart.title): list(chart.multiline.tag)
        for category in Layout.FromString(layout.tensor_proto.string_val[0]).category
        for chart in category.chart
    }
    assert charts["training and validation", "loss"] == ["^loss/(train|val)$"]
    assert charts["training and validation", "accuracy"] == ["^accuracy/(train|val)$"]


def hparams(run: Any, tag: str) -> HParamsPluginData:
    return HParamsPluginData.FromString(run.events.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content)


def test_hparams_are_what_counts_and_the_final_metrics(finished: Any) -> None:
    levels = identity.levels(identity.run_of(finished.results))
    entered = hparams(finished, "session_start_info").session_start_info.hparams
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in entered.items()}
    assert values == {
        name: value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        for name, value in levels.items()
        if value is not None
    }
    assert values["lr"] == 0.02 and values["skip"] == "False"
    experiment = hparams(finished, "experiment").experiment
    assert [info.name for info in experiment.hparam_infos] == list(levels)
    assert {metric.name.tag for metric in experiment.metric_infos} == {"accuracy/test", "loss/test", "accuracy/val"}
    for quantity in ("accuracy", "loss"):
        (event,) = finished.events.Scalars(f"{quantity}/test")
        assert event.value == pytest.approx(finished.results["metrics"][f"test/{quantity}"])


def test_hparams_show_first_what_a_sweep_varies(train: Launch) -> None:
    run = train(*WATCHED, "hydra.run.dir='logs/train/runs/model.norm=none,optim=sgd'", "trainer.max_epochs=1")
    assert run.folder.name == "model.norm=none,optim=sgd"
    assert {info.name for info in hparams(run, "experiment").experiment.hparam_infos if info.differs} == {
        "norm",
        "optim",
    }


def test_of_a_sweep_that_is_what_its_jobs_differ_in(launch_in: Launch) -> None:
    grid = ("schedule=step", "schedule.milestones=[0.5],[0.3,0.6]", "seed=1,2", "sweep=lists", "trainer.max_epochs=1")
    sweep = launch_in("--multirun", *WATCHED, *grid).folder / "logs/train/sweeps/lists"
    for folder in sweep.glob("*seed=*"):
        run = Run(0, "", "", folder)
        infos = hparams(run, "experiment").experiment.hparam_infos
        assert {info.name for info in infos if info.differs} == {"milestones", "seed"}
        entered = hparams(run, "session_start_info").session_start_info.hparams
        assert entered["milestones"].string_value == str(run.results["config"]["schedule"]["milestones"])


EVERY_STEP = (*WATCHED, "trainer.log_every_n_steps=1", "callbacks=signals", "callbacks.signals.every_n_steps=2")


@pytest.fixture(scope="module")
def uninterrupted(launch_in: Launch) -> Any:
    return launch_in(*EVERY_STEP)


@pytest.mark.slow
@pytest.mark.parametrize("stopped_in", [0, 1], ids=["first epoch", "second epoch"])
def test_a_run_that_goes_on_has_one_value_a_step(
    uninterrupted: Any, launch_in: Launch, resume: Launch, monkeypatch: pytest.MonkeyPatch, stopped_in: int
) -> None:
    def fail_late(module: Classifier, *_: Any) -> None:  # two steps after the last checkpoint, all written down
        if module.trainer.global_step == 4 * stopped_in + 2:
            raise OSError("The machine is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "on_train_batch_start", fail_late)
        stopped = launch_in(*EVERY_STEP)
    assert stopped.code == 1 and len(stopped.events.Scalars("loss/train_batch")) == 4 * stopped_in + 2
    run = resume(stopped.folder)
    assert curves(run.events) == curves(uninterrupted.events)
    for tag in ("data/augmented_images", "signal/signals"):
        assert len(run.events.Images(tag)) == 1


def test_a_run_given_more_epochs_shows_only_its_last_test(copy_of_finished: Any, resume: Launch) -> None:
    run = resume(copy_of_finished.folder, "trainer.max_epochs=4")
    assert [event.step for event in run.events.Scalars("accuracy/test")] == [16]


def test_lightnings_own_logger_keeps_the_names_of_metrics_csv(train: Launch) -> None:
    run = train("logger=tensorboard_plain", "trainer.max_epochs=1")
    assert run.code == 0, run.err
    assert {"train/loss", "val/loss", "test/loss"} <= set(
        EventAccumulator(str(run.folder / "tensorboard")).Reload().Tags()["scalars"]
    )
