"""The conclusion in plain words; no statement is stronger than its test."""

from collections.abc import Sequence

import pandas as pd

from src.analysis.figures import label, level_name
from src.analysis.page.page import Finding
from src.analysis.statistics import ALPHA


def conclusion(
    table: pd.DataFrame,
    against_best: pd.DataFrame,
    effects: pd.DataFrame,
    interactions: pd.DataFrame,
    factors: Sequence[str],
    tuned: str | None,
) -> list[Finding]:
    """Sentences on the best configuration, on each comparison with a baseline and each interaction found; significant
    ones come first.

    Args:
        table: see ``configurations`` in ``src.analysis.effects``.
        compare_with_best, interactions: see the functions of these names there.
        effects: see ``main_effects`` there.
        factors: all that are compared.
        tuned: the factor that is tuned for each configuration, if any.
    """
    findings = [_highest(table, against_best, factors)]
    findings += [_compared(effect, len(effects), factors, tuned) for _, effect in effects.iterrows()]
    found = [effect for _, effect in interactions.iterrows() if effect.p_holm < ALPHA]
    findings += [_interaction(effect, len(interactions)) for effect in found]
    if len(interactions) and not found and (interactions.n > 1).any():
        findings.append(Finding("open", "No interaction of two factors was told from luck, which proves none absent."))
    return sorted(findings, key=lambda finding: ("fact", "clear", "open").index(finding.kind))


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


def _highest(table: pd.DataFrame, against_best: pd.DataFrame, factors: Sequence[str]) -> Finding:
    best = table.loc[table["mean"].astype(float).idxmax()]
    interval = f" (95 % interval {accuracy_span(best.low, best.high)})" if best.n > 1 else ""
    text = f"{label(best, factors)}: {best['mean']:.1%} test accuracy over {best.n} seeds{interval}"
    if best.n == 1:
        text = text.replace("1 seeds", "one seed")
    if len(table) == 1:
        return Finding("fact", f"{text}.")
    text += f", the highest of {len(table)} configurations, so flattered a little by luck."
    if best.n > 1:
        level = [label(other, factors) for _, other in against_best.iterrows() if not other.p_holm < ALPHA]
        more = f"; and {len(level) - 3} more" if len(level) > 3 else ""
        alike = f"Not distinguishable from it: {'; '.join(level[:3])}{more}."
        text += f" {alike if level else 'Every other configuration differs significantly from it.'}"
    return Finding("fact", text)


def _compared(effect: pd.Series, family: int, factors: Sequence[str], tuned: str | None) -> Finding:
    level, baseline = level_name(effect.level), level_name(effect.baseline)
    name = f"{effect.factor} {level} against {baseline}"
    how = _averaged(effect, factors) + (f", each at its own best {tuned}" if tuned else "")
    difference, seeds = points(effect.difference), f"n = {effect.n} seeds"
    if effect.n == 0:
        return Finding("open", f"{name}: not compared, since no seed has all settings of both. Finish the sweep.")
    if effect.n == 1:
        why = "One seed gives no interval, so this is no conclusion; run seed=1,2,3."
        return Finding("open", f"{name}: {difference} points with one seed{how}. {why}")
    if pd.isna(effect.p):
        return Finding("open", f"{name}: {difference} points in each of {seeds}{how}; without spread there is no test.")
    tested = f"p {p_value(effect.p_holm)}{_holm(family)}, {seeds}"
    if effect.p_holm >= ALPHA:
        verdict = "not distinguishable"
        if effect.p < ALPHA:
            verdict += f" once so many are compared (p {p_value(effect.p)} alone)"
        needed = effect.needed is not None and effect.needed > effect.n
        more = f" A difference of this size would take about {effect.needed} seeds to show." if needed else ""
        measured = f"{difference} points {span(effect.low, effect.high)} ({tested})"
        return Finding("open", f"{name}: {measured}{how}: {verdict}.{more}")
    better, worse, sign = (level, baseline, 1) if effect.difference > 0 else (baseline, level, -1)
    low, high = sorted((sign * effect.low, sign * effect.high))
    measured = f"{points(sign * effect.difference)} points {span(low, high)} of test accuracy"
    varies = ""
    if len(factors) > 1 and effect.lowest * effect.highest < 0:
        least, most = sorted((sign * effect.lowest, sign * effect.highest))
        varies = f" But not everywhere: from {points(least)} to {points(most)}, depending on the other factors."
    return Finding("clear", f"{effect.factor} {better} beats {worse} by {measured} ({tested}){how}.{varies}")


def _averaged(effect: pd.Series, factors: Sequence[str]) -> str:
    """The part of the grid that an effect is averaged over, in words."""
    if len(factors) == 1:
        return ""
    missing = effect.possible - effect.averaged
    words = f", averaged over {effect.averaged} settings of the other factors"
    return f"{words} ({missing} of {effect.possible} are missing)" if missing else words


def _holm(family: int) -> str:
    """The correction of a p-value, in words; empty for a single comparison."""
    return f" after Holm over {family} comparisons" if family > 1 else ""


def _interaction(effect: pd.Series, family: int) -> Finding:
    change = " → ".join(map(level_name, effect.first_change))
    before, after = map(level_name, effect.second_change)
    measured = f"{points(effect.difference)} points {span(effect.low, effect.high)}"
    tested = f"p {p_value(effect.p_holm)}{_holm(family)}, n = {effect.n} seeds"
    depends = f"What {effect['first']} ({change}) is worth depends on {effect.second}"
    return Finding("clear", f"{depends}: with {after}, {measured} on top of what it is with {before} ({tested}).")
