"""The price of a multirun before its start (``plan=true``): jobs, hours, memory, disk. It trains a few
steps and leaves nothing behind but plan.json, if the sweep has a name; the report compares it with what happened."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write
from rich.console import Console
from rich.table import Table

from src.runs.escaping import plural, printable
from src.sweeps.design import jobs_of
from src.sweeps.jobs import ANY, ENDED, jobs, record_plan
from src.sweeps.multirun import SweepSummary, by_folder
from src.sweeps.naming import slots
from src.sweeps.search import Worker
from src.sweeps.sequential import check_primary

# The first parts of keys that change nothing of what a step costs. An optimiser itself does, unlike its settings.
_FREE = ("seed", "seeds", "schedule", "loss", "label_smoothing", "tuner", "tags", "notes")


def plan(context: HydraContext, task: TaskFunction, config: DictConfig, launcher: Launcher) -> None:
    """Print what the jobs of a multirun will cost on this machine. One of each kind trains a few steps, as many at a
    time as the launcher runs; with ``until``, all seeds are counted.

    Args:
        context, task, config: see ``src.sweeps.search.search``.
    """
    sweep, at_once = Path(config.hydra.sweep.dir), slots(config)
    given = any(word.startswith("hydra.sweep.dir=") for word in config.hydra.overrides.hydra)
    named = given or not OmegaConf.is_interpolation(config, "sweep")
    done = {job.name for job in (jobs(sweep) if sweep.is_dir() else []) if job.state in ENDED}
    left: list[tuple[str | None, Sequence[str]]]
    if config.get("tuner"):  # which job is which is not known before
        left = [(None, job) for job in Worker(context, task, config).draws()[len(done) :]]
    else:
        check_primary(config)
        grid = jobs_of(config, range(1, config.max_seeds + 1) if config.get("until") else None)
        folders = by_folder(config, grid, SweepSummary.current.fixed)
        left = [(name, job) for name, job in zip(folders, grid, strict=True) if name not in done]
    kinds: dict[tuple[str, ...], list[tuple[str | None, Sequence[str]]]] = {}
    for name, job in left:
        kinds.setdefault(tuple(word for word in job if not _is_free(word)), []).append((name, job))
    probes = [same[0][1] for same in kinds.values()]
    measured: list[dict[str, float]] = []
    if probes:
        with TemporaryDirectory() as place, read_write(config.hydra):
            config.hydra.sweep.dir = place
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={place}")
            more = probes * at_once  # so that they disturb each other as the jobs will
            launched = launcher.launch(more[: max(len(probes), at_once)], initial_job_idx=0)
            measured = [job.return_value for job in launched]
    table = Table("kind of job", "jobs", "each takes", "memory, GB", "disk each, MB")
    common = set.intersection(*map(set, kinds)) if len(kinds) > 1 else set()
    seconds = disk = 0.0
    training: dict[str, float] = {}
    for (kind, same), cost in zip(kinds.items(), measured, strict=False):
        seconds += len(same) * cost["seconds"] / at_once
        disk += len(same) * cost["disk"]
        for name, _ in same:  # all trials of a search are expected to be like the mean of its draws
            key, share = (ANY, 1 / len(left)) if name is None else (name, 1)
            training[key] = training.get(key, 0) + share * cost["training"]
        words = printable(" ".join(word for word in kind if word not in common))
        numbers = (_time(cost["seconds"]), f"{cost['memory'] / 1e9:.1f}", f"{cost['disk'] / 1e6:.0f}")
        table.add_row(words, str(len(same)), *numbers)
    if measured:
        Console(highlight=False).print(table)
    memory = max((cost["memory"] for cost in measured), default=0) * at_once
    if training and named:  # the sweep will be launched with this name
        record_plan(sweep, training)
    print(
        f"{plural(len(left), 'job')} to do, {len(done)} done before: {_time(seconds)} with {at_once} at a time, "
        f"{memory / 1e9:.1f} GB of memory, {disk / 1e9:.2f} GB of checkpoints. "
        f"{'Its report will tell how long they took.' if training and named else 'Nothing was recorded.'}"
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _is_free(override: str) -> bool:
    key = override.split("=")[0].lstrip("+~")
    return key.split(".")[0] in _FREE or key.startswith("optim.")
