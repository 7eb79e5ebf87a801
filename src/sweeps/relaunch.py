"""What a job does about the run that its folder holds already, from an earlier launch of its sweep."""

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
from src.runs.folder import RunFolder, score
from src.sweeps.jobs import refusal_file
from src.sweeps.naming import run_id

log = logging.getLogger(__name__)


def resume_or_skip(folder: RunFolder, cfg: DictConfig) -> float | None:
    """Make ``folder``, which this process holds, ready to run ``cfg`` in, unless that has been done.

    A run with the same settings, as far as they affect the result, goes on from its last checkpoint. One with other
    settings that has nothing to lose, neither result nor checkpoint, gives way.

    Args:
        cfg: its ``on_conflict`` says what to do about a run with other settings. ``error`` refuses; ``rerun`` moves it
            to ``.replaced`` beside the folder; ``keep`` lets its result stand.

    Returns:
        The score of the completed run, if there is nothing left to do.

    Raises:
        ValueError: the folder holds a run with other settings, or ``on_conflict`` is none of the three.
    """
    on_conflict, begun = cfg.on_conflict, launch_record(cfg)
    if on_conflict not in ("error", "rerun", "keep"):
        raise ValueError(f"on_conflict is {on_conflict!r}; expected error, rerun or keep.")
    try:
        results = folder.results() if folder.results_file.exists() else {}
    except ValueError as error:
        kept = folder.results_file.replace(folder.results_file.with_name("results.json.damaged"))
        log.warning("%s It is kept as %s; the checkpoints count.", sentence(error), printable(kept))
        results = {}
    completed = results.get("status") == "completed"
    accuracy = f"test accuracy {results['metrics']['test/accuracy']:.2%}" if completed else ""
    trained = completed or folder.last.exists() or folder.previous.exists()
    config = results.get("config") or (_config_of_checkpoint(folder) if trained else None)
    changed = _changed({**results, "config": config}, cfg) if trained and config else {}
    if not changed:
        if completed:
            print(f"{folder.path.name}: completed before, {accuracy}")
            return score(results)
        folder.start_record(**(begun | (results if trained else {})))
        return None
    told = "; ".join(f"{key} was {json.dumps(old)} and is now {json.dumps(new)}" for key, (old, new) in changed.items())
    if on_conflict == "rerun":
        aside = _move_aside(folder)
        _record(folder, cfg)
        folder.start_record(**begun)
        log.info("%s: the former run, with other settings (%s), is now in %s", folder.path.name, told, aside)
        return None
    if on_conflict == "keep" and completed:
        print(f"{folder.path.name}: kept, {accuracy}, with other settings ({told})")
        return score(results)
    keep = ", on_conflict=keep lets its result stand" if completed else ""
    raise ValueError(
        f"{folder.path} holds a run with other settings: {told}. Choose another sweep=NAME; "
        f"on_conflict=rerun moves it aside and runs it anew{keep}."
    )


def launch_record(cfg: DictConfig) -> dict[str, Any]:
    """What Hydra alone knows of a run: its overrides, and the choices of the groups."""
    hydra_cfg = HydraConfig.get()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    choices = identity.built(hydra_cfg.runtime.choices, config)
    return {"overrides": list(hydra_cfg.overrides.task), "choices": choices}


def _changed(results: Mapping[str, Any], cfg: DictConfig) -> dict[str, tuple[Any, Any]]:
    """In what the run of results.json differs from the one that ``cfg`` describes, the images included."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    former, now = dict(identity.run_of(results).settings), identity.settings(config, own=True)
    if content := former.get(identity.CONTENT):
        try:
            now[identity.CONTENT] = content_of(config["data"]["source"])
        except (OSError, ValueError) as error:
            log.warning("The images cannot be compared with those of the former run: %s", error)
            now[identity.CONTENT] = content
    return identity.differences(former, now)


def record_refusal(folder: RunFolder, error: Exception, *, debug: bool) -> None:
    """Tell why a job of a sweep will not run, now and in the table at the end."""
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
    """Move all that is in the folder, but the lock. What is left behind by a kill in between will be moved later."""
    aside = folder.path.parent / ".replaced" / f"{folder.path.name}-{run_id()}"
    aside.mkdir(parents=True)
    for entry in folder.path.iterdir():
        if entry != folder.lock_file:
            entry.rename(aside / entry.name)
    return aside


def _record(folder: RunFolder, cfg: DictConfig) -> None:
    """What Hydra records of a job. It has left that out, since there was a record then."""
    hydra_cfg = HydraConfig.get()
    record = folder.path / ".hydra"
    record.mkdir(exist_ok=True)
    OmegaConf.save(cfg, record / "config.yaml")
    OmegaConf.save({"hydra": hydra_cfg}, record / "hydra.yaml")
    OmegaConf.save(hydra_cfg.overrides.task, record / "overrides.yaml")
