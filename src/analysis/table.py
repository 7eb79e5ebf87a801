"""A table of runs from many run folders, the factors that vary among them, and their learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.runs import identity
from src.runs.escaping import printable
from src.runs.file_schema import Results
from src.runs.identity import ABSENT, follows
from src.runs.question import Question, question_of
from src.sweeps.jobs import Job, jobs

SCORE = "test/accuracy"
SELECTION = "val/accuracy"
WORDS = {SCORE: "test accuracy", SELECTION: "validation accuracy"}

# Columns from results.json besides settings and metrics.
_RECORDED = ("started", "device", "parameters", "flops_per_image", "best_epoch", "steps", "seconds",
             "images_per_second")  # fmt: skip


COMPUTED = ("n", "mean", "std", "low", "high", "low_90", "high_90", "arms", "scores", "seeds", "folders", "verdicts",
            "guessing", "times", "reached", "area", "difference", "differences", "p", "p_holm", "p_equivalence",
            "p_equivalence_holm", "wins", "wins_low", "wins_high")  # fmt: skip
"""Names of columns that are computed from runs."""


def load_runs(*sweeps: Path | str, found: Mapping[Path, Sequence[Job]] | None = None) -> pd.DataFrame:
    """Every job of one or more sweeps, one row each, in the order they were requested.

    Args:
        sweeps: folders of run folders, such as ``logs/train/sweeps/optimizers``.
        found: the ``jobs`` of each, if they are known.

    Returns:
        ``sweep`` (name), ``job`` (its overrides), ``folder`` (None for one that never started), ``status`` (see
        ``Job``), ``error`` and, from results.json: ``seed``, ``fingerprint``, the metrics by their names (accuracies 0
        to 1), ``parameters``, ``flops_per_image`` (forward), ``seconds``, ``images_per_second``, ``epochs_done``,
        ``verdict``, ``classes``, ``by_class`` (test accuracy by class), ``commit``, ``modified``, ``diff``,
        ``revisions`` (how many trained it), ``versions``, ``settings`` and ``choices`` (see ``src.runs.identity``),
        ``val_images`` and ``test_images`` (their numbers), ``asked`` (a ``Question``), ``until`` (whether seeds were
        added until it was decided), ``tags`` and ``notes`` (text), if known, and ``launches``, ``planned`` and
        ``curve`` (see ``Job``); then every factor by its name, which ``attrs["factors"]`` lists.

    Raises:
        FileNotFoundError: there is no run folder in one of them.
    """
    rows, runs = [], []
    for sweep in map(Path, sweeps):
        of_sweep = found[sweep] if found else jobs(sweep) if sweep.is_dir() else []
        if not any(job.folder for job in of_sweep):
            raise FileNotFoundError(
                f"There are no runs in {sweep}; expected the folder of a multirun, or its name: python -m src.report "
                "sweep=NAME, as in python -m src.train --multirun sweep=NAME seed=1,2,3"
            )
        for job in of_sweep:
            results, run = job.results, identity.run_of(job.results)
            row: dict[str, Any] = {"sweep": printable(sweep.name), "job": ", ".join(job.overrides)}
            row |= {"folder": job.folder, "status": job.state, "error": job.error}
            row |= {"seed": results.get("seed"), "epochs_done": job.epochs}
            row |= {key: results.get(key) for key in _RECORDED} | {"curve": job.curve}
            row["verdict"] = (results.get("verdict") or {}).get("kind")
            row |= {"classes": results.get("classes"), "by_class": results.get("test_accuracy_by_class")}
            row |= {f"{half}_images": results.get("images", {}).get(half) for half in ("val", "test")}
            revision = results.get("revision", {})
            row |= {name: revision.get(name) for name in ("commit", "modified", "diff")}
            row |= {"revisions": len(results.get("revisions", ())), "versions": results.get("versions", {})}
            row |= {"settings": run.settings, "choices": run.choices, "asked": _asked(results)}
            config: Mapping[str, Any] = results.get("config", {})
            row |= {"until": bool(config.get("until")), "launches": job.launches, "planned": job.planned}
            row |= {"tags": _words(config.get("tags")), "notes": _words(config.get("notes"))}
            row["fingerprint"] = identity.fingerprint(run.settings) if run.settings else None
            rows.append(row | results.get("metrics", {}))
            runs.append(run)
    # As objects: pandas would turn None, which is a valid level of a factor, into NaN, which equals nothing.
    columns = dict.fromkeys([*(name for row in rows for name in row), SCORE])
    table = {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns}
    numbers = [name for name in columns if "/" in name]
    known = [place for place, run in enumerate(runs) if run.settings]
    found_factors = identity.factors([runs[place] for place in known], reserved=[*columns, *COMPUTED])
    found_factors = {printable(name): levels for name, levels in found_factors.items()}
    found_factors = {name if name not in columns else f"setting {name}": found_factors[name] for name in found_factors}
    for name, levels in found_factors.items():
        table[name] = pd.Series(levels, index=known, dtype=object).reindex(range(len(rows)), fill_value=None)
    everything = pd.DataFrame(table).astype(dict.fromkeys(numbers, float))
    everything.attrs["factors"] = list(found_factors)
    return everything


def _words(said: Any) -> str:
    """Tags or notes on one line; a file may hold anything."""
    return printable(", ".join(map(str, said)) if isinstance(said, list) else said or "")


def _asked(results: Results) -> Question | None:
    try:
        return question_of(results.get("config", {}))
    except ValueError:  # training was refused, or someone else wrote the file
        return None


def judged_by(runs: pd.DataFrame) -> str:
    """The metric that completed runs are compared by: test accuracy, or validation accuracy if one was not tested.

    Raises:
        ValueError: they have neither in common.
    """
    metric = SELECTION if SELECTION in runs and runs[SCORE].isna().any() else SCORE
    if runs[metric].isna().any():
        raise ValueError(
            "Some runs have only a test accuracy (data.val_size=0) and others only a validation accuracy "
            "(test=false), so they cannot be compared. Report them apart, or test the latter: "
            "python -m src.eval sweep=NAME"
        )
    return metric


def factors_of(runs: pd.DataFrame) -> list[str]:
    """The factors found by ``load_runs`` that differ among ``runs``: groups before their settings."""
    return [name for name in runs.attrs["factors"] if runs[name].map(repr).nunique() > 1]


def varying_factors(runs: pd.DataFrame) -> list[str]:
    """The independent factors of ``runs``.

    A factor that follows from an earlier one is left out: if every optimiser has its own learning rate, the two are
    one choice, and no two runs differ only in the rate.
    """
    varying = factors_of(runs)
    return [
        name
        for place, name in enumerate(varying)
        if not any(follows(runs[name].tolist(), runs[earlier].tolist()) for earlier in varying[:place])
    ]


def confounders(runs: pd.DataFrame, factor: str) -> list[str]:
    """The settings that change along with ``factor``, so that its effect is theirs as well.

    A setting of the factor's own group is part of that choice if only some of its choices have it, if it bears the
    choice's name, or if it is a list (the transforms of an augmentation).
    """
    runs = runs[runs[factor].map(repr) != repr(ABSENT)]
    levels, group = runs[factor].tolist(), _group(runs, factor)
    found = []
    for name in factors_of(runs):
        values = runs[name].tolist()
        same = [str(value).lower() for value in values] == [str(level).lower() for level in levels]
        listed = any(isinstance(value, list) for value in values)
        part = _group(runs, name) == group and (same or listed or ABSENT in values)
        if name != factor and not part and follows(values, levels):
            found.append(name)
    return found


def _group(runs: pd.DataFrame, name: str) -> str:
    """The group of a factor, by the keys of the runs' settings."""
    keys = (key for settings in runs.settings for key in settings or ())
    return next((key.split(".")[0] for key in keys if name in (key, key.split(".")[0], key.split(".")[-1])), name)


def revisions(runs: pd.DataFrame) -> list[str]:
    """The code of each run: the first ten digits of its commit, and the file of what was changed since."""
    return [
        str(commit or "unknown")[:10] + (f" with code-{diff}.diff" if isinstance(diff, str) else "")
        for commit, diff in zip(runs.commit, runs["diff"], strict=True)
    ]


def load_curves(runs: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of metrics.csv of all runs: one row per run and epoch.

    Args:
        runs: see ``load_runs``; those without a first epoch are skipped.
        columns: columns of ``runs`` to add to every row, besides ``folder`` and ``seed``.

    Returns:
        ``epoch`` (from 1), ``step``, ``seconds`` (since the start, at the end of the epoch), the metrics by their
        names, and those columns.
    """
    runs = runs[runs.curve.map(len) > 0]
    if runs.empty:
        return pd.DataFrame(columns=["epoch", "step", "seconds"])
    curves = pd.DataFrame([row for curve in runs.curve for row in curve])
    run = np.repeat(np.arange(len(runs)), runs.curve.map(len))
    curves["seconds"] = curves.seconds.groupby(run).cumsum()
    return curves.assign(**{name: runs[name].to_numpy(object)[run] for name in ("folder", "seed", *columns)})
