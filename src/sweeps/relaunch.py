"""Relaunching a sweep: what a job does if its folder already contains a run."""

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.data.content_hash import content_of
from src.runs import identity
from src.runs.errors import sentence
from src.runs.escaping import printable
from src.runs.folder import RunFolder, accuracy, score
from src.sweeps.jobs import refusal_file
from src.sweeps.naming import run_id

log = logging.getLogger(__name__)


def resume_or_skip(folder: RunFolder, cfg: DictConfig) -> float | None:
    """Prepare ``folder``, which this process has locked, to run ``cfg``, unless that run is completed.

    A run with the same settings, as far as they affect the result, is resumed from its last checkpoint. A run with
    other settings but neither result nor checkpoint is overwritten.

    Args:
        cfg: its ``on_conflict`` says what to do with a run with other settings. ``error`` refuses; ``rerun`` moves it
            to ``.replaced`` beside the folder; ``keep`` accepts its result.

    Returns:
        The score of a completed run; None if the run must be done.

    Raises:
        ValueError: the folder contains a run with other settings, or ``on_conflict`` is none of the three.
    """
    on_conflict, record = cfg.on_conflict, launch_record(cfg)
    if on_conflict not in ("error", "rerun", "keep"):
        raise ValueError(f"on_conflict is {on_conflict!r}; expected error, rerun or keep.")
    try:
        results = folder.results() if folder.results_file.exists() else {}
    except ValueError as error:
        kept = folder.results_file.replace(folder.results_file.with_name("results.json.damaged"))
        log.warning("%s It is kept as %s; the checkpoints count.", sentence(error), printable(kept))
        results = {}
    completed = results.get("status") == "completed"
    reached = "{} {:.2%}".format(*accuracy(results)) if completed else ""
    trained = completed or folder.last.exists() or folder.previous.exists()
    config = results.get("config") or (_config_of_checkpoint(folder) if trained else None)
    changed = _changed({**results, "config": config}, cfg) if trained and config else {}
    if not changed:
        if completed and ("test/accuracy" in results["metrics"] or not cfg.test):
            print(f"{folder.path.name}: completed before, {reached}")
            return score(results)
        folder.start_record(**(record | (results if trained else {})))
        return None
    diff = "; ".join(f"{key} was {json.dumps(old)} and is now {json.dumps(new)}" for key, (old, new) in changed.items())
    if on_conflict == "rerun":
        aside = _move_aside(folder)
        _record(folder, cfg)
        folder.start_record(**record)
        log.info("%s: the former run, with other settings (%s), is now in %s", folder.path.name, diff, aside)
        return None
    if on_conflict == "keep" and completed:
        print(f"{folder.path.name}: kept, {reached}, with other settings ({diff})")
        return score(results)
    keep = ", on_conflict=keep lets its result stand" if completed else ""
    raise ValueError(
        f"{folder.path} holds a run with other settings: {diff}. Choose another sweep=NAME; "
        f"on_conflict=rerun moves it aside and runs it anew{keep}."
    )


def launch_record(cfg: DictConfig) -> dict[str, Any]:
    """What only Hydra knows about a run: its overrides, and the choices of the groups."""
    hydra_cfg = HydraConfig.get()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    choices = identity.built(hydra_cfg.runtime.choices, config)
    return {"overrides": list(hydra_cfg.overrides.task), "choices": choices}


def _changed(results: Mapping[str, Any], cfg: DictConfig) -> dict[str, tuple[Any, Any]]:
    """Differences, with images and initial weights, between the run of results.json and the one of ``cfg``."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    former, now = dict(identity.run_of(results).settings), identity.settings(config, own=True)
    if content := former.get(identity.CONTENT):
        try:
            now[identity.CONTENT] = content_of(config["data"]["source"])
        except (OSError, ValueError) as error:
            log.warning("The images cannot be compared with those of the former run: %s", error)
            now[identity.CONTENT] = content
    else:
        log.warning("The former run did not record the content of its images: they are not compared.")
    if (weights := former.get(identity.WEIGHTS)) and config["init_from"]:
        from src.runs.weights import hash_of

        try:
            now[identity.WEIGHTS] = hash_of(Path(config["init_from"]))
        except (OSError, ValueError) as error:
            log.warning("The initial weights cannot be compared with those of the former run: %s", error)
            now[identity.WEIGHTS] = weights
    return identity.differences(former, now)


def record_refusal(folder: RunFolder, error: Exception, *, debug: bool) -> None:
    """Print why a job of a sweep is refused, and record it for the table at the end."""
    if debug:
        traceback.print_exception(error)
    print(sentence(error), file=sys.stderr)
    file = refusal_file(folder.path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(sentence(error), encoding="utf-8")


def _config_of_checkpoint(folder: RunFolder) -> dict[str, Any] | None:
    from src.runs.checkpoints import last_good_checkpoint

    checkpoint = last_good_checkpoint(folder)
    return checkpoint.config if checkpoint else None


def _move_aside(folder: RunFolder) -> Path:
    """Move everything in the folder except the lock. If this is killed in between, a later call moves the rest."""
    aside = folder.path.parent / ".replaced" / f"{folder.path.name}-{run_id()}"
    aside.mkdir(parents=True)
    for entry in folder.path.iterdir():
        if entry != folder.lock_file:
            entry.rename(aside / entry.name)
    return aside


def _record(folder: RunFolder, cfg: DictConfig) -> None:
    """Write Hydra's record of a job, which Hydra skipped because the former run had one."""
    hydra_cfg = HydraConfig.get()
    record = folder.path / ".hydra"
    record.mkdir(exist_ok=True)
    OmegaConf.save(cfg, record / "config.yaml")
    OmegaConf.save({"hydra": hydra_cfg}, record / "hydra.yaml")
    OmegaConf.save(hydra_cfg.overrides.task, record / "overrides.yaml")
