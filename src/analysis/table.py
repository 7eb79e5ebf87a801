"""Many run folders side by side: a table of runs, what varies among them, and their learning curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.runs.folder import RunFolder
from src.runs.provenance import settings
from src.sweeps.jobs import jobs

SCORE = "test/accuracy"

# What results.json says of a run besides its factors and metrics.
_RECORDED = ("fingerprint", "started", "device", "parameters", "flops_per_image", "best_epoch", "steps", "seconds",
             "images_per_second")  # fmt: skip
_FIXED = {"sweep", "job", "folder", "status", "error", "seed", "epochs_done", "verdict", "classes", "by_class",
          "commit", "modified", "versions", *_RECORDED}  # fmt: skip


def load_runs(*sweeps: Path | str) -> pd.DataFrame:
    """Every job of one or more sweeps, one row each, in the order they were asked for.

    Args:
        sweeps: folders of run folders, such as ``logs/train/sweeps/optimizers``.

    Returns:
        ``sweep`` (name), ``job`` (its overrides), ``folder`` (None for one that never started), ``status``
        (``completed``, ``running``, ``interrupted``, ``failed``, ``missing``), ``error`` and what results.json says:
        ``seed``, the factors by their names, the metrics by theirs (accuracies 0 to 1), ``parameters``,
        ``flops_per_image`` (forward), ``seconds``, ``images_per_second``, ``epochs_done``, ``verdict``, ``classes``,
        ``by_class`` (test accuracy by class), ``commit``, ``modified``, ``versions``, where known. A setting that
        affects results, is no factor, and yet varies, is a column by its key, such as ``optim.momentum``.

    Raises:
        FileNotFoundError: there is no run folder in one of them.
    """
    rows, configs = [], []
    for sweep in map(Path, sweeps):
        found = jobs(sweep) if sweep.is_dir() else []
        if not any(job.folder for job in found):
            raise FileNotFoundError(
                f"There are no runs in {sweep}; expected the folder of a multirun, or its name: python -m src.report "
                "sweep=<name>, as in python -m src.train --multirun sweep=<name> ..."
            )
        for job in found:
            results = job.results
            row: dict[str, Any] = {"sweep": sweep.name, "job": ", ".join(job.overrides), "folder": job.folder}
            row |= {"status": job.state, "error": job.error, "seed": results.get("seed"), "epochs_done": job.epochs}
            row |= {key: results.get(key) for key in _RECORDED}
            row["verdict"] = (results.get("verdict") or {}).get("kind")
            row |= {"classes": results.get("classes"), "by_class": results.get("test_accuracy_by_class")}
            row |= results.get("revision", {}) | {"versions": results.get("versions", {})}
            rows.append(row | results.get("factors", {}) | results.get("metrics", {}))
            configs.append(settings(results["config"]) if "config" in results else {})
    # As objects: pandas would turn None, which is a factor's level like any other, into a number that equals nothing.
    columns = dict.fromkeys(name for row in rows for name in row)
    table = {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns}
    numbers = [name for name in columns if "/" in name]
    runs = pd.DataFrame(table).astype(dict.fromkeys(numbers, float))
    return _with_unnamed_settings(runs, configs)


def _with_unnamed_settings(runs: pd.DataFrame, configs: list[dict[str, Any]]) -> pd.DataFrame:
    """Add the settings that vary and that no factor stands for: optim.momentum, but not optim.lr."""
    known = [place for place, config in enumerate(configs) if config]
    for key in dict.fromkeys(key for config in configs for key in config):
        group, leaf = key.split(".")[0], key.split(".")[-1]
        values = pd.Series([config.get(key) for config in configs], dtype=object)
        if values[known].map(repr).nunique() > 1 and not any(
            name in runs and _follows(values[known], runs[name][known])
            for name in (group, leaf, {"max_epochs": "epochs"}.get(leaf, leaf))
        ):
            runs[key] = values
    return runs


def factors_of(runs: pd.DataFrame) -> list[str]:
    """The columns that may be factors, the seed left out."""
    return [name for name in runs.columns if name not in _FIXED and "/" not in name]


def varying_factors(runs: pd.DataFrame) -> list[str]:
    """The factors that differ among ``runs``, the seed left out, in the order results.json gives them.

    A factor that follows from an earlier one goes with it: where every optimiser has its own learning rate, they are
    one choice, and no two runs differ in the rate alone.
    """
    varying = [name for name in factors_of(runs) if runs[name].map(repr).nunique() > 1]
    return [
        name
        for place, name in enumerate(varying)
        if not any(_follows(runs[name], runs[earlier]) for earlier in varying[:place])
    ]


def companions(runs: pd.DataFrame, factor: str) -> list[str]:
    """What changes along with ``factor``, so that its effect is theirs as well."""
    followers = [name for name in factors_of(runs) if name != factor and runs[name].map(repr).nunique() > 1]
    return [name for name in followers if _follows(runs[name], runs[factor])]


def _follows(values: pd.Series, factor: pd.Series) -> bool:
    """Whether ``factor`` determines ``values``."""
    return bool(values.map(repr).groupby(factor.map(repr)).nunique().eq(1).all())


def load_curves(runs: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """metrics.csv of every run, below one another: a row per run and epoch.

    Args:
        runs: see ``load_runs``; those without a folder or a first epoch are passed over.
        columns: of ``runs`` that go with every row, besides ``folder`` and ``seed``.

    Returns:
        ``epoch`` (from 1), ``step``, ``seconds`` (since the start, at the end of the epoch), the metrics by their
        names, and those columns.
    """
    curves = []
    for _, run in runs.iterrows():
        file = RunFolder(run.folder).metrics_file if run.folder else None
        if file is None or not file.exists():
            continue
        curve = pd.read_csv(file)
        curve["seconds"] = curve.seconds.cumsum()
        for name in ("folder", "seed", *columns):
            curve[name] = pd.Series([run[name]] * len(curve), dtype=object)
        curves.append(curve)
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=["epoch", "step", "seconds"])
