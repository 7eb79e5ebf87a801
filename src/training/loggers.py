"""The loggers of a run: Lightning's own classes, told the run's name, sweep, tags and notes."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from itertools import chain, count
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from src.runs.folder import RunFolder
from src.runs.identity import levels, run_of
from src.runs.trust import instantiate

log = logging.getLogger(__name__)

LOGS = Path("logs")
_EXTRAS = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}


def build_loggers(cfg: DictConfig, folder: RunFolder) -> list[Logger]:
    """Build the loggers of ``cfg.logger``. A resumed run goes on in the same run of a server.

    An error while the run goes on turns a logger off, with a warning, and never stops the run.

    Raises:
        ValueError: a package is missing, or a server cannot be reached at the start.
    """
    chosen = cfg.get("logger") or {}
    nodes: list[Any] = [chosen] if "_target_" in chosen else [node for node in chosen.values() if node is not None]
    known = folder.results() if folder.results_file.exists() else {}
    loggers = []
    for node in nodes:
        kind = str(node._target_).rpartition(".")[2]
        own = {name: value for name, value in _described(kind, cfg, folder, known).items() if name not in node}
        try:
            if kind == "CSVLogger" and isinstance(node.get("version"), str):
                own["version"] = _unused(folder.path, node.version)
            logger = instantiate(node, **own)
            if kind in _EXTRAS:
                _ = logger.experiment  # connects
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get(kind)
            remedy = f"uv sync --extra {extra}" if extra else f"pip install {error.name}"
            raise ValueError(f"logger={extra or kind} needs a package that is not installed: {remedy}.") from None
        except Exception as error:
            if kind not in _EXTRAS:
                raise
            raise ValueError(f"logger={_EXTRAS[kind]} could not start: {error}") from error
        if kind in _EXTRAS:
            _keep_running(logger, kind)
        loggers.append(logger)
    return loggers


def _described(kind: str, cfg: DictConfig, folder: RunFolder, known: Mapping[str, Any]) -> dict[str, Any]:
    """What the logger of a server is told about the run, as arguments of its class."""
    sweep = folder.path.parent.name if (folder.path.parent / "sweep.json").exists() else None
    tags, notes = list(cfg.get("tags") or []), cfg.get("notes")
    earlier = known.get("remote_runs", {}).get(kind, "")
    earlier = earlier if re.fullmatch(r"[\w-]{1,64}", earlier) else None  # it comes from a file
    if kind == "WandbLogger":
        os.environ.setdefault("WANDB_SILENT", "true")
        resumed = {"id": earlier, "resume": "allow"} if earlier else {}
        # Not in the run folder, where W&B's links to its cache would count as leading out of it.
        place = os.environ.get("WANDB_DIR", str(LOGS))
        return {"save_dir": place, "name": folder.path.name, "group": sweep, "tags": tags, "notes": notes, **resumed}
    if kind == "MLFlowLogger":
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        LOGS.mkdir(exist_ok=True)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a run does not wait for minutes
        texts = {"sweep": sweep, "tags": ", ".join(tags), "mlflow.note.content": notes}
        return {
            "experiment_name": sweep or "runs",
            "run_name": folder.path.name,
            "tags": {name: str(text) for name, text in texts.items() if text},
            "tracking_uri": os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{LOGS.absolute()}/mlflow.db"),
            "run_id": earlier,
        }
    return {"save_dir": folder.path}


def _unused(folder: Path, version: str) -> str:
    """The name of a folder for a logger that would clear a former one, as Lightning's for CSV does."""
    names = chain([version], (f"{version}-{number}" for number in count(2)))
    return next(name for name in names if not (folder / name).exists())


def _keep_running(logger: Logger, kind: str) -> None:
    """Let an error of ``logger`` turn it off instead of stopping the run."""
    off = False

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def guard(*args: Any, **kwargs: Any) -> Any:
            nonlocal off
            try:
                return None if off else call(*args, **kwargs)
            except Exception as error:
                off = True
                log.warning("logger=%s failed (%s); the run goes on without it.", _EXTRAS[kind], error)

        return guard

    for name in ("log_metrics", "log_hyperparams", "save", "finalize"):
        setattr(logger, name, guarded(getattr(logger, name)))


@contextmanager
def logged(loggers: list[Logger], folder: RunFolder) -> Iterator[None]:
    """Tell ``loggers`` the run's factors, if it is a new one, and close their runs at the end of the block."""
    kinds = {type(logger).__name__: logger for logger in loggers}
    remote = {kind: str(kinds[kind].version) for kind in _EXTRAS if kind in kinds}
    results = folder.results()
    if remote and remote != results.get("remote_runs"):
        rank_zero_only(folder.update)(remote_runs=remote)
    for kind in {"CSVLogger", *remote} & kinds.keys():
        if kind == "CSVLogger" or kind not in results.get("remote_runs", {}):
            kinds[kind].log_hyperparams(levels(run_of(results)))
    code = 1
    try:
        yield
        code = 0
    finally:
        if "WandbLogger" in kinds and (wandb := sys.modules.get("wandb")) is not None and wandb.run is not None:
            wandb.finish(exit_code=code)
