"""The jobs of a multirun: every combination of the values given, or one change at a time around a recipe."""

from collections.abc import Mapping, Sequence
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

_RECIPE = {"leave_one_out": 0, "add_one_in": -1}  # the place of the recipe among the values of a key


def given(config: DictConfig) -> dict[str, Override]:
    """The overrides of a multirun by key; a repeated key keeps its first position and its last value.

    Args:
        config: the multirun's, with Hydra's node.
    """
    settings = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*settings, *config.hydra.overrides.task])
    return {override.get_key_element(): override for override in overrides}


def values_of(config: DictConfig) -> dict[str, list[str]]:
    """The values that a multirun gives, by key, see ``given``.

    Raises:
        HydraException: an override gives an interval instead of values.
    """
    values = {}
    for key, override in given(config).items():
        if not override.is_sweep_override():
            values[key] = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values[key] = list(override.sweep_string_iterator())
        else:
            raise HydraException(
                f"{override.input_line} gives an interval, for python -m src.tune; expected values, as in key=1,2,3."
            )
    return values


def jobs_of(config: DictConfig, seeds: Sequence[int] | None = None) -> list[list[str]]:
    """The overrides of every job of a multirun, ``key=value`` each.

    Args:
        config: see ``values_of``, which may raise.
        seeds: instead of those given.
    """
    values = values_of(config) | ({} if seeds is None else {"seed": list(map(str, seeds))})
    place = _RECIPE.get(config.hydra.runtime.choices.get("design"))
    arms = [{}] if place is None else one_at_a_time({key: values[key] for key in values if not is_seed(key)}, place)
    jobs = [job for arm in arms for job in product(*(values | arm).values())]
    return [[f"{key}={value}" for key, value in zip(values, job, strict=True)] for job in jobs]


def one_at_a_time(values: Mapping[str, Sequence[str]], place: int) -> list[dict[str, list[str]]]:
    """The recipe, which has the value at ``place`` of every key, and for each other value the recipe with that value.

    Each is a mapping from key to a list of one value.
    """
    recipe = {key: [values[key][place]] for key in values}
    changes = [{key: [value]} for key in values for value in values[key] if value not in recipe[key]]
    return [recipe, *(recipe | change for change in changes)]


def is_seed(key: str) -> bool:
    """Whether a key is the seed, or that of one source of variation."""
    return key == "seed" or key.startswith("seeds.")
