"""Parts of the user's own, without touching our code: the recipes of conf/README.md."""

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import src.eval
import src.train
from src.runs.folder import RunFolder
from tests.conftest import TINY, WATCHED, Run, launch

PARTS = """
from collections import deque

import lightning as L
import numpy as np
import torch
from torch import nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from src.augment.transform import Transform

from src.data.digits import Digits
from src.data.image_set import ImageSet, LabelledImages
from src.training.schedules import Schedule


class Net(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.body = nn.Conv2d(3, width, 3)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.body(images).relu().mean((2, 3)))


class Focal(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, labels):
        likelihood = logits.log_softmax(1).gather(1, labels[:, None])
        return -((1 - likelihood.exp()) ** self.gamma * likelihood).mean()


class Attention(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)
        self.head = nn.Linear(32, num_classes)

    def forward(self, images):
        return self.head(self.encoder(self.patches(images).flatten(2).transpose(1, 2)).mean(1))


class LayerDrop(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(4))
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        x = self.stem(images)
        for block in self.blocks:
            if not self.training or torch.rand(()) < 0.5:
                x = x + block(x)
        return self.head(x.mean((2, 3)))


class Branches(nn.Module):  # cannot be traced
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(192, num_classes)

    def forward(self, images):
        if torch.jit.is_tracing():
            raise RuntimeError("no" * 1000)
        return self.head(images.flatten(1))


class Heads(Net):
    def forward(self, images):
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


class Poly(Schedule):
    def curve(self, step, steps):
        return (1 - step / steps) ** 2


class Sine(Schedule):
    def curve(self, step, steps):
        return np.cos(step / steps)


class Counting(torch.optim.SGD):
    def __init__(self, parameters, first):
        super().__init__(parameters, lr=0.1)
        self.first = first

    def step(self, closure=None):
        self.param_groups[0]["seen"] = np.int64(1)
        return super().step(closure)

    def state_dict(self):
        return super().state_dict() | ({"first": np.int64(1)} if self.first else {})


def counting(module, first=True, **_):
    return Counting(module.parameters(), first)


class Stateful(Focal):
    def get_extra_state(self):
        return {"losses": deque([1.0])}

    def set_extra_state(self, state):
        pass


class Half(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.register_buffer("table", torch.zeros(4, dtype=torch.float16))


class Extra(Net):
    def get_extra_state(self):
        return {"seen": 1}

    def set_extra_state(self, state):
        pass


class Above(MulticlassAccuracy):
    def compute(self):
        return super().compute() > 0.2


class Dark(Transform):
    def augment(self, images, u):
        return images.float() / 255


class Small(Transform):
    def augment(self, images, u):
        return images[..., :4, :4]


class Nothing(Transform):
    def augment(self, images, u):
        pass


class Pair(Digits):
    def load(self):
        return super().load().train, super().load().test


class Odd(Digits):
    def __init__(self, kind, **settings):
        super().__init__(**settings)
        self.kind = kind

    def load(self):
        found = super().load()
        images, labels, classes = found.test.images, found.test.labels, found.classes
        if self.kind == "negative":
            labels = labels - 1
        if self.kind == "fewer":
            labels = labels[:-1]
        if self.kind == "none":
            images, labels = images[:0], labels[:0]
        if self.kind == "float":
            images = images / 255
        if self.kind == "small":
            images = images[..., :6, :6]
        if self.kind == "numpy":
            images = images.numpy()
        if self.kind == "int32":
            labels = labels.int()
        if self.kind == "twice":
            classes = ("a", "a", *classes[2:])
        test = ImageSet(images, labels, positions=torch.arange(len(images)))
        return LabelledImages(found.train, test, classes)


class Named(Digits):
    def load(self):
        images = super().load()
        return LabelledImages(images.train, images.test, tuple(np.array(images.classes)))


class Recent(L.Callback):
    only_watches = True

    def state_dict(self):
        return {"losses": deque([1.0])}


class Late(Metric):
    higher_is_better = True

    def __init__(self, num_classes):
        super().__init__()
        self.add_state("epochs", torch.zeros(()), dist_reduce_fx="max")

    def update(self, probabilities, labels):
        pass

    def compute(self):
        Late.computed += 1
        return torch.tensor(float("nan") if Late.computed == 1 else 1.0 / Late.computed)

    computed = 0


class Watch(L.Callback):
    only_watches = True
    seen = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(pl_module.loss.gamma)
"""
OWN = ("model=custom", "model._target_=my_parts.Net", "+model.width=4", "optim=custom",
       "optim._target_=torch.optim.RMSprop", "+optim.lr=1e-3", "+callbacks.mine._target_=my_parts.Watch",
       "+metrics.auc._target_=torchmetrics.classification.MulticlassAUROC", "score=val/auc", "logger=none")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_parts.py").write_text(PARTS)
    (folder / "mine" / "loss").mkdir(parents=True)
    (folder / "mine" / "loss" / "focal.yaml").write_text("_target_: my_parts.Focal\ngamma: 3.0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop("my_parts", None)


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    tiny = [override for override in TINY if override != "model=simplecnn"]
    return launch(src.train.main, folder, "--config-dir", str(folder / "mine"), *tiny, *OWN, "loss=focal")


def test_a_model_loss_optimiser_callback_and_metric_of_ones_own(run: Run) -> None:
    assert run.code == 0, run.err
    assert sys.modules["my_parts"].Watch.seen == [3.0, 3.0]
    assert 0 < run.results["metrics"]["val/auc"] <= 1 and "test/auc" in run.results["metrics"]
    assert run.results["settings"]["model.width"] == 4 and run.results["settings"]["loss.gamma"] == 3
    assert not any(key.startswith("callbacks.mine") for key in run.results["settings"])


def test_what_a_checkpoint_may_build_is_allowed_by_name(folder: Path, run: Run) -> None:
    refused = launch(src.eval.main, folder, f"ckpt={run.folder}", "trainer=cpu")
    assert refused.code == 1 and "my_parts.Net" in refused.err and "trust=[...]" in refused.err
    allowed = launch(src.eval.main, folder, f"ckpt={run.folder}", "trainer=cpu", "trust=[my_parts.Net]")
    assert allowed.code == 0, allowed.err


def test_a_run_of_ones_own_parts_is_trained_longer(folder: Path, run: Run, resume: Callable[..., Any]) -> None:
    parts = "my_parts.Net,my_parts.Focal,my_parts.Watch,torch.optim.RMSprop,torchmetrics.classification.MulticlassAUROC"
    longer = resume(run.folder, "trainer.max_epochs=3", f"trust=[{parts}]")
    assert longer.code == 0, longer.err
    assert longer.results["epochs"] == 3


WRONG = {
    "optim._target_=torch.optim.SDG": "optim._target_ is torch.optim.SDG: torch.optim has no SDG; did you mean SGD",
    "model._target_=src.models.resnt.resnet10": "src.models has no resnt; did you mean resnet?",
    "loss._target_=troch.nn.MSELoss": "loss._target_ is troch.nn.MSELoss: Python has no troch; did you mean torch",
    "+callbacks.mine._target_=lightning.pytorch.callbacks": "callbacks.mine._target_ is lightning.pytorch.callbacks: ",
    "loss=custom": "loss._target_ has no value: set it, as in loss._target_=VALUE.",
}


@pytest.mark.parametrize(("override", "sentence"), WRONG.items())
def test_a_mistake_in_a_target_is_told_before_the_images_are_read(
    override: str, sentence: str, train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.training.run.build_data", lambda cfg: pytest.fail("the images are read"))
    run = train(override)
    assert run.code == 1 and sentence in run.err and run.err.count("\n") == 1


def test_a_mistake_in_a_target_is_told_once_for_all_jobs(train: Callable[..., Run], tmp_path: Path) -> None:
    run = train("optim=custom", "optim._target_=torch.optim.SGD,torch.optim.SDG", "+optim.lr=0.1,0.2", "--multirun")
    assert run.code == 1 and run.err.count("torch.optim has no SDG") == 1
    assert not list(tmp_path.glob("logs/train/sweeps/*/*/results.json"))


def test_what_torch_says_of_a_layer_is_told_with_the_settings(
    tmp_path: Path, train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grouped.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes, width=1):\n    return nn.GroupNorm(8, int(16 * width))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = train("model=custom", "model._target_=grouped.net", "+model.width=0.25")
    assert run.code == 1 and run.err.count("\n") == 1
    assert run.err.startswith("grouped.net cannot be built with model.width=0.25: ") and "num_channels" in run.err


def own(folder: Path, model: str, *more: str) -> Run:
    tiny = [override for override in TINY if override != "model=simplecnn"]
    return launch(src.train.main, folder, *tiny, "model=custom", f"model._target_=my_parts.{model}", *more)


def test_attention_is_counted_and_drawn(folder: Path) -> None:
    run = own(folder, "Attention", *WATCHED)
    assert run.code == 0, run.err
    # Four patches an image; a layer has query, key and value, scores, their sums, an output, and two linear layers.
    layer = 4 * 32 * 96 + 4 * 4 * 32 + 4 * 4 * 32 + 4 * 32 * 32 + 2 * 4 * 32 * 64
    assert run.results["flops_per_image"] == 2 * (4 * 48 * 32 + 2 * layer + 32 * 10)
    assert run.events.Tags()["graph"] and "no graph" not in run.log


def test_a_network_that_cannot_be_drawn_is_trained(folder: Path) -> None:
    run = own(folder, "Branches", *WATCHED)
    assert run.code == 0, run.err
    (line,) = (line for line in run.log.splitlines() if "TensorBoard will show no graph of the network" in line)
    assert len(line) < 700


def test_layers_may_be_left_out_of_a_step(folder: Path) -> None:
    run = own(folder, "LayerDrop", "callbacks=signals", "callbacks.signals.every_n_steps=1")
    assert run.code == 0, run.err


def test_a_state_that_cannot_be_read_back_is_told_before_training(folder: Path) -> None:
    run = own(folder, "Net", "+callbacks.mine._target_=my_parts.Recent")
    assert run.code == 1 and not run.rows
    assert run.err.startswith("The state of the callback Recent cannot be read back from a checkpoint: its state_dict")


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("optimiser Counting", ("optim=custom", "optim._target_=my_parts.counting")),
        ("loss or a metric", ("loss=custom", "loss._target_=my_parts.Stateful")),
    ],
)
def test_so_is_that_of_an_optimiser_or_a_module(folder: Path, kind: str, part: tuple[str, ...]) -> None:
    run = own(folder, "Net", *part)
    assert run.code == 1 and not run.rows
    assert run.err.startswith(f"The state of the {kind} cannot be read back from a checkpoint: ")


def test_a_state_that_changes_its_kind_is_told_when_it_is_saved(folder: Path) -> None:
    run = own(folder, "Net", "optim=custom", "optim._target_=my_parts.counting", "+optim.first=false")
    assert run.code == 1 and len(run.rows) == 1 and "cannot be read back from a checkpoint" in run.err
    assert not list((run.folder / "checkpoints").iterdir())


def test_a_schedule_may_return_a_number_of_numpys(folder: Path) -> None:
    run = own(folder, "Net", "schedule._target_=my_parts.Sine", "~schedule.final")
    assert run.code == 0, run.err


def test_a_score_that_is_no_number_is_the_worst(folder: Path) -> None:
    run = own(folder, "Net", "+metrics.late._target_=my_parts.Late", "score=val/late")
    assert run.code == 0, run.err
    assert math.isnan(float(run.rows[0]["val/late"])) and run.results["best_epoch"] == 2
    assert run.checkpoint("best")["epoch"] == 1


def test_a_metric_may_be_logged_by_any_name(folder: Path) -> None:
    monitor = "lightning.pytorch.callbacks.LearningRateMonitor"
    rate = (f"+callbacks.rate._target_={monitor}", "+callbacks.rate.logging_interval=epoch")
    run = own(folder, "Net", "logger=csv", *rate)
    assert run.code == 0, run.err
    assert "lr-SGD" in run.rows[0]
    assert [row["lr-SGD"] for row in RunFolder(run.folder).epochs()] == [float(row["lr-SGD"]) for row in run.rows]


def test_a_loss_for_class_numbers_is_told_before_training_where_labels_are_mixed(folder: Path) -> None:
    run = own(folder, "Net", "--config-dir", str(folder / "mine"), "loss=focal", "aug=mixup")
    assert run.code == 1 and not run.rows
    assert run.err.startswith(
        "The loss my_parts.Focal should take float logits [B, 10] and (this aug mixes labels) float"
    )


def test_a_schedule_need_not_say_what_a_longer_run_does(folder: Path) -> None:
    run = own(folder, "Net", "schedule._target_=my_parts.Poly", "~schedule.final")
    assert run.code == 0, run.err
    assert "schedule Poly over 8 steps: a longer run may follow another curve" in run.log


def test_classes_of_any_kind_are_stored_as_text(folder: Path) -> None:
    run = own(folder, "Net", "data.source._target_=my_parts.Named")
    assert run.code == 0, run.err
    assert run.results["classes"] == [str(number) for number in range(10)] and run.checkpoint("best")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("negative", "The test labels are -1 to 8; expected 0 to 9, as there are 10 classes."),
        ("fewer", "The test half has 359 images and 358 labels; expected a label for each image, and at least one."),
        ("none", "The test half has 0 images and 0 labels; expected a label for each image, and at least one."),
        ("float", "The test images are Tensor torch.float32 "),
        ("small", "The test images are [359, 3, 6, 6]; expected [N, 3, 8, 8] in both halves."),
        ("numpy", "The test images are ndarray uint8 (359, 3, 8, 8); expected a tensor torch.uint8 [N, 3, S, S]."),
        ("int32", "The test labels are Tensor torch.int32 torch.Size([359]); expected a tensor torch.int64 [N]."),
        ("twice", "Several classes are called a; expected another name for each."),
    ],
)
def test_images_of_ones_own_are_checked_before_training(folder: Path, kind: str, words: str) -> None:
    run = own(folder, "Net", "data.source._target_=my_parts.Odd", f"+data.source.kind={kind}")
    assert run.code == 1 and not run.rows and words in run.err and run.err.count("\n") == 1, run.err


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ("Dark", "Dark should turn uint8 [50, 3, 8, 8] into the same, but it returned torch.float32 [50, 3, 8, 8]."),
        ("Nothing", "Nothing should turn uint8 [50, 3, 8, 8] into the same, but it returned NoneType."),
        ("Small", "Small should turn uint8 [50, 3, 8, 8] into the same, but it returned torch.uint8 [50, 3, 4, 4]."),
    ],
)
def test_what_a_transform_returns_is_checked(folder: Path, transform: str, words: str) -> None:

    run = own(folder, "Net", f"aug.transforms=[{{_target_: my_parts.{transform}}}]")
    assert run.code == 1 and words in run.err, run.err


def test_a_source_returns_both_halves_in_one(folder: Path) -> None:
    run = own(folder, "Net", "data.source._target_=my_parts.Pair")
    assert (run.code, run.err) == (1, "data.source returns tuple from load(); expected LabelledImages.\n")


def test_buffers_keep_their_kind_on_resume(folder: Path, resume: Callable[..., Run]) -> None:
    whole = own(folder, "Half", "trainer.max_epochs=3")
    short = own(folder, "Half", "trainer.max_epochs=2", "schedule=constant")
    assert whole.code == short.code == 0
    longer = resume(short.folder, "trainer.max_epochs=3", "trust=[my_parts.Half]")
    assert longer.code == 0, longer.err
    kinds = {name: value.dtype for name, value in whole.checkpoint()["state_dict"].items()}
    assert kinds["network.table"] == torch.float16
    assert {name: value.dtype for name, value in longer.checkpoint()["state_dict"].items()} == kinds


def test_a_network_that_keeps_more_than_tensors_is_told_before_training(folder: Path) -> None:
    run = own(folder, "Extra")
    assert run.code == 1 and not run.rows
    assert (
        run.err == "network._extra_state is no tensor: keep what the network's get_extra_state returns in a buffer.\n"
    )


def test_a_metric_may_be_true_or_false(folder: Path, resume: Callable[..., Run]) -> None:
    run = own(folder, "Net", "+metrics.above._target_=my_parts.Above")
    assert run.code == 0, run.err
    assert run.results["metrics"]["test/above"] in (0.0, 1.0)


def test_grey_images_need_a_model_that_takes_channels(folder: Path) -> None:
    run = own(folder, "Net", "data.channels=1")
    assert run.code == 1 and not run.rows
    assert run.err == "data.channels is 1, but my_parts.Net takes no argument channels: it expects 3.\n"


def test_a_model_with_several_heads_in_training_gets_a_sentence(folder: Path) -> None:
    run = own(folder, "Heads")
    assert run.code == 1 and run.err == "In training the model returns tuple; expected a tensor of logits.\n"
