"""Reasons to doubt a conclusion: missing jobs, changed code, different package versions, mixed settings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from src.analysis.effects import settings_of, without_repetitions
from src.analysis.figures import label, level_name
from src.analysis.statistics import ALPHA, t_isf
from src.analysis.table import SCORE, confounders, revisions
from src.analysis.variation import never_varied
from src.runs.escaping import plural, printable
from src.runs.identity import CONTENT, NO_TTA, TESTED, TESTED_ON, TTA
from src.runs.question import Question, hardly_learned, restated
from src.sweeps.jobs import ENDED


def caveats(everything: pd.DataFrame, runs: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """One sentence per caveat, the most serious first; empty if there are none.

    Args:
        everything: all jobs, see ``load_runs``.
        runs: the completed runs of the report, without repetitions.
        factors: all that vary among ``runs``.
    """
    completed = everything[everything.status == "completed"]  # repetitions too: they were made with some code
    return [
        *_incomplete(everything),
        *_until_decided(runs),
        *_seeds_added(everything),
        *_unequal_seeds(runs, factors),
        *_few_seeds(runs, factors),
        *never_varied(runs),
        *_other_images(runs),
        *_in_step_with_the_seed(runs),
        *_confounded(runs, factors),
        *_not_tested(runs),
        *_validated_on_test_images(runs),
        *_tested_on_other_images(runs),
        *_code(completed),
        *_packages(completed),
        *_repeated(completed),
        *_stopped_early(runs),
        *_mixture("Seconds and images/s are not comparable", "on", runs.device.dropna()),
    ]


def asked_of(runs: pd.DataFrame, instead: Mapping[str, Any]) -> tuple[Question, list[str]]:
    """The question that the first of the runs stated, and a sentence if others state another one.

    Args:
        instead: what is asked for instead, see ``restated``.

    Raises:
        ValueError: a value of ``instead`` is not of its kind.
    """
    stated = runs.sort_values("started", kind="stable").asked.dropna()
    asked, versions = next(iter(stated), Question()), stated.map(repr).nunique()
    found = []
    if versions > 1:
        found.append(
            f"Question, primary comparison or smallest effect are not the same in all runs: {versions} versions. "
            "That of the first run counts; another one may have been stated when results were known."
        )
    now = restated(asked, instead)
    changed = [
        f"{name.replace('_', ' ')} is {_in_words(new)} in this report, and was {_in_words(old)} when they were started"
        for name, old, new in zip(Question._fields, asked, now, strict=True)
        if old != new
    ]
    if changed:
        found.append(f"What is asked was changed after the runs: {'; '.join(changed)}.")
    return now, found


def _in_words(value: Any) -> str:
    if isinstance(value, float):
        return plural(100 * value, "point")
    return printable(", ".join(map(str, value)) if isinstance(value, tuple) else value or "") or "none"


def _incomplete(everything: pd.DataFrame) -> Iterator[str]:
    if not everything.status.isin(ENDED).all():
        done = everything.status == "completed"
        counts = ", ".join(f"{count} {status}" for status, count in everything.status[~done].value_counts().items())
        yield (
            f"The sweep is incomplete: {done.sum()} of {len(everything)} jobs completed ({counts}). "
            "Jobs that are not completed are in no figure and no average; they are listed under “Jobs”."
        )


def _until_decided(runs: pd.DataFrame) -> Iterator[str]:
    if runs.until.any():
        asked = {asked.factor for asked in runs.asked.dropna()}
        which = "another" if asked == {TTA} else "the primary"  # no run is added for a test
        yield (
            f"Seeds were added one by one, until {which} comparison was decided or max_seeds was reached. Intervals "
            "and p-values of comparisons hold in spite of that (e-value, Gönen et al. 2005, "
            "doi:10.1198/000313005X55233); intervals of means do not."
        )


def _seeds_added(everything: pd.DataFrame) -> Iterator[str]:
    # An interrupted launch asked for the seeds of the jobs that have not started, too.
    seeds = everything.seed.fillna(everything.job.str.extract(r"(?:^|, )seed=(\d+)", expand=False))
    jobs = everything.assign(seed=seeds.map(str, na_action="ignore")).explode("launches")
    decided = set(everything.sweep[everything.until.astype(bool)])  # a test allowed for their seeds
    jobs = jobs[~jobs.sweep.isin(decided)].dropna(subset=["launches", "seed"])
    of_launches = jobs.groupby(["sweep", "launches"]).seed.unique()
    asked = dict.fromkeys(", ".join(sorted(seeds, key=lambda seed: (len(seed), seed))) for seeds in of_launches)
    if len(asked) > 1:
        yield (
            f"Not all launches of {', '.join(dict.fromkeys(jobs.sweep))} asked for the same seeds "
            f"({'; '.join(asked)}). If some were added because of what others showed, intervals and p-values are too "
            "good (optional stopping); until=decided adds seeds with a test that allows for it."
        )


def _unequal_seeds(runs: pd.DataFrame, factors: Sequence[str]) -> Iterator[str]:
    counts = [len(group) for _, group in settings_of(runs, factors)]
    if len(set(counts)) > 1:
        yield (
            f"Configurations have from {min(counts)} to {max(counts)} seeds. Differences are taken only between runs "
            "of the same seed, so they may rest on fewer runs than the means suggest."
        )


def _few_seeds(runs: pd.DataFrame, factors: Sequence[str]) -> Iterator[str]:
    most = max(len(group) for _, group in settings_of(runs, factors))
    if most == 1:
        yield "One seed: nothing tells an effect from luck. Run more, such as seed=1,2,3."
    if 1 < most < 5:
        yield (
            f"{most} seeds: their spread is known to {plural(most - 1, 'degree')} of freedom, so that an interval "
            f"spans {t_isf(ALPHA / 2, most - 1):.1f} standard errors either way, and only a large effect is "
            "found. With five seeds it is 2.8."
        )


def _other_images(runs: pd.DataFrame) -> Iterator[str]:
    contents = pd.Series([settings.get(CONTENT) for settings in runs.settings], dtype=object)
    if "images" in runs:
        what = "The images, labels or classes are not the same in all runs, though their names are"
        yield from _mixture(what, "on", contents.dropna().map(lambda content: printable(content)[:8]))
    if unknown := int(contents.isna().sum()):
        yield (
            f"{unknown} of {len(runs)} runs did not record the content of their images: that they saw the same as the "
            "others is not certain."
        )


def _in_step_with_the_seed(runs: pd.DataFrame) -> Iterator[str]:
    keys = dict.fromkeys(key for settings in runs.settings for key in settings if "seed" not in key)
    seeds = runs.seed.tolist()
    same = [key for key in keys if [settings.get(key) for settings in runs.settings] == seeds]
    if same and len(set(seeds)) > 1:
        yield f"Along with the seed changes {', '.join(same)}: the spread over seeds is that of both."


def _confounded(runs: pd.DataFrame, factors: Sequence[str]) -> Iterator[str]:
    for factor in factors:
        if others := confounders(runs, factor):
            yield f"Along with {factor} changes {', '.join(others)}: its effect is that of all of them together."


def _not_tested(runs: pd.DataFrame) -> Iterator[str]:
    if untested := int(runs[SCORE].isna().sum()):
        yield (
            f"{untested} of {len(runs)} runs were not tested (test=false). Accuracies are those of validation images, "
            "which chose the epochs, and so are optimistic. To test one: python -m src.eval ckpt=FOLDER"
        )


def _tested_on_other_images(runs: pd.DataFrame) -> Iterator[str]:
    if any(TESTED in settings for settings in runs.settings):
        where = dict.fromkeys(printable(settings.get(TESTED_ON)) for settings in runs.settings)
        yield f"Tested on other images than those of the runs' own data set: {'; '.join(where)}."


def _validated_on_test_images(runs: pd.DataFrame) -> Iterator[str]:
    runs = runs[[settings.get(TTA, NO_TTA) == NO_TTA for settings in runs.settings]]
    same = (runs.get("val/accuracy") == runs["test/accuracy"]) & (runs.get("val/loss") == runs.get("test/loss"))
    if len(runs) and same.all():
        yield "The test images served as validation set: epochs were chosen on them, so accuracies are optimistic."


def _code(runs: pd.DataFrame) -> Iterator[str]:
    names = pd.Series(revisions(runs), dtype=object)
    yield from _mixture("The runs were made with different revisions of the code", "at", names)
    if modified := int((runs.modified == True).sum()):  # noqa: E712  (it may be None)
        yield f"{modified} of {len(runs)} runs were made with files changed since the commit they name."
    if changed := int((runs.revisions > 1).sum()):
        yield f"{changed} of {len(runs)} runs were interrupted and went on with other code than they began with."


def _packages(runs: pd.DataFrame) -> Iterator[str]:
    names = dict.fromkeys(name for versions in runs.versions.dropna() for name in versions)
    for name in names:
        found = runs.versions.map(lambda versions: (versions or {}).get(name, "unknown"))  # noqa: B023
        yield from _mixture(f"The runs were made with different versions of {name}", "with", found)


def _repeated(completed: pd.DataFrame) -> Iterator[str]:
    if left_out := len(completed) - len(without_repetitions(completed)):
        yield f"Completed jobs that repeat others exactly (equal fingerprint): {left_out}. Each experiment counts once."


def _stopped_early(runs: pd.DataFrame) -> Iterator[str]:
    requested = pd.Series([settings.get("trainer.max_epochs") for settings in runs.settings], runs.index, dtype=object)
    requested = pd.to_numeric(requested, errors="coerce")
    if early := int((runs.epochs_done.astype(float) < requested).sum()):
        yield f"{early} of {len(runs)} runs were ended before their last epoch."


def _mixture(what: str, preposition: str, values: pd.Series) -> Iterator[str]:
    """A sentence with the number of runs by value, if there are several."""
    counts = values.value_counts()
    if len(counts) > 1:
        yield f"{what}: {', '.join(f'{count} {preposition} {value}' for value, count in counts.items())}."


def unequally_tuned(tried: pd.DataFrame, others: Sequence[str], tuned: str) -> Iterator[str]:
    """A sentence, if needed, on configurations for which ``src.analysis.effects.trials`` had fewer levels than for
    others: their best is the best of fewer (Dodge et al. 2019)."""
    counts = [(label(levels, others), len(group)) for levels, group in settings_of(tried, others)]
    most = max(count for _, count in counts)
    if fewer := "; ".join(f"{name} ({count})" for name, count in counts if count < most):
        yield (
            f"Not tuned alike: {tuned} was chosen among fewer values for {fewer} than for others ({most}). "
            "What was tuned less may be behind for that reason."
        )


def at_grid_edge(tried: pd.DataFrame, others: Sequence[str], tuned: str) -> Iterator[str]:
    """A sentence, if needed, on levels chosen by ``src.analysis.effects.trials`` at the edge of the grid."""
    edges = tried[tried.at_edge.astype(bool)]
    if where := "; ".join(f"{label(row, others)} ({level_name(row[tuned])})" for _, row in edges.iterrows()):
        yield (
            f"The best {tuned} is at the edge of those tried for {where}: a better one may lie beyond, so widen the "
            "grid."
        )


def barely_above_chance(table: pd.DataFrame, factors: Sequence[str]) -> Iterator[str]:
    """A sentence, if needed, on configurations that are above chance but have hardly learned, while another one has.

    Args:
        table: see ``configurations`` in ``src.analysis.effects``.
    """
    means, known = table["mean"].astype(float), table[table.classes.notna()]
    bounds = known.classes.map(hardly_learned).reindex(table.index)
    arms = table[(means > table.guessing) & (means < bounds)]
    if arms.empty or not (means >= bounds).any():
        return
    names = [f"{label(arm, factors)} ({arm['mean']:.1%})" for _, arm in arms.iterrows()]
    more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
    chance = " or ".join(dict.fromkeys(f"{1 / classes:.1%}" for classes in arms.classes))
    yield (
        f"Hardly above chance, {chance}: {'; '.join(names[:3])}{more}. A network that has only begun to learn "
        "may need another learning rate or more epochs; what sets it apart need not be the reason."
    )
