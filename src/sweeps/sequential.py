"""The batches of a multirun: all jobs at once, or seeds until a comparison is decided (``until=decided``)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from src.runs.question import question_of
from src.sweeps.always_valid import FEWEST, decide, interval
from src.sweeps.design import is_seed, jobs_of, values_of
from src.sweeps.jobs import jobs
from src.sweeps.multirun import SweepSummary


class Comparison(NamedTuple):
    """What is to be decided."""

    key: str
    levels: tuple[str, str]  # as in overrides; the baseline, and what is compared with it
    metric: str
    smallest_effect: float | None


def batches(config: DictConfig) -> Iterator[list[list[str]]]:
    """The overrides of a multirun's jobs, in batches to be launched one after the other: all at once, or, with
    ``until``, one seed after the other until the comparison is decided.

    Raises:
        ValueError: ``max_seeds`` or ``seed`` is invalid, or it is not clear what is compared.
    """
    if not config.get("until"):
        yield SweepSummary.current.request(config, jobs_of(config))
        return
    if not isinstance(config.max_seeds, int) or config.max_seeds < FEWEST:
        raise ValueError(f"max_seeds is {config.max_seeds!r}; expected a whole number, {FEWEST} or more.")
    comparison, seeds = _comparison(config), values_of(config).get("seed", ["1"])
    if not all(seed.isdigit() for seed in seeds):
        raise ValueError(f"seed is {','.join(seeds)}; until=decided adds seeds to whole numbers, such as seed=1,2,3.")
    count = max(FEWEST, len(seeds))
    numbers = [*map(int, seeds), *range(max(map(int, seeds)) + 1, max(map(int, seeds)) + 1 + config.max_seeds)]
    yield SweepSummary.current.request(config, jobs_of(config, numbers[:count]))
    while goes_on(Path(config.hydra.sweep.dir), SweepSummary.current.asked, comparison) and count < config.max_seeds:
        yield SweepSummary.current.request(config, jobs_of(config, numbers[count : count + 1]))
        count += 1


def _comparison(config: DictConfig) -> Comparison:
    """The comparison that ``primary`` states, or the only one that there is."""
    stated = OmegaConf.masked_copy(config, ["question", "primary", "smallest_effect"])
    question = question_of(OmegaConf.to_container(stated, resolve=True))  # type: ignore[arg-type]
    values = {key: texts for key, texts in values_of(config).items() if len(texts) > 1 and not is_seed(key)}
    parser = OverridesParser.create()
    found = []
    for key, texts in values.items():
        levels = {str(parser.parse_override(f"{key}={text}").value()): text for text in texts}
        if question.factor in (None, key, key.split(".")[-1]):
            found.append((key, [levels.get(str(level)) for level in question.levels or levels]))
    if len(found) != 1 or len(found[0][1]) != 2 or None in found[0][1]:
        raise ValueError(
            "until=decided decides one comparison of two values that are swept; state which, as in "
            f"primary.factor=optim 'primary.levels=[sgd,adam]'. Swept are {', '.join(values) or 'none'}."
        )
    ((key, (baseline, treated)),) = found
    return Comparison(key, (str(baseline), str(treated)), question.metric, question.smallest_effect)


def goes_on(sweep: Path, asked: Mapping[str, Sequence[str]], comparison: Comparison) -> bool:
    """Print the state of the comparison; whether it takes more seeds, and all jobs have completed.

    A difference is averaged over the settings of the other keys that were asked for with both levels.

    Args:
        asked: overrides of the sweep's jobs, by folder name.
    """
    scores = {job.name: job.results["metrics"][comparison.metric] for job in jobs(sweep) if job.state == "completed"}
    pairs: dict[str, dict[str, dict[str, float | None]]] = {}  # by seed, by the other overrides, by level
    for name, overrides in asked.items():
        job = dict(override.split("=", 1) for override in overrides)
        seed, level = job.pop("seed"), job.pop(comparison.key)
        pairs.setdefault(seed, {}).setdefault(str(job), {})[level] = scores.get(name)
    differences = []
    for settings in pairs.values():
        compared = [[levels[level] for level in comparison.levels] for levels in settings.values() if len(levels) > 1]
        if not any(None in pair for pair in compared):
            differences.append(mean(treated - baseline for baseline, treated in compared))  # type: ignore[operator]
    baseline, treated = comparison.levels
    if not differences:
        print(f"until=decided: no seed has completed both {baseline} and {treated}.")
        return False
    verdict, (low, high) = decide(differences, comparison.smallest_effect), interval(differences)
    print(
        f"until=decided: {comparison.key} {treated} against {baseline} after {len(differences)} seeds: "
        f"{100 * mean(differences):+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}], {verdict}."
    )
    return verdict == "undecided" and len(scores.keys() & asked.keys()) == len(asked)
