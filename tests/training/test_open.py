"""Parts of the user's own, without touching our code: the recipes of conf/README.md."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import src.eval
import src.train
from tests.conftest import TINY, Run, launch

PARTS = """
import lightning as L
import torch
from torch import nn


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
