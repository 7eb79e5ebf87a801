"""What a configuration builds, and what one that came out of a file may build."""

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache, partial
from pathlib import PureWindowsPath
from typing import Any

import hydra.utils
from omegaconf import DictConfig, OmegaConf

from src.runs.hydra_versions import CONF, whitelist

TRAINING_ONLY = ("optim", "schedule", "loss", "callbacks", "logger")  # groups that a trained network does without


@cache
def known_targets() -> frozenset[str]:
    """Every ``_target_`` that a group of conf/ names: what a config read from a file may instantiate.

    What conf/hydra names is Hydra's business and never comes out of a file.
    """
    files = [file for file in CONF.glob("*/**/*.yaml") if file.relative_to(CONF).parts[0] != "hydra"]
    found = (re.findall(r"_target_:\s*([\w.]+)", file.read_text("utf-8")) for file in files)
    return frozenset(target for targets in found for target in targets)


# Where modules stood when run folders and checkpoints of schema 1 were written.
_MOVED = {
    "src.callbacks.signals.SignalPropagation": "src.training.callbacks.propagation.PropagationMonitor",
    "src.callbacks.": "src.training.callbacks.",
    "src.optim.": "src.training.optimizers.",
    "src.schedules.": "src.training.schedules.",
    "src.runs.tensorboard.": "src.training.tensorboard.",
}


def with_current_targets(node: Any) -> Any:
    """Plain values with every ``_target_`` that has moved replaced by its present place."""
    if type(node) is dict:
        return {
            key: _current(value) if key == "_target_" and type(value) is str else with_current_targets(value)
            for key, value in node.items()
        }
    return [with_current_targets(child) for child in node] if type(node) is list else node


def _current(target: str) -> str:
    return next((new + target[len(old) :] for old, new in _MOVED.items() if target.startswith(old)), target)


def _dubious(node: Any, allowed: Collection[str] | None) -> Iterator[str]:
    """What is neither plain nor ``allowed`` as a target (None: it is not built), in words, one for each finding."""
    if type(node) is dict:
        for key, value in node.items():
            if not isinstance(key, str) or (key.startswith("_") and key not in ("_target_", "_partial_", "_convert_")):
                yield f"has the key {key!r}, which means something to Hydra that no file of conf/ uses"
            elif key == "_target_" and allowed is not None and not (isinstance(value, str) and value in allowed):
                yield (
                    f"asks for {value!r}, which no file of conf/ names; to build it all the same, name it in a file "
                    "there, or in the setting trust=[...] of this command"
                )
            else:
                yield from _dubious(value, allowed)
    elif type(node) is list:
        for child in node:
            yield from _dubious(child, allowed)
    elif isinstance(node, str) and "${" in node:
        yield f"asks for {node!r}, which would be looked up elsewhere"
    elif node is not None and type(node) not in (str, bool, int, float):
        yield f"has a value of type {type(node).__name__}, where only plain values are expected"


def _leads_away(node: Any) -> Iterator[str]:
    """Paths, in POSIX or Windows form, that do not stay in the folder they are relative to."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _leads_away(child)
    if isinstance(node, str) and (PureWindowsPath(node).anchor or ".." in PureWindowsPath(node).parts):
        yield node


def trusted(config: Any, *, unbuilt: Collection[str] = (), trust: Iterable[str] = ()) -> DictConfig:
    """A config that came out of a file, once it is sure to build nothing but what conf/ describes.

    Args:
        config: resolved, plain values.
        unbuilt: groups from which nothing will be built.
        trust: targets that may be built besides those that conf/ names.

    Raises:
        ValueError: it names a ``_target_`` that conf/ does not, has one of Hydra's special keys, an interpolation,
            which could yield either, or anything but plain values; or what it says of trainer, logger and callbacks
            could make them write outside the run folder.
    """
    if type(config) is not dict:  # OmegaConf would read a string as YAML
        raise ValueError("The config is not a mapping of plain values; nothing was built from it.")
    config = with_current_targets(config)
    allowed = known_targets() | set(trust)
    for key, node in config.items():
        for finding in _dubious({key: node}, None if key in unbuilt else allowed):
            raise ValueError(f"The config {finding}; it was not built.")
    for group in {"trainer", "logger", "callbacks"} - set(unbuilt):
        for path in _leads_away(config.get(group)):
            raise ValueError(f"The config's {group} would write to {path!r}, outside the run folder; it was not built.")
    return OmegaConf.create(config)


def trust_override(config: Any, unbuilt: Collection[str] = ()) -> list[str]:
    """What a command needs to build a config that ``trusted`` refuses, since its user named targets beyond conf/."""
    targets = set(_targets({key: node for key, node in config.items() if key not in unbuilt})) - known_targets()
    return [f"trust=[{','.join(sorted(targets))}]"] * bool(targets)


def instantiate(config: Any, **arguments: Any) -> Any:
    """Build what a config describes, by Hydra, from plain values: lists and dictionaries, not OmegaConf's containers.

    Args:
        config: the user's own, or one that ``trusted`` has checked. Only what it names is built.
        arguments: more arguments of its target; Hydra does not see them, which would build what they describe, too.
            ``_partial_`` has the meaning that it has in a config.

    Raises:
        ValueError: the config names no ``_target_``.
    """
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    if not isinstance(plain, dict) or "_target_" not in plain:
        raise ValueError(f"Nothing can be built from {plain}: it has no _target_.")
    deferred = arguments.pop("_partial_", plain.get("_partial_", False))
    build = hydra.utils.instantiate(config, _partial_=True, _convert_="all", **whitelist(_targets(plain)))
    # Called without Hydra, which in 1.4 allows no result of a class that it was not told of.
    build = partial(build.func, *build.args, **build.keywords | arguments)
    return build if deferred else build()


def _targets(node: Any) -> Iterator[str]:
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _targets(child)
    if isinstance(node, dict) and "_target_" in node:
        yield node["_target_"]
