"""Building objects from configurations, and checking configurations that come from files."""

import re
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from functools import cache, partial
from importlib import import_module
from inspect import Parameter, signature
from pathlib import PureWindowsPath
from pkgutil import iter_modules, resolve_name
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import hydra.utils
from omegaconf import DictConfig, OmegaConf

from src.runs.errors import near_names, sentence
from src.runs.hydra_versions import CONF, whitelist

# Groups that inference does not need.
TRAINING_ONLY = ("optim", "schedule", "loss", "average", "metrics", "trainer", "callbacks", "logger")

# Arguments of Lightning's Trainer that may be text. In others, text names plugins or a registry to upload to.
_TRAINER_TEXT = ("_target_", "accelerator", "devices", "precision", "gradient_clip_algorithm", "max_time", "profiler")


@cache
def known_targets(group: str) -> frozenset[str]:
    """Every ``_target_`` that conf/ names in a group: this group of a config from a file may instantiate only these.

    conf/hydra is excluded: its targets are for Hydra only.
    """
    folders = (group, "experiment", "scale") if group.isidentifier() and group != "hydra" else ()
    files = [file for folder in folders for file in (CONF / folder).rglob("*.yaml")]
    found = (re.findall(r"_target_:\s*([\w.]+)", file.read_text("utf-8")) for file in files)
    return frozenset(target for targets in found for target in targets)


# Former module paths in run folders and checkpoints, and the present ones.
_MOVED = {
    "src.callbacks.signals.SignalPropagation": "src.training.callbacks.propagation.PropagationMonitor",
    "src.callbacks.": "src.training.callbacks.",
    "src.data.cifar10.": "src.data.torchvision_sets.",
    "src.optim.": "src.training.optimizers.",
    "src.schedules.": "src.training.schedules.",
    "src.runs.tensorboard.": "src.training.tensorboard.",
}


def with_current_targets(node: Any) -> Any:
    """Plain values with every ``_target_`` that has moved replaced by its present path."""
    if type(node) is dict:
        current = {key: with_current_targets(value) for key, value in node.items()}
        if type(target := current.get("_target_")) is str:
            moved = (new + target[len(old) :] for old, new in _MOVED.items() if target.startswith(old))
            current["_target_"] = next(moved, target)
        return current
    return [with_current_targets(child) for child in node] if type(node) is list else node


def _untrusted(node: Any, allowed: Collection[str] | None) -> Iterator[str]:
    """Findings, in words: values that are not plain, and targets not in ``allowed`` (None: nothing is built)."""
    if type(node) is dict:
        for key, value in node.items():
            if not isinstance(key, str) or (key.startswith("_") and key not in ("_target_", "_partial_", "_convert_")):
                yield f"has the key {key!r}, which means something to Hydra that no file of conf/ uses"
            elif key == "_target_" and allowed is not None and not (isinstance(value, str) and value in allowed):
                yield (
                    f"asks for {value!r}, which no file of conf/ names there; to build it all the same, name it in "
                    "such a file, or in the setting trust=[...] of this command"
                )
            else:
                yield from _untrusted(value, allowed)
    elif type(node) is list:
        for child in node:
            yield from _untrusted(child, allowed)
    elif isinstance(node, str) and "${" in node:
        yield f"asks for {node!r}, which would be looked up elsewhere"
    elif node is not None and type(node) not in (str, bool, int, float):
        yield f"has a value of type {type(node).__name__}, where only plain values are expected"


def _texts(node: Any) -> Iterator[str]:
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _texts(child)
    if isinstance(node, str):
        yield node


def trusted(config: Any, *, unbuilt: Collection[str] = (), trust: Iterable[str] = ()) -> DictConfig:
    """Check a config from a file: it may build only targets that conf/ or ``trust`` names.

    Args:
        config: resolved, plain values.
        unbuilt: groups from which nothing will be built.
        trust: targets that may be built besides those that conf/ names.

    Raises:
        ValueError: it names another ``_target_``, or contains a special key of Hydra, an interpolation (which could
            yield either), or anything but plain values; or its trainer, logger or callbacks could write outside the
            run folder or load plugins.
    """
    if type(config) is not dict:  # OmegaConf would read a string as YAML
        raise ValueError("The config is not a mapping of plain values; nothing was built from it.")
    config = with_current_targets(config)
    for key, node in config.items():
        for finding in _untrusted({key: node}, None if key in unbuilt else known_targets(str(key)) | set(trust)):
            raise ValueError(f"The config {finding}; it was not built.")
    for group in {"trainer", "logger", "callbacks"} - set(unbuilt):
        for text in _texts(config.get(group)):
            path = PureWindowsPath(text)  # knows POSIX's form, too
            if path.anchor or ".." in path.parts or "://" in text:
                raise ValueError(
                    f"The config's {group} would write to {text!r}, outside the run folder; it was not built."
                )
    for name, value in (config.get("trainer") or {}).items() if "trainer" not in unbuilt else ():
        if name not in _TRAINER_TEXT and any(_texts(value)):
            raise ValueError(
                f"The config sets trainer.{name} to {value!r}, where a number is expected; it was not built."
            )
    return OmegaConf.create(config)


def trust_override(config: Any, unbuilt: Collection[str] = ()) -> list[str]:
    """The ``trust`` override for a config with targets that conf/ does not name; empty if it has none."""
    built = ((key, node) for key in config.keys() - unbuilt for _, node in _nodes(config[key]))
    targets = {node["_target_"] for key, node in built if node["_target_"] not in known_targets(key)}
    return [f"trust=[{','.join(sorted(targets))}]"] * bool(targets)


def check_targets(config: Any) -> None:
    """Check, without building anything, that every ``_target_`` of a config can be imported and called, and that it
    gets no value of another kind where its signature has true, false or a number: ``no`` would count as true, and true
    as 1.

    Args:
        config: the user's own, or one that ``trusted`` has checked: modules are imported. Interpolated targets are left
            out.

    Raises:
        ValueError: a target has no value, or names nothing that can be called (the message has near names), or an
            argument is of another kind.
    """
    for key, node in _nodes(OmegaConf.to_container(config) if OmegaConf.is_config(config) else config):
        target = node["_target_"]
        if target == "???":
            raise ValueError(f"{key}_target_ has no value: set it, as in {key}_target_=VALUE.")
        if "${" in str(target):
            continue
        if problem := _problem(str(target)):
            raise ValueError(f"{key}_target_ is {target}: {problem}")
        for name, kinds in _plain_parameters(str(target)).items():
            value = node.get(name)
            if (isinstance(value, str) and "${" not in value) or (isinstance(value, bool) and bool not in kinds):
                expected = "true or false" if kinds == {bool} else "a number"
                raise ValueError(f"{key}{name} is {value!r}; expected {expected}.")


def check_keys(config: DictConfig) -> None:
    """Check that no key of a file of the user's own is a slip of one in conf/: nothing would read it, and two runs that
    differ in it alone would be called equivalent.

    Args:
        config: with its interpolations; a key that one of them refers to is the user's own, whatever it is like.

    Raises:
        ValueError: there is such a key.
    """
    usual = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml"))
    assert isinstance(usual, dict)
    known = {*map(str, usual), *(folder.name for folder in CONF.iterdir() if folder.is_dir())}
    unknown = [str(key) for key in config if key not in known]
    if unknown:  # some files of groups set keys of their own
        texts = (file.read_text(encoding="utf-8") for file in CONF.glob("*/*.yaml"))
        known |= {key for text in texts for key in re.findall(r"^(\w+):", text, re.MULTILINE)}
        text = OmegaConf.to_yaml(config)
        unknown = [key for key in unknown if f"${{{key}" not in text and get_close_matches(key, known - {key}, 1, 0.75)]
    wrong = {key: known for key in unknown if key not in known}
    wrong |= {f"seeds.{key}": usual["seeds"] for key in config.get("seeds") or () if key not in usual["seeds"]}
    for key, names in wrong.items():
        raise ValueError(f"There is no {key}; {near_names(key.split('.')[-1], names)}")


def _plain_parameters(target: str) -> dict[str, set[type]]:
    """The parameters that are true, false or a number by annotation, or true or false by default; and their types."""
    try:
        parameters = signature(resolve_name(target), eval_str=True).parameters
    except (NameError, TypeError, ValueError):  # an annotation of type checkers alone; a class written in C
        return {}
    found = {}
    for name, parameter in parameters.items():
        kinds: set[Any] = {bool} if isinstance(parameter.default, bool) else set()
        if (annotation := parameter.annotation) is not Parameter.empty:
            kinds = set(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else {annotation}
        kinds -= {NoneType}
        if kinds and kinds <= {bool, int, float}:
            found[name] = kinds
    return found


def _problem(target: str) -> str:
    """Why a target cannot be imported and called, in words; empty if it can."""
    try:
        return "" if callable(resolve_name(target)) else "that is nothing to call."
    except AttributeError as error:
        there, name = error.obj, str(error.name)
        names = [*dir(there), *_modules(getattr(there, "__path__", ()))]
        where = getattr(there, "__name__", target)
    except ModuleNotFoundError as error:
        if error.name != target.partition(".")[0]:
            return f"it cannot be imported: {sentence(error)}."
        where, name, names = "Python", error.name, _modules(None)
    except Exception as error:
        return f"it cannot be imported: {sentence(error)}."
    if name not in names:
        return f"{where} has no {name}; {near_names(name, (name for name in names if name[0] != '_'))}"
    try:
        import_module(f"{where}.{name}")
    except ImportError as error:
        return f"{where}.{name} cannot be imported: {sentence(error)}."
    return ""


def _modules(path: Iterable[str] | None) -> list[str]:
    """The names of the modules in the folders of a package; in all of Python's for None."""
    return [module.name for module in iter_modules(path)]


def instantiate(config: Any, **arguments: Any) -> Any:
    """Instantiate a config with Hydra; arguments are lists and dictionaries, not OmegaConf containers.

    Args:
        config: the user's own, or one that ``trusted`` has checked. Only its own targets are built.
        arguments: more arguments of its target. They bypass Hydra, which would instantiate configs in them.
            ``_partial_`` means the same as in a config.

    Raises:
        ValueError: the config names no ``_target_``.
    """
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    if not isinstance(plain, dict) or "_target_" not in plain:
        raise ValueError(f"Nothing can be built from {plain}: it has no _target_.")
    deferred = arguments.pop("_partial_", plain.get("_partial_", False))
    allowed = whitelist(node["_target_"] for _, node in _nodes(plain))
    build = hydra.utils.instantiate(config, _partial_=True, _convert_="all", **allowed)
    # Called without Hydra, because Hydra 1.4 allows only results of whitelisted classes.
    build = partial(build.func, *build.args, **build.keywords | arguments)
    return build if deferred else build()


def _nodes(node: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a ``_target_`` among plain values, by how the keys of its settings begin."""
    if isinstance(node, dict) and "_target_" in node:
        yield key, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield from _nodes(child, f"{key}{name}.")
