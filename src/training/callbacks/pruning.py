"""Pruning: give up a trial of a search (``src.sweeps.search``) that does worse than others did by the same epoch."""

from typing import TYPE_CHECKING

import lightning as L

from src.runs.folder import signed
from src.training.callbacks.history import History

if TYPE_CHECKING:
    from optuna import Trial


class Pruned(Exception):
    """The trial was given up.

    Args:
        epoch: how many epochs it has finished.
        epochs: how many it would have had.
    """

    def __init__(self, epoch: int, epochs: int | None) -> None:
        super().__init__(epoch, epochs)  # pickle builds it again from these, in another process
        self.epoch, self.epochs = epoch, epochs

    def __str__(self) -> str:
        return f"pruned at epoch {self.epoch} of {self.epochs}"


class Pruning(L.Callback):
    """Report the score of every epoch but the last to Optuna, and raise ``Pruned`` if its pruner says so.

    It asks at the start of the next epoch, when the checkpoint of the last one is saved: a trial that was killed in
    between asks again once it is resumed.

    Args:
        trial: None in processes that do not record.
        history: has the metrics of the epochs.
        score: the setting ``score``.
    """

    def __init__(self, trial: "Trial | None", history: History, score: str) -> None:
        self.trial, self.history, self.score = trial, history, score

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.history.rows and trainer.strategy.broadcast(self._is_hopeless()):  # type: ignore[arg-type]
            raise Pruned(len(self.history.rows), trainer.max_epochs)

    def _is_hopeless(self) -> bool:
        if self.trial is None:
            return False
        row, known = self.history.rows[-1], self.trial.study.trials[self.trial.number].intermediate_values
        value = signed(row, self.score)
        assert value is not None  # see ``check_score``
        if row["epoch"] not in known:  # a resumed trial has reported it before
            self.trial.report(value, int(row["epoch"]))
        return self.trial.should_prune()
