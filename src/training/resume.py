"""Resuming a run: its recorded configuration, with the allowed changes."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from src.runs.checkpoints import load_checkpoint
from src.runs.folder import RunFolder
from src.runs.identity import is_neutral
from src.runs.trust import trusted
from src.training.build import change_data, check_trainer

_LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")


def resumed_config(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration of the run in folder ``cfg.resume``, with the allowed overrides applied.

    Args:
        cfg: the configuration of the resuming command.
        overrides: the overrides of that command. Besides ``resume``, ``trust`` and ``debug``, they may set the run's
            length, neutral keys of ``trainer`` (see ``src.runs.identity``), and ``data.root``.

    Raises:
        FileNotFoundError: the folder contains no run.
        ValueError: an override would make it another run, there is nothing left to do, the checkpoints of a completed
            run are damaged, or ``trusted`` refuses the configuration, which may come from a third party.
    """
    folder = RunFolder(Path(cfg.resume))
    results = folder.results()
    if "config" not in results:
        raise ValueError(f"{folder.path} stopped before it recorded its configuration; start it again.")
    resumed = trusted(results["config"], trust=cfg.trust)
    epochs, ended = resumed.trainer.max_epochs, results.get("ended", "max_epochs")
    given = OverridesParser.create().parse_overrides(list(overrides))
    changes = [change for change in given if change.key_or_group not in ("resume", "trust", "debug")]
    for change in changes:
        key = change.key_or_group
        if key == "data.root":
            change_data(resumed, {"root": change.value()})
            continue
        if not (key.startswith("trainer.") and (is_neutral(key) or key in _LENGTH)):
            raise ValueError(
                f"A resumed run goes on as it was configured, but {change.input_line} was given: only the run's length "
                f"({', '.join(_LENGTH)}), the device (trainer.accelerator, trainer.devices), what is shown and "
                "data.root may change; for anything else, start a new run."
            )
        OmegaConf.update(resumed, key, change.value())
    check_trainer(resumed)
    longer = resumed.trainer.max_epochs > epochs or f"trainer.{ended}" in {change.key_or_group for change in changes}
    if results["status"] == "completed" and (not longer or resumed.trainer.max_epochs <= results["epochs"]):
        last = "its last" if results["epochs"] == epochs else f"where {ended} ended it before epoch {epochs}"
        more = "a longer +trainer.max_time" if ended == "max_time" else f"trainer.max_epochs={2 * epochs}"
        raise ValueError(
            f"{folder.path} has completed epoch {results['epochs']}, {last}; to train it longer, add {more}."
        )
    if results["status"] == "completed":  # raises if damaged, instead of training from the start
        load_checkpoint(folder.last), load_checkpoint(folder.best)
    resumed.resume, resumed.debug = cfg.resume, cfg.debug
    return resumed
