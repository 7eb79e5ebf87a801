"""The batches of a multirun: all jobs at once, or seeds until a comparison is decided (``until=decided``)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from src.runs.errors import near_names
from src.runs.identity import plain_value
from src.runs.question import Question, guessing, question_of
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
        ValueError: ``max_seeds`` or ``seed`` is invalid, ``primary`` names what is not varied, or it is not clear what
            is compared.
    """
    check_primary(config)
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


def _stated(config: DictConfig) -> Question:
    stated = OmegaConf.masked_copy(config, ["question", "primary", "smallest_effect"])
    return question_of(OmegaConf.to_container(stated, resolve=True))  # type: ignore[arg-type]


def check_primary(config: DictConfig) -> None:
    """Refuse a typing error in ``primary``, which no later launch could mend: completed jobs keep their record.

    A factor that is not given may still come with a group that is, and a level with another launch; so a factor is
    refused if no key has that name, and a level if its group has no such choice, or one that is given is like it.

    Raises:
        ValueError: there is one, with near names.
    """
    question, loader = _stated(config), GlobalHydra.instance().config_loader()
    values = {key.lstrip("+"): texts for key, texts in values_of(config).items() if not is_seed(key)}
    if question.question and "primary.factor" in values and "question" not in values:
        raise ValueError(
            f"primary.factor is {question.factor}, but the question is still that of a file: “{question.question}” "
            "Give question='...' as well, or question=null."
        )
    keys = [key for key in values if question.factor in (None, key, key.split(".")[-1])]
    swept = [key for key, texts in values.items() if len(texts) > 1]
    groups = [key for key in swept if loader.get_group_options(key)]  # those without a node set any key
    nodes = groups if all(key in config for key in groups) else [str(key) for key in config if key != "hydra"]
    own = OmegaConf.to_yaml(OmegaConf.masked_copy(config, nodes)) if groups else ""
    if not keys and question.factor not in re.findall(r"^ *(\w+):", own, re.MULTILINE):
        near = near_names(str(question.factor), (key.split(".")[-1] for key in swept))
        raise ValueError(f"primary.factor is {question.factor}, which this multirun does not vary; {near}")
    if len(keys) != 1 or question.factor is None:
        return
    options = loader.get_group_options(keys[0])
    parser = OverridesParser.create()
    given = [str(plain_value(parser.parse_override(f"{keys[0]}={text}").value())) for text in values[keys[0]]]
    for level in map(str, question.levels):
        if level not in given and (level not in options if options else get_close_matches(level, given)):
            near = near_names(level, [*given, *options])
            raise ValueError(f"primary.levels has {level}, which is no value of {keys[0]} here; {near}")


def _comparison(config: DictConfig) -> Comparison:
    """The comparison that ``primary`` states, or the only one that there is."""
    question = _stated(config)
    values = {key: texts for key, texts in values_of(config).items() if len(texts) > 1 and not is_seed(key)}
    parser = OverridesParser.create()
    rates = {"optim.lr", "lr_multiplier"} & values.keys()
    if "optim" in values and rates:
        raise ValueError(
            f"until=decided would average over {rates.pop()}, while src.report chooses one for each optim, by "
            "validation, and so compares other runs; give it one value, or give fixed seeds instead of until=decided."
        )
    found = []
    for key, texts in values.items():
        levels = {str(plain_value(parser.parse_override(f"{key}={text}").value())): text for text in texts}
        if question.factor in (None, key, key.split(".")[-1]):
            found.append((key, [levels.get(str(level)) for level in question.levels or levels]))
    if len(found) != 1 or len(found[0][1]) != 2 or None in found[0][1]:
        raise ValueError(
            "until=decided decides one comparison of two values that are swept; state which, as in "
            f"primary.factor=optim 'primary.levels=[sgd,adam]'. Swept are {', '.join(values) or 'none'}."
        )
    missing = {
        "test/accuracy": not config.test and "test=false",
        "val/accuracy": not config.data.val_size and "val_size=0",
    }
    if missing[question.metric]:
        raise ValueError(f"until=decided compares {question.metric}, which jobs with {missing[question.metric]} lack.")
    ((key, (baseline, treated)),) = found
    return Comparison(key, (str(baseline), str(treated)), question.metric, question.smallest_effect)


def goes_on(sweep: Path, asked: Mapping[str, Sequence[str]], comparison: Comparison) -> bool:
    """Print the state of the comparison; whether it takes more seeds, and all jobs have completed.

    A difference is averaged over the settings of the other keys that were asked for with both levels.

    Args:
        asked: overrides of the sweep's jobs, by folder name.
    """
    completed = {job.name: job.results for job in jobs(sweep) if job.state == "completed"}
    scores = {name: results["metrics"][comparison.metric] for name, results in completed.items()}
    pairs: dict[str, dict[str, dict[str, float | None]]] = {}  # by seed, by the other overrides, by level
    for name, overrides in asked.items():
        job = dict(override.split("=", 1) for override in overrides)
        seed, level = job.pop("seed"), job.pop(comparison.key)
        pairs.setdefault(seed, {}).setdefault(str(job), {})[level] = scores.get(name)
    differences, arms = [], []  # of each seed
    for settings in pairs.values():
        compared = [[levels[level] for level in comparison.levels] for levels in settings.values() if len(levels) > 1]
        if not any(None in pair for pair in compared):
            arms.append([mean(arm) for arm in zip(*compared, strict=True)])
            differences.append(arms[-1][1] - arms[-1][0])
    baseline, treated = comparison.levels
    if not differences:
        print(f"until=decided: no seed has completed both {baseline} and {treated}.")
        return False
    verdict, (low, high) = decide(differences, comparison.smallest_effect), interval(differences)
    stage, known = comparison.metric.split("/")[0], completed.values()
    luck = mean(guessing(len(run.get("classes", ())), run.get("images", {}).get(stage, 0)) for run in known)
    if verdict != "undecided" and not any(mean(arm) > luck for arm in zip(*arms, strict=True)):
        verdict = "at chance: nothing was learned, so this says nothing about the factor"
    print(
        f"until=decided: {comparison.key} {treated} against {baseline} after {len(differences)} seeds: "
        f"{100 * mean(differences):+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}], {verdict}."
    )
    return verdict == "undecided" and len(scores.keys() & asked.keys()) == len(asked)
