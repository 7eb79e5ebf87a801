"""The effect of each factor with the others fixed: over seeds, in pairs of runs that differ only in that factor."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.analysis.statistics import (
    ALPHA,
    Verdict,
    equivalence_p,
    hedges_g_av,
    holm,
    mean_over_seeds,
    seeds_needed,
    superiority,
    verdicts,
)
from src.analysis.table import SCORE, SELECTION, WORDS, judged_by
from src.runs.errors import near_names
from src.runs.escaping import printable
from src.runs.identity import ABSENT
from src.runs.question import Question, guessing
from src.sweeps.always_valid import decide, interval, p_value

_MOST_CELLS = 10**7
_MEASURED = ("low", "high", "low_90", "high_90", "p", "p_equivalence", "difference", "wins", "wins_low", "wins_high")


class Score(NamedTuple):
    """What the best epoch of a run, and the level of a tuned factor, are chosen by."""

    metric: str  # of the table of runs
    words: str
    best: str  # highest or lowest

    @property
    def is_share(self) -> bool:
        """Whether it is shown in percent."""
        return self.metric.endswith("/accuracy")


def scores_of(runs: pd.DataFrame) -> list[Score]:
    """The different settings ``score`` of the runs; validation accuracy for runs that have none."""
    scores = dict.fromkeys(printable((settings or {}).get("score", SELECTION)) for settings in runs.settings)
    metrics = {score: score.removeprefix("-") for score in scores or [SELECTION]}
    words = WORDS | {"val/loss": "validation loss"}
    return [
        Score(metric, words.get(metric, metric), "highest" if score == metric else "lowest")
        for score, metric in metrics.items()
    ]


class Rule(NamedTuple):
    """How comparisons of runs are decided.

    Args:
        at_every_look: seeds were added until all was clear: e-values (``src.sweeps.always_valid``), not t-tests.
        guessing: accuracy, 0 to 1, that guessing exceeds only by luck (two standard deviations).
    """

    at_every_look: bool = False
    guessing: float = 0.0


def rule_of(runs: pd.DataFrame, metric: str | None = None) -> Rule:
    """The rule for completed runs, see ``load_runs``; ``metric`` as for ``grid``."""
    metric = metric or judged_by(runs)
    images = runs[f"{metric.split('/')[0]}_images"].dropna().min()
    return Rule(bool(runs.until.any()), guessing(len(runs.classes.iloc[0] or []), images))


def classes_of(runs: pd.DataFrame) -> int:
    """The number of classes; two for runs that did not record them."""
    return max(len(runs.classes.iloc[0] or []), 2)


class Grid(NamedTuple):
    """The runs as an array.

    Args:
        levels: of each factor, in the order of the axes; the first is its baseline.
        seeds: the last axis.
        scores: ``[*levels, seeds]``, NaN if there is no run. A run without one of the factors (a network without a
            width setting) is entered at all levels of that factor.
        lacking: by factor, a mask of ``scores``, bool of the same shape: the run does not have the factor.
        left_out: folders of runs whose cell another run has.
        metric: what the scores are.
        rule: how they are compared.
    """

    levels: dict[str, list[Any]]
    seeds: list[Any]
    scores: NDArray[np.float64]
    lacking: Mapping[str, NDArray[np.bool_]] = MappingProxyType({})
    left_out: Sequence[Path] = ()
    metric: str = SCORE
    rule: Rule = Rule()

    def of(self, *factors: str) -> NDArray[np.float64]:
        """The scores of runs that have these factors, NaN elsewhere."""
        return np.where(
            np.any([self.lacking.get(factor, np.False_) for factor in factors], axis=0), np.nan, self.scores
        )


def grid(
    runs: pd.DataFrame, factors: Sequence[str], baselines: Mapping[str, Any] | None = None, metric: str | None = None
) -> Grid:
    """Accuracies by factor and seed.

    Args:
        runs: completed ones, see ``load_runs``.
        factors: all that vary among them.
        baselines: the first level, by factor; by default the level of the first run.
        metric: the column of ``runs``; by default the one that they are ``judged_by``.

    Raises:
        ValueError: a baseline is not among the levels, or there are too many factors.
    """
    metric = metric or judged_by(runs)
    levels = {
        factor: [level for level in {repr(level): level for level in runs[factor]}.values() if level != ABSENT]
        for factor in factors
    }
    for factor, baseline in (baselines or {}).items():
        if factor in levels:
            if baseline not in levels[factor]:
                known = ", ".join(map(str, levels[factor]))
                raise ValueError(f"baseline.{factor} is {baseline!r}; the levels of {factor} are {known}.")
            levels[factor].sort(key=lambda level: level != baseline)
    seeds = list(dict.fromkeys(runs.seed))
    places = {factor: {repr(level): place for place, level in enumerate(levels[factor])} for factor in factors}
    shape = [*(len(levels[factor]) for factor in factors), len(seeds)]
    if len(shape) > 32 or math.prod(shape) > _MOST_CELLS:
        raise ValueError(
            f"{len(factors)} factors vary, too many to compare all of their combinations: report fewer runs."
        )
    scores = np.full(shape, np.nan)
    lacking = {factor: np.zeros(scores.shape, bool) for factor in factors}
    left_out = []
    records = runs[list(dict.fromkeys([*factors, "seed", "folder", metric]))].to_dict("records")
    for run in sorted(records, key=lambda run: [run[factor] for factor in factors].count(ABSENT)):
        there = (places[factor].get(repr(run[factor]), slice(None)) for factor in factors)
        place = (*there, seeds.index(run["seed"]))
        if not np.isnan(scores[place]).all():
            left_out.append(run["folder"])
            continue
        scores[place] = run[metric]
        for factor in factors:
            lacking[factor][place] = run[factor] == ABSENT
    return Grid(levels, seeds, scores, lacking, left_out, metric, rule_of(runs, metric))


def without_repetitions(runs: pd.DataFrame) -> pd.DataFrame:
    """The first of all runs of the same experiment (equal fingerprint)."""
    return runs[~runs.fingerprint.duplicated() | runs.fingerprint.isna()]


def configurations(runs: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """One row per combination of ``factors`` that was run: mean, standard deviation and interval of the accuracy
    over seeds, and the mean of every other numeric column; ``attrs["metric"]`` says which accuracy."""
    metric = judged_by(runs)
    also = ("val/accuracy", "train/loss", "parameters", "flops_per_image", "seconds", "images_per_second")
    rows = []
    for levels, group in settings_of(runs, factors):
        mean = mean_over_seeds(group[metric].to_numpy(float))
        rows.append(
            levels
            | {"n": mean.n, "mean": float(mean.mean), "low": float(mean.low), "high": float(mean.high)}
            | {"std": float(group[metric].std()), "seeds": group.seed.tolist()}
            | {"scores": group[metric].tolist(), "folders": group.folder.tolist()}
            | {"all_seconds": group.seconds.dropna().tolist()}
            | {name: group[name].astype(float).mean() for name in also if name in group}
            | {"verdicts": list(dict.fromkeys(group.verdict.dropna()))}
        )
    order = {factor: list(dict.fromkeys(map(repr, runs[factor]))) for factor in factors}
    rows.sort(key=lambda row: [order[factor].index(repr(row[factor])) for factor in factors])
    table = pd.DataFrame(rows, dtype=object)
    table.attrs["metric"] = metric
    return table


def compare_with_best(
    table: pd.DataFrame, factors: Sequence[str], rule: Rule, smallest_effect: float | None = None
) -> pd.DataFrame:
    """Compare every other configuration with the one of the highest mean accuracy, paired by seed.

    Args:
        table: the result of ``configurations``.
        smallest_effect: see ``equivalence_p``.

    Returns:
        ``factors`` and the columns of ``_tested``; the highest mean first.
    """
    table = table.sort_values("mean", ascending=False, kind="stable")
    scores = [dict(zip(row.seeds, row.scores, strict=True)) for _, row in table.iterrows()]
    rows = []
    for (_, row), other in zip(table.iloc[1:].iterrows(), scores[1:], strict=True):
        shared = [seed for seed in scores[0] if seed in other]
        pairs = np.array([(scores[0][seed], other[seed]) for seed in shared]).reshape(-1, 2)
        rows.append({factor: row[factor] for factor in factors} | _pairs(*pairs.T))
    return _tested(rows, smallest_effect, rule)


def settings_of(runs: pd.DataFrame, factors: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Runs with equal levels of ``factors``; levels may be None, which pandas' groupby would drop."""
    levels = [runs[factor].map(repr) for factor in factors]
    keys = ["|".join(key) for key in zip(*levels, strict=True)] if factors else [""] * len(runs)
    for _, group in runs.groupby(np.array(keys, dtype=object), sort=False):  # a list could name columns
        yield group.iloc[0][list(factors)].to_dict(), group


def simple_effects(table: Grid, smallest_effect: float | None = None) -> pd.DataFrame:
    """The effect of one factor alone on the accuracy, for every setting of the other factors.

    Returns:
        ``factor``, ``baseline``, ``level``, ``held`` (the others' levels), ``g_av`` and the columns of ``_tested``; n
        counts the seeds with both runs.
    """
    rows = []
    for axis, factor in enumerate(table.levels):
        others = [name for name in table.levels if name != factor]
        by_level = np.moveaxis(table.of(factor), axis, 0)
        for place in range(1, len(by_level)):
            for held in product(*(range(len(table.levels[name])) for name in others)):
                baseline, treated = by_level[0][held], by_level[place][held]
                seeds = ~np.isnan(treated - baseline)
                if seeds.any():
                    rows.append(
                        {"factor": factor, "baseline": table.levels[factor][0], "level": table.levels[factor][place]}
                        | {"held": {name: table.levels[name][i] for name, i in zip(others, held, strict=True)}}
                        | _pairs(baseline[seeds], treated[seeds])
                        | {"g_av": float(hedges_g_av(baseline[seeds], treated[seeds]))}
                    )
    return _tested(rows, smallest_effect, table.rule)


def main_effects(
    table: Grid,
    smallest_effect: float | None = None,
    only: str | None = None,
    besides: Collection[tuple[str, str, str]] = (),
) -> pd.DataFrame:
    """The effect of each factor, or of ``only`` one, on the accuracy, averaged over all settings of the others.

    Comparisons in ``besides`` (factor, ``repr`` of baseline and level) are left out: another family has them.

    The average is taken within a seed; interval and test are over seeds. A setting without any pair is left out. A seed
    that lacks one of the other settings is also left out, because its average would be over other settings.

    Returns:
        ``factor``, ``baseline``, ``level``, ``averaged`` and ``possible`` (settings), ``lowest`` and ``highest`` (mean
        difference among the settings), ``g_av``, the columns of ``_tested`` (n is 0 if no seed has all settings), and
        ``needed``: see ``seeds_needed``, for undecided ones.
    """
    rows = []
    for axis, factor in enumerate(table.levels):
        if only not in (None, factor):
            continue
        by_level = np.moveaxis(table.of(factor), axis, 0).reshape(len(table.levels[factor]), -1, len(table.seeds))
        for place in range(1, len(by_level)):
            if (factor, repr(table.levels[factor][0]), repr(table.levels[factor][place])) in besides:
                continue
            differences = by_level[place] - by_level[0]
            used = ~np.isnan(differences).all(1)
            seeds = ~np.isnan(differences[used]).any(0) & used.any()
            rows.append(
                {"factor": factor, "baseline": table.levels[factor][0], "level": table.levels[factor][place]}
                | {"averaged": int(used.sum()), "possible": int((~np.isnan(by_level)).any((0, 2)).sum())}
                | {"differences": np.empty(0), "arms": (), "g_av": np.nan, "lowest": np.nan, "highest": np.nan}
            )
            if seeds.any():
                baseline, treated = (by_level[i][used][:, seeds] for i in (0, place))
                by_setting, by_seed = (treated - baseline).mean(1), (baseline.mean(0), treated.mean(0))
                rows[-1] |= _pairs(*by_seed) | {"lowest": by_setting.min(), "highest": by_setting.max()}
                rows[-1] |= {"g_av": float(hedges_g_av(*by_seed))}
    effects = _tested(rows, smallest_effect, table.rule)
    if rows:
        needed = [
            seeds_needed(row.differences, smallest_effect, ALPHA / len(rows))
            if row.verdict == Verdict.UNDECIDED
            else None
            for row in effects.itertuples()
        ]
        effects["needed"] = pd.Series(needed, dtype=object)  # else whole numbers beside None become floats
    return effects


def primary_effects(
    runs: pd.DataFrame, factors: Sequence[str], asked: Question, baselines: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """The comparisons that answer a question, as ``main_effects``, and a family of their own for Holm's correction.

    Args:
        runs: completed ones, see ``load_runs``.
        factors, baselines: see ``grid``.
        asked: with a factor.

    Raises:
        ValueError: the runs do not contain what is to be compared.
    """
    if asked.factor is None or asked.factor not in factors:
        near = near_names(str(asked.factor), factors) if factors else "nothing varies."
        raise ValueError(f"there is no factor {printable(asked.factor)}; {near}")
    known = {repr(level): str(level) for level in runs[asked.factor]}
    if missing := [level for level in asked.levels if repr(level) not in known]:
        near = near_names(printable(missing[0]), map(printable, known.values()))
        raise ValueError(f"no completed run has {asked.factor} {printable(missing[0])}; {near}")
    if asked.metric not in runs or runs[asked.metric].isna().any():
        raise ValueError(f"there is no {asked.metric} in some or all of the completed runs.")
    if asked.levels:
        runs = runs[runs[asked.factor].map(repr).isin(map(repr, asked.levels))]
        baselines = {**(baselines or {}), asked.factor: asked.levels[0]}
    return main_effects(grid(runs, factors, baselines, asked.metric), asked.smallest_effect, asked.factor)


def interactions(table: Grid, smallest_effect: float | None = None) -> pd.DataFrame:
    """The change of one factor's effect when another factor changes, averaged over the rest.

    Computed within a seed; interval and test are over seeds. Only seeds with all settings count.

    Returns:
        ``first``, ``first_change`` (baseline and level), ``second``, ``second_change`` and the columns of ``_tested``.
    """
    rows = []
    for (i, first), (j, second) in combinations(enumerate(table.levels), 2):
        cells = np.moveaxis(table.of(first, second), (i, j), (0, 1))
        cells = cells.reshape(*cells.shape[:2], -1, len(table.seeds))
        for a, b in product(range(1, cells.shape[0]), range(1, cells.shape[1])):
            four = cells[[[0, 0], [a, a]], [[0, b], [0, b]]]
            complete = ~np.isnan(four).any((0, 1, 2))
            if complete.any():
                change = (table.levels[first][0], table.levels[first][a])
                in_presence = (table.levels[second][0], table.levels[second][b])
                rows.append(
                    {"first": first, "first_change": change, "second": second, "second_change": in_presence}
                    | _pairs(*(four[1] - four[0])[..., complete].mean(1))
                    | {"arms": tuple(four[..., complete].mean((2, 3)).flat)}
                )
    return _tested(rows, smallest_effect, table.rule)


def _pairs(baseline: NDArray[np.float64], treated: NDArray[np.float64]) -> dict[str, Any]:
    """What is compared, ``[n]`` each: the differences over seeds, and the mean of each arm."""
    arms = (float(baseline.mean()), float(treated.mean())) if len(baseline) else ()
    return {"differences": treated - baseline, "arms": arms}


def _tested(rows: list[dict[str, Any]], smallest_effect: float | None, rule: Rule) -> pd.DataFrame:
    """Comparisons, tested as one family.

    Args:
        rows: each with its ``differences`` over seeds, ``[n]``, and ``arms``, the mean accuracies compared.
        smallest_effect: see ``equivalence_p``.

    Returns:
        The rows, ``n``, ``difference``, ``wins``, ``wins_low`` and ``wins_high`` (see ``superiority``) and the columns
        of ``decided``; all NaN for n = 0.
    """
    if not rows:
        return pd.DataFrame()
    counts = np.array([len(row["differences"]) for row in rows])
    measured = np.full((len(_MEASURED), len(rows)), np.nan)
    test = _at_every_look if rule.at_every_look else _at_the_end
    for n in set(counts) - {0}:
        differences = np.stack([row["differences"] for row in rows if len(row["differences"]) == n])
        found = (*test(differences, smallest_effect), differences.mean(-1), *superiority(differences))
        measured[:, counts == n] = found
    return decided(
        pd.DataFrame(rows, dtype=object).assign(n=counts, **dict(zip(_MEASURED, measured, strict=True))), rule
    )


def _at_the_end(differences: NDArray[np.float64], smallest_effect: float | None) -> Iterator[NDArray[np.float64]]:
    """The first six of ``_MEASURED`` for differences ``[k, n]``, by t-tests for a number of seeds that was fixed."""
    wide, narrow = mean_over_seeds(differences), mean_over_seeds(differences, 1 - 2 * ALPHA)
    yield from (wide.low, wide.high, narrow.low, narrow.high, wide.p, equivalence_p(differences, smallest_effect))


def _at_every_look(differences: NDArray[np.float64], smallest_effect: float | None) -> Iterator[NDArray[np.float64]]:
    """The same by e-values, which hold although seeds were added until all was clear."""
    edge = smallest_effect or 0
    rows = []
    for row in differences.tolist():
        edges = [p_value([value + shift for value in row]) for shift in (edge, -edge)]
        small = decide(row, smallest_effect) == Verdict.EQUIVALENT
        p_equivalence = (0.0 if np.isnan(edges).any() else max(edges) / 2) if small else np.nan
        rows.append((*interval(row), *interval(row, 2 * ALPHA), p_value(row), p_equivalence))
    yield from np.array(rows).T


def decided(effects: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """Comparisons of one family with their verdicts.

    Args:
        effects: with ``arms``, ``p`` and ``p_equivalence`` (see ``equivalence_p``), and the ends of the 95 % and the
            90 % interval.

    Returns:
        With ``p_holm`` and ``p_equivalence_holm``, corrected over all rows, and the ``verdict`` by these two. ``low``
        and ``high`` are those of the 90 % interval where it is ``equivalent``: two one-sided tests at 5 % ask whether
        this one lies within the smallest effect.
    """
    corrected = {f"{name}_holm": holm(effects[name]) for name in ("p", "p_equivalence")}
    learned = [max(arms, default=1) > rule.guessing for arms in effects.arms]
    verdict = verdicts(corrected["p_holm"], corrected["p_equivalence_holm"])
    verdict = np.where(learned, verdict, Verdict.AT_CHANCE)
    ends = {end: effects[end].where(verdict != Verdict.EQUIVALENT, effects[f"{end}_90"]) for end in ("low", "high")}
    return effects.assign(**corrected, **ends, verdict=verdict)


# ---- A factor that is tuned, not studied ---------------------------------------------------------------------


def trials(runs: pd.DataFrame, factors: Sequence[str], tuned: str) -> pd.DataFrame:
    """Every level of ``tuned`` that was tried for each combination of the other factors, and the chosen one: of the
    levels that completed most seeds, the one with the best mean over seeds of the runs' own score.

    Args:
        runs: completed ones.
        factors: all that vary among them, including ``tuned``.

    Returns:
        The other factors, ``tuned``, ``n``, ``validation`` (mean of the score's metric), ``test`` (mean accuracy),
        ``chosen``, and ``at_edge``: whether the chosen level is the lowest or the highest of those tried;
        ``attrs["score"]`` is the ``Score``, ``attrs["tuned"]`` the name.

    Raises:
        ValueError: the runs have different scores, some have none, or a level is not a number.
    """
    score, *other = scores_of(runs)
    problem = ""
    if other:
        problem = f"some runs have the score {score.metric}, others {other[0].metric}"
    elif "/" not in score.metric or score.metric not in runs or runs[score.metric].isna().any():
        problem = f"some runs have no {score.words} (data.val_size=0), and the test set is for judging"
    elif not all(isinstance(level, int | float) for level in runs[tuned]):
        problem = "some of its levels are no numbers"
    if problem:
        raise ValueError(f"{tuned} cannot be chosen: {problem}. Report it as a factor with tune=[].")
    better = max if score.best == "highest" else min
    others = [name for name in factors if name != tuned]
    rows = []
    for levels, group in settings_of(runs, others):
        tried = []
        for level, seeds in settings_of(group, [tuned]):
            scores = {"validation": seeds[score.metric].mean(), "test": seeds[SCORE].astype(float).mean()}
            tried.append(levels | level | {"n": len(seeds)} | scores)
        tried.sort(key=lambda row: row[tuned])
        most = max(row["n"] for row in tried)
        best = better((row for row in tried if row["n"] == most), key=lambda row: row["validation"])
        for row in tried:
            edge = len(tried) > 1 and best in (tried[0], tried[-1])
            rows.append(row | {"chosen": row is best, "at_edge": row is best and edge})
    table = pd.DataFrame(rows, dtype=object)
    table.attrs |= {"score": score, "tuned": tuned}
    return table


def chosen_runs(runs: pd.DataFrame, tried: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """The runs at the levels that ``trials`` chose.

    Args:
        runs, factors: the arguments of ``trials``; ``tried`` is its result.
    """
    chosen = {tuple(map(repr, row)) for row in tried[tried.chosen.astype(bool)][list(factors)].itertuples(index=False)}
    return runs[[tuple(map(repr, row)) in chosen for row in runs[list(factors)].itertuples(index=False, name=None)]]
