"""The conclusion in plain words; no statement is stronger than its test."""

from collections.abc import Callable, Sequence

import pandas as pd

from src.analysis.effects import settings_of
from src.analysis.figures import label, level_name
from src.analysis.page.page import Finding
from src.analysis.statistics import ALPHA, Verdict
from src.analysis.table import SCORE, WORDS
from src.runs.escaping import plural


def conclusion(
    table: pd.DataFrame,
    against_best: pd.DataFrame,
    effects: pd.DataFrame,
    interactions: pd.DataFrame,
    factors: Sequence[str],
    tried: pd.DataFrame | None,
    smallest_effect: float | None = None,
    commands: Callable[..., Sequence[str]] = lambda **what: (),
) -> list[Finding]:
    """Sentences on the best configuration, on each comparison with a baseline, and on interactions, by ``Verdict``.

    Args:
        table: see ``configurations`` in ``src.analysis.effects``.
        against_best, effects, interactions: see ``compare_with_best``, ``main_effects`` and ``interactions`` there.
        factors: all that are compared.
        tried: if a factor was tuned for each configuration, the result of ``src.analysis.effects.trials``.
        smallest_effect: see ``equivalence_p`` in ``src.analysis.statistics``.
        commands: see ``page_of``.

    Returns:
        Verdicts first, in the order of ``Verdict``, then what is only measured.
    """
    findings = [_highest(table, against_best, factors, smallest_effect)]
    findings += compared(effects, factors, tried, smallest_effect, commands, table.attrs["metric"])
    if len(interactions) and (interactions.n > 1).any():
        found = interactions[interactions.verdict == Verdict.DIFFERS]
        findings += [_interaction(effect, len(interactions)) for _, effect in found.iterrows()]
        small, open_ = ((interactions.verdict == kind).sum() for kind in (Verdict.EQUIVALENT, Verdict.UNDECIDED))
        if small:
            text = f"{plural(small, 'interaction')} of two factors: equivalent to none, {_margin(smallest_effect)}."
            findings.append(Finding(Verdict.EQUIVALENT, text))
        if open_:
            findings.append(Finding(Verdict.UNDECIDED, f"{plural(open_, 'interaction')} of two factors: undecided."))
    return sorted(findings, key=lambda finding: (*Verdict, None).index(finding.kind))


def compared(
    effects: pd.DataFrame,
    factors: Sequence[str],
    tried: pd.DataFrame | None,
    smallest_effect: float | None,
    commands: Callable[..., Sequence[str]],
    metric: str = SCORE,
) -> list[Finding]:
    """A sentence on each comparison of one family; see ``conclusion``."""
    return [
        _compared(effect, len(effects), factors, tried, smallest_effect, commands, WORDS[metric])
        for _, effect in effects.iterrows()
    ]


def points(difference: float) -> str:
    """A difference of accuracies in percentage points, signed."""
    return f"{100 * difference:+.1f}"


def span(low: float, high: float) -> str:
    """An interval of a difference in percentage points, cut at -100 and 100."""
    return f"[{points(max(low, -1))}, {points(min(high, 1))}]"


def accuracy_span(low: float, high: float) -> str:
    """An interval of an accuracy in percent, cut at 0 and 100."""
    return f"{100 * max(low, 0):.1f} to {100 * min(high, 1):.1f}"


def p_value(p: float) -> str:
    """Three decimals; below 0.001 only that is said."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def probability(effect: pd.Series) -> str:
    """P(A > B) with its interval, see ``superiority`` in ``src.analysis.statistics``."""
    return f"{effect.wins:.2f} [{effect.wins_low:.2f}, {effect.wins_high:.2f}]"


def _margin(smallest_effect: float | None) -> str:
    return f"within ±{plural(100 * (smallest_effect or 0), 'point')}"


def _highest(
    table: pd.DataFrame, against_best: pd.DataFrame, factors: Sequence[str], smallest_effect: float | None
) -> Finding:
    best = table.loc[table["mean"].astype(float).idxmax()]
    interval = f" (95 % interval {accuracy_span(best.low, best.high)})" if best.n > 1 else ""
    measured = f"{best['mean']:.1%} {WORDS[table.attrs['metric']]}"
    text = f"{label(best, factors)}: {measured} over {plural(best.n, 'seed')}{interval}"
    if len(table) == 1:
        return Finding(None, f"{text}.")
    text += f", the highest of {len(table)} configurations, so flattered a little by luck."
    if best.n > 1:
        alike = {f"Equivalent to it, {_margin(smallest_effect)}": Verdict.EQUIVALENT, "Undecided": Verdict.UNDECIDED}
        for words, verdict in alike.items():
            names = [label(other, factors) for _, other in against_best[against_best.verdict == verdict].iterrows()]
            more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
            text += f" {words}: {'; '.join(names[:3])}{more}." if names else ""
        if (against_best.verdict == Verdict.DIFFERS).all():
            text += " Every other configuration differs from it."
    return Finding(None, text)


def _compared(
    effect: pd.Series,
    family: int,
    factors: Sequence[str],
    tried: pd.DataFrame | None,
    smallest_effect: float | None,
    commands: Callable[..., Sequence[str]],
    metric: str,
) -> Finding:
    level, baseline = level_name(effect.level), level_name(effect.baseline)
    name = f"{effect.factor} {level} against {baseline}"
    how = _averaged(effect, factors) + _at_best(effect, factors, tried)
    difference, seeds = points(effect.difference), f"n = {plural(effect.n, 'seed')}"
    verdict = Verdict(effect.verdict)
    if effect.n == 0:
        remedy = " Finish the sweep." if commands() else ""
        return Finding(verdict, f"{name}: not compared, since no seed has all settings of both.{remedy}")
    if verdict == Verdict.AT_CHANCE:
        arms = " and ".join(dict.fromkeys(f"{100 * arm:.1f} %" for arm in effect.arms))
        why = f"both arms stayed at chance ({arms}): nothing was learned, so this says nothing about the factor"
        return Finding(verdict, f"{name}: {why}; {difference} points, {seeds}{how}.")
    if effect.n == 1:
        why = "One seed gives no interval, so this is no conclusion; run seed=1,2,3."
        return Finding(verdict, f"{name}: {difference} points with one seed{how}. {why}")
    if verdict == Verdict.EQUIVALENT and pd.isna(effect.p):
        return Finding(verdict, f"{name}: equivalent: the same {metric} in each of {seeds}{how}.")
    if pd.isna(effect.p):
        why = "without spread there is no test."
        return Finding(verdict, f"{name}: undecided: {difference} points in each of {seeds}{how}; {why}")
    varies = stuck = ""
    elsewhere = {
        Verdict.DIFFERS: effect.lowest * effect.highest < 0,
        Verdict.EQUIVALENT: max(-effect.lowest, effect.highest) >= (smallest_effect or 0),
    }
    if len(factors) > 1 and elsewhere.get(verdict):
        least, most = points(effect.lowest), points(effect.highest)
        varies = f" But not everywhere: from {least} to {most}, depending on the other factors."
    if effect.at_chance:
        stuck = f" In {effect.at_chance} of these settings both stayed at chance, which pulls the average to zero."
    measured = f"{difference} points {span(effect.low, effect.high)}"
    tested = f"p {p_value(effect.p_holm)}{_holm(family)}, {seeds}"
    if verdict == Verdict.EQUIVALENT:
        tested = f"p {p_value(effect.p_equivalence_holm)} for equivalence{_holm(family)}, {seeds}"
        more = f" It is not zero (p {p_value(effect.p_holm)}), but smaller than what matters."
        more = more if effect.p_holm < ALPHA else ""
        measured = f"{difference} points, 90 % interval {span(effect.low, effect.high)}"
        text = f"{name}: equivalent, {_margin(smallest_effect)}: {measured} ({tested}){how}."
        return Finding(verdict, f"{text}{varies}{stuck}{more}")
    if verdict == Verdict.UNDECIDED:
        alone = f"; {p_value(effect.p).removeprefix('= ')} alone" if effect.p < ALPHA else ""
        missing = 0 if effect.needed is None else effect.needed - effect.n
        more = ""
        if missing > 0:  # no full stop after a command
            more = f" About {plural(missing, 'more seed')} would decide"
            more += f": {'; '.join(lines)}" if (lines := commands(finish=False, seeds=missing)) else "."
        return Finding(verdict, f"{name}: undecided: {measured} ({tested}{alone}){how}.{stuck}{more}")
    name = f"{effect.factor} {level} differs from {baseline}"
    return Finding(verdict, f"{name} by {measured} of {metric} ({tested}){how}.{varies}{stuck}")


def _at_best(effect: pd.Series, factors: Sequence[str], tried: pd.DataFrame | None) -> str:
    """That each of the two levels compared was tuned, in words; and if not among as many values, among how many."""
    if tried is None:
        return ""
    counts = [
        [len(group) for _, group in settings_of(tried[tried[effect.factor].map(repr) == repr(level)], factors)]
        for level in (effect.level, effect.baseline)
    ]
    among = [" or ".join(map(str, sorted(set(each)))) for each in counts]
    unequal = f" (of {among[0]} and of {among[1]})" if len({*counts[0], *counts[1]}) > 1 else ""
    return f", each at its own best {tried.attrs['tuned']}{unequal}"


def _averaged(effect: pd.Series, factors: Sequence[str]) -> str:
    """The part of the grid that an effect is averaged over, in words."""
    if len(factors) == 1:
        return ""
    if effect.possible == 1:
        return ", the other factors held fixed"
    missing = effect.possible - effect.averaged
    words = f", averaged over {plural(effect.averaged, 'setting')} of the other factors"
    verb = "is" if missing == 1 else "are"
    return f"{words} ({missing} of {effect.possible} {verb} missing)" if missing else words


def _holm(family: int) -> str:
    """The correction of a p-value, in words; empty for a single comparison."""
    return f" after Holm over {family} comparisons" if family > 1 else ""


def _interaction(effect: pd.Series, family: int) -> Finding:
    change = " → ".join(map(level_name, effect.first_change))
    before, after = map(level_name, effect.second_change)
    measured = f"{points(effect.difference)} points {span(effect.low, effect.high)}"
    tested = f"p {p_value(effect.p_holm)}{_holm(family)}, n = {effect.n} seeds"
    depends = f"What {effect['first']} ({change}) is worth depends on {effect.second}"
    text = f"{depends}: with {after}, {measured} on top of what it is with {before} ({tested})."
    return Finding(Verdict.DIFFERS, text)
