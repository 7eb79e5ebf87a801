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
from src.runs.errors import DIVERGED, near_names
from src.runs.escaping import printable
from src.runs.identity import ABSENT, plain_value
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


def guessing_of(runs: pd.DataFrame, metric: str | None = None) -> list[float]:
    """The accuracy, 0 to 1, that guessing exceeds only by luck, see ``guessing``, of each run; ``metric`` as for
    ``grid``."""
    images = runs[f"{(metric or judged_by(runs)).split('/')[0]}_images"].astype(float)
    return [guessing(len(names or ()), count) for names, count in zip(runs.classes, images, strict=True)]


def classes_of(runs: pd.DataFrame) -> int | None:
    """The number of classes; two for runs that did not record them, None if not all have the same."""
    counts = {max(len(names or ()), 2) for names in runs.classes}
    return counts.pop() if len(counts) == 1 else None


class Grid(NamedTuple):
    """The runs as an array.

    Args:
        levels: of each factor, in the order of the axes; the first is its baseline.
        seeds: the last axis.
        scores: ``[*levels, seeds]``, NaN if there is no run. A run without one of the factors (a network without a
            width setting) is entered at all levels of that factor.
        guessing: of the same shape, see ``guessing_of``.
        numbers: likewise, the number of the run, below 0 if there is none.
        lacking: by factor, a mask of ``scores``, bool of the same shape: the run does not have the factor.
        left_out: folders of runs whose cell another run has.
        metric: what the scores are.
        at_every_look: seeds were added until all was clear, so that they are compared by e-values
            (``src.sweeps.always_valid``), not by t-tests.
    """

    levels: dict[str, list[Any]]
    seeds: list[Any]
    scores: NDArray[np.float64]
    guessing: NDArray[np.float64]
    numbers: NDArray[np.int64]
    lacking: Mapping[str, NDArray[np.bool_]] = MappingProxyType({})
    left_out: Sequence[Path] = ()
    metric: str = SCORE
    at_every_look: bool = False

    def of(self, *factors: str) -> NDArray[np.float64]:
        """The scores of runs that have these factors, NaN elsewhere."""
        lacking = np.any([self.lacking.get(factor, np.False_) for factor in factors], axis=0)
        return np.where(lacking, np.nan, self.scores)

    def by(self, *factors: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """``of`` these factors, ``guessing`` and ``numbers``, ``[*levels of the factors, settings, seeds]`` each: the
        settings of the others in the order of ``product``."""
        scores, guessing, numbers = (self.flat(a, *factors) for a in (self.of(*factors), self.guessing, self.numbers))
        return scores, guessing, numbers

    def flat(self, array: NDArray[Any], *factors: str) -> NDArray[Any]:
        """An array of the shape of ``scores``, as in ``by``."""
        axes = [list(self.levels).index(factor) for factor in factors]
        array = np.moveaxis(array, axes, range(len(axes)))
        return array.reshape(*array.shape[: len(axes)], -1, len(self.seeds))


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
    scores, luck, numbers = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, -1)
    lacking = {factor: np.zeros(scores.shape, bool) for factor in factors}
    left_out = []
    records = runs[list(dict.fromkeys([*factors, "seed", "folder", metric]))].to_dict("records")
    guesses = guessing_of(runs, metric)
    order = sorted(enumerate(records), key=lambda item: [item[1][factor] for factor in factors].count(ABSENT))
    for number, run in order:
        there = (places[factor].get(repr(run[factor]), slice(None)) for factor in factors)
        place = (*there, seeds.index(run["seed"]))
        if not np.isnan(scores[place]).all():
            left_out.append(run["folder"])
            continue
        scores[place], luck[place], numbers[place] = run[metric], guesses[number], number
        for factor in factors:
            lacking[factor][place] = run[factor] == ABSENT
    return Grid(levels, seeds, scores, luck, numbers, lacking, left_out, metric, bool(runs.until.any()))


def without_repetitions(runs: pd.DataFrame) -> pd.DataFrame:
    """The first of all runs of the same experiment (equal fingerprint)."""
    return runs[~runs.fingerprint.duplicated() | runs.fingerprint.isna()]


def configurations(runs: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """One row per combination of ``factors`` that was run: mean, standard deviation and interval of the accuracy
    over seeds, and the mean of every other numeric column; ``attrs["metric"]`` says which accuracy."""
    metric = judged_by(runs)
    runs = runs.assign(guessing=guessing_of(runs, metric))
    also = ("val/accuracy", "train/loss", "parameters", "flops_per_image", "seconds", "images_per_second")
    rows = []
    for levels, group in settings_of(runs, factors):
        mean = mean_over_seeds(group[metric].to_numpy(float))
        rows.append(
            levels
            | {"classes": classes_of(group), "guessing": float(group.guessing.mean())}
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
    table: pd.DataFrame, factors: Sequence[str], smallest_effect: float | None = None, *, at_every_look: bool = False
) -> pd.DataFrame:
    """Compare every other configuration with the one of the highest mean accuracy, paired by seed.

    Args:
        table: the result of ``configurations``.
        smallest_effect: see ``equivalence_p``.
        at_every_look: see ``Grid``.

    Returns:
        ``factors`` and the columns of ``_tested``; the highest mean first.
    """
    table = table.sort_values("mean", ascending=False, kind="stable")
    scores = [dict(zip(row.seeds, row.scores, strict=True)) for _, row in table.iterrows()]
    rows = []
    for (_, row), other in zip(table.iloc[1:].iterrows(), scores[1:], strict=True):
        shared = [seed for seed in scores[0] if seed in other]
        pairs = np.array([(scores[0][seed], other[seed]) for seed in shared]).reshape(-1, 2)
        luck = np.array([table.guessing.iloc[0], row.guessing])
        rows.append({factor: row[factor] for factor in factors} | _pairs(pairs.T, luck))
    return _tested(rows, smallest_effect, at_every_look)


def settings_of(runs: pd.DataFrame, factors: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Runs with equal levels of ``factors``; levels may be None, which pandas' groupby would drop."""
    levels = [runs[factor].map(repr) for factor in factors]
    keys = ["|".join(key) for key in zip(*levels, strict=True)] if factors else [""] * len(runs)
    for _, group in runs.groupby(np.array(keys, dtype=object), sort=False):  # a list could name columns
        yield group.iloc[0][list(factors)].to_dict(), group


def simple_effects(table: Grid, smallest_effect: float | None = None) -> pd.DataFrame:
    """The effect of one factor alone on the accuracy, for every setting of the other factors.

    Returns:
        ``factor``, ``baseline``, ``level``, ``held`` (the others' levels, ``ABSENT`` where neither run has the factor),
        ``g_av`` and the columns of ``_tested``; n counts the seeds with both runs.
    """
    rows = []
    for factor, levels in table.levels.items():
        others = {name: table.levels[name] for name in table.levels if name != factor}
        scores, guessing, numbers = table.by(factor)
        lacking = {name: table.flat(table.lacking[name], factor) for name in others if name in table.lacking}
        for place in range(1, len(levels)):
            both = [0, place]
            first = _first(numbers[both])
            for setting, held in enumerate(product(*others.values())):
                seeds = ~np.isnan(scores[both, setting]).any(0)
                if first[setting] and seeds.any():
                    arms, luck = scores[both, setting][:, seeds], guessing[both, setting][:, seeds]
                    of = dict(zip(others, held, strict=True))
                    of |= {name: ABSENT for name in lacking if lacking[name][both, setting][:, seeds].all()}
                    rows.append(
                        {"factor": factor, "baseline": levels[0], "level": levels[place], "held": of}
                        | _pairs(arms, luck)
                        | {"g_av": float(hedges_g_av(*arms))}
                    )
    return _tested(rows, smallest_effect, table.at_every_look)


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
        ``factor``, ``baseline``, ``level``, ``averaged`` and ``possible`` (settings), ``at_chance`` (those of them in
        which neither arm learned), ``lowest`` and ``highest`` (mean difference among the settings), ``g_av``, the
        columns of ``_tested`` (n is 0 if no seed has all settings), and ``needed``: see ``seeds_needed``, for undecided
        ones.
    """
    rows = []
    for factor, levels in table.levels.items():
        if only not in (None, factor):
            continue
        scores, guessing, numbers = table.by(factor)
        for place in range(1, len(levels)):
            if (factor, repr(levels[0]), repr(levels[place])) in besides:
                continue
            both = [0, place]
            differences = scores[place] - scores[0]
            paired = ~np.isnan(differences).all(1)
            used = paired & _first(numbers[both])
            seeds = ~np.isnan(differences[used]).any(0) & used.any()
            missing = (~np.isnan(scores)).any((0, 2)) & ~paired
            rows.append(
                {"factor": factor, "baseline": levels[0], "level": levels[place]}
                | {"averaged": int(used.sum()), "possible": int(used.sum() + missing.sum()), "at_chance": 0}
                | {"differences": np.empty(0), "arms": (), "guessing": np.nan, "g_av": np.nan}
                | {"lowest": np.nan, "highest": np.nan}
            )
            if seeds.any():
                arms, luck = (array[both][:, used][..., seeds] for array in (scores, guessing))
                by_setting, by_seed = (arms[1] - arms[0]).mean(1), arms.mean(1)
                rows[-1] |= _pairs(by_seed, luck) | {"g_av": float(hedges_g_av(*by_seed))}
                rows[-1] |= {"lowest": by_setting.min(), "highest": by_setting.max()}
                rows[-1] |= {"at_chance": int((arms.mean(2) <= luck.mean(2)).all(0).sum())}
    effects = _tested(rows, smallest_effect, table.at_every_look)
    if rows:
        needed = [
            seeds_needed(row.differences, smallest_effect, ALPHA / len(rows), at_every_look=table.at_every_look)
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
    known = {repr(plain_value(level)): level for level in runs[asked.factor]}  # 1.0 and 1 are one level
    if missing := [level for level in asked.levels if repr(level) not in known]:
        near = near_names(printable(missing[0]), map(printable, known.values()))
        raise ValueError(f"no completed run has {asked.factor} {printable(missing[0])}; {near}")
    if asked.metric not in runs or runs[asked.metric].isna().any():
        raise ValueError(f"there is no {asked.metric} in some or all of the completed runs.")
    if asked.levels:
        levels = [known[repr(level)] for level in asked.levels]
        runs = runs[runs[asked.factor].map(repr).isin(map(repr, levels))]
        baselines = {**(baselines or {}), asked.factor: levels[0]}
    return main_effects(grid(runs, factors, baselines, asked.metric), asked.smallest_effect, asked.factor)


def interactions(table: Grid, smallest_effect: float | None = None) -> pd.DataFrame:
    """The change of one factor's effect when another factor changes, averaged over the rest.

    Computed within a seed; interval and test are over seeds. Only seeds with all settings count.

    Returns:
        ``first``, ``first_change`` (baseline and level), ``second``, ``second_change`` and the columns of ``_tested``.
    """
    rows = []
    for first, second in combinations(table.levels, 2):
        scores, guessing, numbers = table.by(first, second)
        for a, b in product(range(1, scores.shape[0]), range(1, scores.shape[1])):
            corners = ([[0, 0], [a, a]], [[0, b], [0, b]])
            once = _first(numbers[corners].reshape(4, *numbers.shape[2:]))
            four, luck = scores[corners][:, :, once], guessing[corners][:, :, once]
            complete = ~np.isnan(four).any((0, 1, 2))
            if complete.any():
                change = (table.levels[first][0], table.levels[first][a])
                in_presence = (table.levels[second][0], table.levels[second][b])
                rows.append(
                    {"first": first, "first_change": change, "second": second, "second_change": in_presence}
                    | _pairs((four[1] - four[0])[..., complete].mean(1), luck[..., complete])
                    | {"arms": tuple(four[..., complete].mean((2, 3)).flat)}
                )
    return _tested(rows, smallest_effect, table.at_every_look)


def _first(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a setting is the first of those with the same runs: runs without a factor are at all of its levels.

    Args:
        numbers: of the runs, ``[arms, settings, seeds]``.

    Returns:
        ``[settings]``.
    """
    arms, settings, seeds = numbers.shape
    _, places = np.unique(numbers.swapaxes(0, 1).reshape(settings, arms * seeds), axis=0, return_index=True)
    return np.isin(np.arange(settings), places)


def _pairs(pairs: NDArray[np.float64], luck: NDArray[np.float64]) -> dict[str, Any]:
    """What is compared, baseline and treated, ``[2, n]``: the differences over seeds, the mean of each arm, and that of
    ``guessing_of``."""
    arms = tuple(pairs.mean(1).tolist()) if pairs.size else ()
    return {"differences": pairs[1] - pairs[0], "arms": arms, "guessing": luck.mean()}


def _tested(rows: list[dict[str, Any]], smallest_effect: float | None, at_every_look: bool) -> pd.DataFrame:
    """Comparisons, tested as one family.

    Args:
        rows: each with its ``differences`` over seeds, ``[n]``, ``arms``, the mean accuracies compared, and
            ``guessing``, the accuracy of luck.
        smallest_effect: see ``equivalence_p``.
        at_every_look: see ``Grid``.

    Returns:
        The rows, ``n``, ``difference``, ``wins``, ``wins_low`` and ``wins_high`` (see ``superiority``) and the columns
        of ``decided``; all NaN for n = 0.
    """
    if not rows:
        return pd.DataFrame()
    counts = np.array([len(row["differences"]) for row in rows])
    measured = np.full((len(_MEASURED), len(rows)), np.nan)
    test = _at_every_look if at_every_look else _at_the_end
    for n in set(counts) - {0}:
        differences = np.stack([row["differences"] for row in rows if len(row["differences"]) == n])
        found = (*test(differences, smallest_effect), differences.mean(-1), *superiority(differences))
        measured[:, counts == n] = found
    return decided(pd.DataFrame(rows, dtype=object).assign(n=counts, **dict(zip(_MEASURED, measured, strict=True))))


def _at_the_end(differences: NDArray[np.float64], smallest_effect: float | None) -> Iterator[NDArray[np.float64]]:
    """The first six of ``_MEASURED`` for differences ``[k, n]``, by t-tests for a number of seeds that was fixed."""
    wide, narrow = mean_over_seeds(differences), mean_over_seeds(differences, 1 - 2 * ALPHA)
    yield from (wide.low, wide.high, narrow.low, narrow.high, wide.p, equivalence_p(differences, smallest_effect))


def _at_every_look(differences: NDArray[np.float64], smallest_effect: float | None) -> Iterator[NDArray[np.float64]]:
    """The same by e-values, which hold although seeds were added until all was clear."""
    edge = smallest_effect or 0
    rows = []
    for row in differences.tolist():
        # All count in Holm's family, those that are far from equivalent as well.
        larger = max(p_value([value + shift for value in row]) for shift in (edge, -edge)) / 2
        if np.isnan(larger):  # no spread
            larger = 0.0 if decide(row, smallest_effect) == Verdict.EQUIVALENT else np.nan
        elif abs(sum(row)) >= edge * len(row):
            larger = 1.0
        rows.append((*interval(row), *interval(row, 2 * ALPHA), p_value(row), larger if edge else np.nan))
    yield from np.array(rows).T


def decided(effects: pd.DataFrame) -> pd.DataFrame:
    """Comparisons of one family with their verdicts.

    Args:
        effects: with ``arms``, ``guessing``, ``p`` and ``p_equivalence`` (see ``equivalence_p``), and the ends of the
            95 % and the 90 % interval.

    Returns:
        With ``p_holm`` and ``p_equivalence_holm``, corrected over all rows, and the ``verdict`` by these two. ``low``
        and ``high`` are those of the 90 % interval where it is ``equivalent``: two one-sided tests at 5 % ask whether
        this one lies within the smallest effect.
    """
    corrected = {f"{name}_holm": holm(effects[name]) for name in ("p", "p_equivalence")}
    learned = [not max(arms, default=1) <= luck for arms, luck in zip(effects.arms, effects.guessing, strict=True)]
    verdict = verdicts(corrected["p_holm"], corrected["p_equivalence_holm"])
    verdict = np.where(learned, verdict, Verdict.AT_CHANCE)
    ends = {end: effects[end].where(verdict != Verdict.EQUIVALENT, effects[f"{end}_90"]) for end in ("low", "high")}
    return effects.assign(**corrected, **ends, verdict=verdict)


# ---- A factor that is tuned, not studied ---------------------------------------------------------------------


def trials(
    runs: pd.DataFrame, factors: Sequence[str], tuned: str, everything: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Every level of ``tuned`` that was tried for each combination of the other factors, and the chosen one: of the
    levels that completed most seeds, the one with the best mean over seeds of the runs' own score.

    Args:
        runs: completed ones.
        factors: all that vary among them, including ``tuned``.
        everything: all jobs; a level at which all seeds diverged was tried, too, and has n = 0.

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
    sign = 1 if score.best == "highest" else -1
    others = [name for name in factors if name != tuned]
    rows = []
    jobs = runs.iloc[:0] if everything is None else everything
    diverged = [job for _, job in jobs.iterrows() if DIVERGED in str(job.error) and isinstance(job[tuned], int | float)]
    for levels, group in settings_of(runs, others):
        alike = {job[tuned] for job in diverged if all(repr(job[name]) == repr(levels[name]) for name in others)}
        tried = [
            {**levels, tuned: level, "n": 0, "validation": np.nan, "test": np.nan}
            for level in alike - set(group[tuned])
        ]
        for level, seeds in settings_of(group, [tuned]):
            scores = {"validation": seeds[score.metric].mean(), "test": seeds[SCORE].astype(float).mean()}
            tried.append(levels | level | {"n": len(seeds)} | scores)
        tried.sort(key=lambda row: row[tuned])
        best = max(tried, key=lambda row: (row["n"], sign * row["validation"]))
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
