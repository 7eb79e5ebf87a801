"""best.ckpt and last.ckpt, over epochs whose accuracy is laid down."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src.runs.folder import RunFolder
from src.training.callbacks.checkpoints import CheckpointFiles, Checkpoints
from src.training.callbacks.history import History

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and logging intervals


class Scripted(L.LightningModule):
    """Reaches a given validation accuracy in every epoch; its only weight counts the epochs."""

    def __init__(self, accuracies: Sequence[float]) -> None:
        super().__init__()
        self.accuracies = accuracies
        self.epochs = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor) -> Tensor:
        return -self.epochs

    def validation_step(self, batch: Tensor) -> None:
        self.log("val/accuracy", self.accuracies[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(folder: Path, accuracies: Sequence[float], monitor: str | None = "val/accuracy", resumed: bool = False) -> None:
    """Train for as many epochs as there are accuracies."""
    run = RunFolder(folder)
    files = CheckpointFiles(run)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=len(accuracies),
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[History(run.metrics_file), Checkpoints(files, monitor)],
        plugins=[files],
    )
    batches = DataLoader(torch.zeros(1, 1))
    trainer.fit(Scripted(accuracies), batches, batches, ckpt_path=run.last if resumed else None, weights_only=True)


def epoch_in(file: Path) -> int:
    """How many epochs the weights in a checkpoint have seen."""
    return int(torch.load(file, weights_only=True)["state_dict"]["epochs"])


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [([0.1, 0.3, 0.2], 2), ([0.3, 0.3, 0.3], 1), ([0.1, 0.2, 0.3], 3), ([0.3, 0.2, 0.1], 1), ([0.0], 1)],
)
def test_the_first_epoch_of_highest_accuracy_is_the_best(tmp_path: Path, accuracies: list[float], best: int) -> None:
    fit(tmp_path, accuracies)
    assert epoch_in(tmp_path / "checkpoints" / "best.ckpt") == best
    assert epoch_in(tmp_path / "checkpoints" / "last.ckpt") == len(accuracies)
    assert {file.name for file in tmp_path.rglob("*.*")} == {"best.ckpt", "last.ckpt", "metrics.csv"}


def test_with_nothing_to_choose_by_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    fit(tmp_path, [0.3, 0.2, 0.1], monitor=None)
    assert epoch_in(tmp_path / "checkpoints" / "best.ckpt") == epoch_in(tmp_path / "checkpoints" / "last.ckpt") == 3


@pytest.mark.parametrize(("accuracies", "best"), [([0.1, 0.4, 0.2, 0.3], 2), ([0.1, 0.4, 0.2, 0.5], 4)])
def test_a_resumed_run_remembers_its_best_even_where_the_folder_was_moved(
    tmp_path: Path, accuracies: list[float], best: int
) -> None:
    (tmp_path / "before").mkdir()
    fit(tmp_path / "before", accuracies[:2])
    moved = Path(shutil.move(tmp_path / "before", tmp_path / "moved"))
    fit(moved, accuracies, resumed=True)
    assert epoch_in(moved / "checkpoints" / "best.ckpt") == best and epoch_in(moved / "checkpoints" / "last.ckpt") == 4
    assert not (tmp_path / "before").exists()


def test_a_run_killed_between_the_two_files_repeats_the_epoch(tmp_path: Path) -> None:
    fit(tmp_path, [0.1])
    older = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    fit(tmp_path, [0.1, 0.2], resumed=True)
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(older)  # best.ckpt is of epoch 2, last.ckpt of epoch 1
    fit(tmp_path, [0.1, 0.2, 0.2], resumed=True)
    assert (
        epoch_in(tmp_path / "checkpoints" / "best.ckpt") == 2 and epoch_in(tmp_path / "checkpoints" / "last.ckpt") == 3
    )
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "1", "2", "3"]
