"""Sources of variation: which of them differ between repetitions, and what each alone is worth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from src.analysis.page.cells import column, note, percent_cell, table_of, text_cell
from src.analysis.page.page import Finding, Section
from src.analysis.statistics import CONFIDENCE
from src.analysis.table import judged_by
from src.runs.escaping import plural
from src.runs.identity import fingerprint

# In words, by key. A key that is null follows the seed.
SOURCES = {
    "seeds.init": "initial weights",
    "seeds.order": "order of the images",
    "seeds.augment": "augmentation",
    "data.split_seed": "split",
}
_CHOICES = ("data.val_size", "data.train_size", "data.train_fraction", "data.imbalance", "data.label_noise")


def never_varied(runs: pd.DataFrame) -> list[str]:
    """A sentence on the sources whose seed was the same in all repetitions, if there are several repetitions."""
    seeds = _seeds(runs)
    fixed = [words for key, words in SOURCES.items() if seeds[key].nunique() == 1]
    if not any(settings.get(key) not in (None, 0, "test") for settings in runs.settings for key in _CHOICES):
        fixed = [words for words in fixed if words != "split"]  # there is none
    if not fixed or runs.seed.nunique() == 1:
        return []
    how = " With seeds.split=null the split follows the seed." if "split" in fixed else ""
    return [f"Never varied: {', '.join(fixed)}. No interval contains what another seed of this would change.{how}"]


def as_repetitions(runs: pd.DataFrame) -> pd.DataFrame:
    """Treat the seeds of sources as part of the seed, not as factors.

    If every configuration was run with all sources following the seed, the runs that hold some fixed are left out:
    they only measure the others.

    Args:
        runs: completed ones, see ``load_runs``.

    Returns:
        a copy; its ``seed`` is text, such as ``seed 1, init 3``, if a source varies while the seed does not.
    """
    configurations, follow = _configurations(runs), _follow(runs)
    factors = [name for name in runs.attrs["factors"] if not _is_source(runs, name)]
    if set(configurations[follow]) == set(configurations):
        runs = runs[follow]
    seeds, runs = _seeds(runs), runs.copy()
    apart = [key for key in SOURCES if (seeds[key].groupby(runs.seed.to_numpy()).nunique() > 1).any()]
    if apart:
        names = {"seed": runs.seed} | {key.removesuffix("_seed").split(".")[1]: seeds[key] for key in apart}
        parts = [name + " " + values.map(str) for name, values in names.items()]
        runs["seed"] = pd.concat(parts, axis=1).agg(", ".join, axis=1)
    runs.attrs["factors"] = factors
    return runs


def shares(runs: pd.DataFrame) -> pd.DataFrame:
    """The variance of the accuracy when one source alone varies, as a share of that when all vary.

    Variances are pooled over groups of runs that are equal but for the source, and over the configurations (Bouthillier
    et al. 2021, arXiv:2103.03098, varies sources one at a time in this way).

    Args:
        runs: completed ones, see ``load_runs``.

    Returns:
        One row per source that varied alone: ``source`` (in words), ``n`` (runs), ``sd``, ``share``, ``low`` and
        ``high`` (NaN if there are no runs in which all sources vary), ``of`` (what varies among those).
    """
    seeds, configurations = _seeds(runs), _configurations(runs)
    everything = pd.concat([configurations.rename("configuration"), runs.seed, seeds], axis=1).map(str)
    runs = runs[~everything.duplicated()]
    everything, configurations, seeds = (table.loc[runs.index] for table in (everything, configurations, seeds))
    scores, follow = runs[judged_by(runs)].astype(float), _follow(runs)
    rows = []
    for key, words in SOURCES.items():
        others = everything.drop(columns=key).itertuples(index=False)
        group = pd.Series(map("|".join, others), everything.index, dtype=object)
        alone = group[group.duplicated(keep=False)]
        if alone.empty:
            continue
        variance, freedom = _pooled(scores[alone.index], alone)
        whole = follow & configurations.isin(configurations[alone.index])
        row = {"source": words, "n": len(alone), "sd": np.sqrt(variance)}
        row |= {"share": np.nan, "low": np.nan, "high": np.nan, "of": ""}
        split = seeds["data.split_seed"] == runs.seed
        fixed = everything.configuration + "|" + everything["data.split_seed"]
        for group, of in (
            (everything.configuration[whole & split], "all sources"),
            (fixed[whole & ~split], "all sources but the split"),
        ):
            total, rest = _pooled(scores[group.index], group)
            if rest and total:
                low, high = ratio_interval(variance / total, freedom, rest)
                row |= {"share": variance / total, "low": low, "high": high, "of": of}
                break
        rows.append(row)
    return pd.DataFrame(rows)


def ratio_interval(ratio: Any, freedom: int, rest: int) -> tuple[Any, Any]:
    """The 95 % interval of a ratio of two variances of normal samples, by the F distribution.

    Args:
        ratio: of the estimates, a number or an array.
        freedom, rest: degrees of freedom of the numerator and of the denominator.
    """
    high = (1 + CONFIDENCE) / 2
    return ratio / special.fdtri(freedom, rest, high), ratio * special.fdtri(rest, freedom, high)


def variation_section(table: pd.DataFrame) -> tuple[list[Finding], list[Section]]:
    """A sentence per source, and the section with their table; ``table`` is the result of ``shares``."""
    if table.empty:
        return [], []
    findings = []
    for _, row in table.iterrows():
        text = f"{row.source[0].upper()}{row.source[1:]} alone: standard deviation {100 * row.sd:.2f} points"
        if np.isnan(row.share):
            text += "; its share is unknown without runs in which all sources vary, such as seed=1,2,3,4,5"
        else:
            text += f", {row.share:.0%} of the variance of {row.of} (95 % interval {row.low:.0%} to {row.high:.0%})"
        findings.append(Finding(None, f"{text}, {plural(row.n, 'run')}."))
    columns = [
        column("source", "source", text_cell),
        column("runs", "n", "{}"),
        column("standard deviation, points", "sd", percent_cell),
        column("share of variance", "share", "{:.0%}"),
        column("from, 95 %", "low", "{:.0%}"),
        column("to", "high", "{:.0%}"),
        column("of the variance of", "of", text_cell),
    ]
    return findings, [Section("Where the spread comes from", [table_of(table, columns, note("variation"))])]


def _seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """The seed of each source in each run."""

    def seed(settings: Mapping[str, Any], key: str) -> Any:
        value = settings.get("seed") if settings.get(key) is None else settings[key]
        return value if isinstance(value, int) else str(value)  # a stranger's file may have a list

    return pd.DataFrame({key: [seed(settings, key) for settings in runs.settings] for key in SOURCES}, runs.index)


def _follow(runs: pd.DataFrame) -> pd.Series:
    """Whether all sources but the split, which is fixed by default, follow the seed."""
    own = [key for key in SOURCES if key != "data.split_seed"]
    return pd.Series([all(settings.get(key) is None for key in own) for settings in runs.settings], runs.index)


def _configurations(runs: pd.DataFrame) -> pd.Series:
    """A name for the settings of each run without its seeds."""
    plain = [{key: settings[key] for key in settings if key not in ("seed", *SOURCES)} for settings in runs.settings]
    return pd.Series([fingerprint(settings) for settings in plain], runs.index)


def _is_source(runs: pd.DataFrame, name: str) -> bool:
    """Whether a factor is the seed of a source; its name may be the last part of the key."""
    for key in SOURCES:
        if name in (key, key.split(".")[1]):
            pairs = [(settings.get(key), level) for settings, level in zip(runs.settings, runs[name], strict=True)]
            return any(seed is not None for seed, _ in pairs) and all(seed in (None, level) for seed, level in pairs)
    return False


def _pooled(scores: pd.Series, group: pd.Series) -> tuple[float, int]:
    """The variance within groups, pooled, and its degrees of freedom; NaN and 0 if each run is a group."""
    freedom = len(scores) - group.nunique()
    deviations = scores - scores.groupby(group).transform("mean")
    return (float((deviations**2).sum() / freedom), freedom) if freedom else (np.nan, 0)
