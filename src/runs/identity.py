"""The identity of a run: which settings make two runs the same experiment, and in which settings runs differ.

Every key of the resolved configuration counts, including new ones, except those in ``NEUTRAL``. Images count by
their content. Folder names, results.json, TensorBoard's hparams tab, reports and relaunches use this module.
"""

import ast
import hashlib
import json
import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from src.runs.trust import CONF, known_targets, with_current_targets

# Keys, with all below them, that may differ between two runs of the same experiment, and why.
NEUTRAL = {
    "resume": "which folder goes on, not how",
    "trust": "what may be built, not what is",
    "sweep": "a name",
    "test": "what is done with the trained network, which is the same",
    "design": "which other runs there are",
    "until": "as design",
    "max_seeds": "as design",
    "tuner": "as design",
    "trials": "as design",
    "objectives": "as design",
    "workers": "as design",
    "best": "as design",
    "best_seeds": "as design",
    "plan": "nothing is trained",
    "pruner": "when a run is given up, which is then not completed",
    "on_conflict": "what to do about a folder's former run",
    "on_code_change": "what to do about a sweep's former code",
    "checkpoint_minutes": "a resumed run equals an uninterrupted one, whenever it was saved",
    "debug": "shows stack traces",
    "question": "what is asked of the runs",
    "primary": "which runs are compared",
    "smallest_effect": "how their difference is judged",
    "logger": "records what happens",
    "tags": "words about the run",
    "notes": "words about the run",
    "channels_last": "memory layout",
    "compile": "speed",
    "label_smoothing": "another name of loss.label_smoothing, which counts",
    "lr_multiplier": "scales optim.lr, which counts",
    "usual_lr": "what lr_multiplier scales",
    "seeds.split": "is data.split_seed, which counts",
    "data.root": "where the images lie: their content counts",
    "data.download": "how the images came there",
    "data.source.root": "as data.root",
    "data.source.download": "as data.download",
    "data.bits": "how pixels are read: their content counts",
    "data.source.bits": "as data.bits",
    "data.device": "where the images are kept",
    "data.eval_batch_size": "every image is evaluated alone",
    "trainer.accelerator": "the device",
    "trainer.devices": "the device; processes share a batch, whose size counts",
    "trainer.num_nodes": "the device",
    "trainer.sync_batchnorm": "what it is false for, the number of processes, counts then",
    "trainer.benchmark": "which of equivalent kernels computes",
    "trainer.deterministic": "which of equivalent kernels computes",
    "trainer.log_every_n_steps": "how often is logged",
    "trainer.num_sanity_val_steps": "validation before training",
    "trainer.enable_model_summary": "what is shown",
    "trainer.enable_progress_bar": "what is shown",
    "trainer.profiler": "measures time",
    "trainer.detect_anomaly": "looks for errors",
}
# Lightning's callbacks that only watch. Others declare it by the class attribute ``only_watches``: true, or the name of
# the setting that makes the callback do more than watch. A callback without that attribute counts.
_LIGHTNING = "lightning.pytorch.callbacks."
_WATCHERS = ("DeviceStatsMonitor", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary", "RichModelSummary",
             "RichProgressBar", "ThroughputMonitor", "TQDMProgressBar")  # fmt: skip
_NULL_IS_ABSENT = ("data", "trainer")  # our code and Lightning's; elsewhere a class may take null for a choice

# Settings that are younger than some recorded runs, and what those runs did, by the model or for all.
_FORMERLY: dict[str, dict[str, Any]] = {
    "": {"loss._target_": "torch.nn.CrossEntropyLoss", "score": "val/accuracy"},
    "src.models.resnet.": {
        "model.activation": "relu",
        "model.zero_init_residual": False,
        "model.stem": None,
        "model.shortcut": None,
        "model.width": 1,
        "model.depth": 1,
    },
}

CONTENT = "data.content"
WEIGHTS = "weights.content"
# Of a run that was tested again (``src.inference.sweep``): with which views, and on which images if not its own.
TTA, NO_TTA = "tta", "none"
TESTED, TESTED_ON = "tested.content", "tested.images"
# How the settings begin that say where something lies, by the key of its content, which counts instead if it is known.
_PLACES = {CONTENT: "data.source.", WEIGHTS: "init_from"}
LENGTHENED = "lengthened_from"  # epochs that a run was first asked for, if a resumed run was asked for more
ABSENT = "–"  # the level of a factor that a run's configuration does not have


def settings(config: Mapping[str, Any], *, own: bool = False) -> dict[str, Any]:
    """The settings of a resolved configuration that count, by dotted key; a list is one value. Images are not read.

    Args:
        config: plain values, of any schema.
        own: whether the user is about to run it. Only then is the source of callbacks outside conf/ read.
    """
    config = with_current_targets(config)
    if "trust" not in config:  # schema 1, which repeated other keys under this one
        config = {key: node for key, node in config.items() if key != "factors"}
    callbacks = config.get("callbacks") or {}
    counting = {name: node for name, node in callbacks.items() if not _only_watches(node, own)}
    leaves = _leaves({key: node for key, node in config.items() if key != "callbacks"} | {"callbacks": counting})
    leaves = _with_current_keys(leaves)
    leaves = {key: value for key, value in leaves.items() if value is not None or not key.startswith("seeds.")}
    plain = {key: value if _tells_apart(key, leaves) else plain_value(value) for key, value in leaves.items()}
    counts = {key for key in plain if not is_neutral(key)} - {"callbacks"}
    trainer = config.get("trainer") or {}
    if any(trainer.get(f"limit_{stage}_batches") is not None for stage in ("val", "test")):
        counts |= {"data.eval_batch_size"} & plain.keys()
    # BatchNorm over a whole batch is that of one process; over a process's share, it depends on their number.
    if trainer.get("accelerator") == "cpu" or not trainer.get("sync_batchnorm"):
        counts |= {key for key in ("trainer.devices", "trainer.num_nodes") if _are_several(plain.get(key))}
    return {key: plain[key] for key in plain if key in counts}


def _tells_apart(key: str, leaves: Mapping[str, Any]) -> bool:
    """Whether what is built of a key may tell 1 from 1.0: Lightning's Trainer, to which 1 is one batch and 1.0 is all
    of them, and what ``_is_foreign``."""
    parts = key.split(".")
    above = (leaves.get(".".join([*parts[:end], "_target_"])) for end in range(len(parts) - 1, 0, -1))
    return parts[0] == "trainer" or _is_foreign(next((target for target in above if target is not None), None))


def _is_foreign(target: Any) -> bool:
    """Whether a ``_target_`` is neither ours, nor torch's or Lightning's."""
    return target is not None and not str(target).startswith(("src.", "torch.", "lightning."))


def _are_several(devices: Any) -> bool:
    return len(devices) > 1 if isinstance(devices, list) else isinstance(devices, int) and devices > 1


def is_neutral(key: str) -> bool:
    """Whether a dotted key, or one above it, is in ``NEUTRAL``."""
    parts = key.split(".")
    return any(".".join(parts[:end]) in NEUTRAL for end in range(1, len(parts) + 1))


def fingerprint(counting: Mapping[str, Any]) -> str:
    """SHA-256 (64 hexadecimal digits) of the result of ``settings``, with the content of images and initial weights if
    known."""
    return hashlib.sha256(json.dumps(_essence(counting), sort_keys=True).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Differences between two runs' ``settings``: key to old and new value, None for a key that a run does not have.

    Images and initial weights are compared by content if both runs record it, else by the settings of their source.
    """
    unknown = {key for key in _PLACES if key not in old or key not in new}
    old, new = ({key: value for key, value in run.items() if key not in unknown} for run in (old, new))
    before, after = _essence(old), _essence(new)
    return {
        key: (before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if _canonical(before.get(key, ABSENT)) != _canonical(after.get(key, ABSENT))
    }


def built(choices: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, str]:
    """The choice of each group, by group; if its ``_target_`` was overridden, that target, which was built instead.

    Args:
        choices: Hydra's, by group.
        config: resolved, plain values.
    """
    current = with_current_targets(config)
    chosen = {}
    for group, choice in choices.items():
        if isinstance(current.get(group), Mapping) and choice is not None:
            target, usual = current[group].get("_target_"), _target_of(group, str(choice))
            chosen[group] = str(choice if usual is None or target == usual else target)
    return chosen


class Run(NamedTuple):
    """The input of ``factors`` from one run."""

    settings: Mapping[str, Any]  # see the function of that name, with the images' content if known
    choices: Mapping[str, str]  # see ``built``
    place: str | None = None  # folder of its images, if any; it names images of different content


def run_of(results: Mapping[str, Any]) -> Run:
    """The ``Run`` of a results.json; its ``settings`` are empty if there is no configuration.

    Schema 1 has configuration and factors, but neither settings nor choices, nor the images' content.
    """
    config: Mapping[str, Any] = results.get("config") or {}
    counting = results.get("settings")
    choices = results.get("choices")
    if choices is None:
        recorded = results.get("factors", {})
        choices = built({group: recorded[group] for group in config if group in recorded}, config)
    place = config.get("data", {}).get("root")
    counting = settings(config) if counting is None else _with_current_keys(counting)
    return Run(counting, choices, None if place is None else str(place))


def levels(run: Run) -> dict[str, Any]:
    """All that counts in one run: the choice of each group, and each setting by the last part of its key."""
    names = _short_names(run.settings)
    found: dict[str, Any] = {}
    for key, value in run.settings.items():
        group = key.split(".")[0]
        if group in run.choices:
            found.setdefault(group, run.choices[group])
        if not key.endswith(("._target_", "._partial_")) and key not in _PLACES:
            found[names[key]] = value
    return found


def factors(runs: Sequence[Run], reserved: Iterable[str] = ()) -> dict[str, list[Any]]:
    """The settings that vary among runs, except the seed and settings that follow it.

    A group whose choice varies comes before its own varying settings.

    Args:
        runs: in any order.
        reserved: names that are taken.

    Returns:
        the level in each run, by name; ``ABSENT`` if a run has no such setting.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    names = _short_names(keys, reserved)
    if keys and all(CONTENT in run.settings for run in runs):
        keys = [key for key in keys if not key.startswith("data.source.")]
    columns = {key: _null_or_absent(key, [run.settings.get(key, ABSENT) for run in runs]) for key in keys}
    if columns.pop(WEIGHTS, None):
        columns["init_from"] = _initial_weights([run.settings for run in runs])
    seeds = columns.pop("seed", [None] * len(runs))
    found: dict[str, list[Any]] = {}
    for key, values in columns.items():
        if len(set(map(_canonical, values))) < 2 or _is_the_seeds(key, values, seeds):
            continue
        group = key.split(".")[0]
        choices = _choices(group, runs)
        if group not in found and len(set(choices)) > 1 and follows(values, choices):
            found[group] = choices
        if ABSENT in values and not (len(set(choices)) > 1 and follows([value == ABSENT for value in values], choices)):
            level = "not set" if "none" in values else "none"  # not of one choice alone: a level
            values = [level if value == ABSENT else value for value in values]
        if key == CONTENT:
            places = [run.place for run in runs]
            apart = None not in places and follows(places, values) and follows(values, places)
            found["root" if apart else "images"] = places if apart else [str(value)[:8] for value in values]
        elif not (group in found and key.endswith(("._target_", "._partial_")) and follows(columns[key], choices)):
            found[names[key]] = values
    return found


def follows(values: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether ``values`` are a function of ``others``."""
    pairs = {(_canonical(other), _canonical(value)) for other, value in zip(others, values, strict=True)}
    return len(pairs) == len({other for other, _ in pairs})


def _is_the_seeds(key: str, values: Sequence[Any], seeds: Sequence[Any]) -> bool:
    """Whether a setting maps one to one to the seed, and equals it or has "seed" in its key."""
    one_to_one = follows(values, seeds) and follows(seeds, values)
    return one_to_one and ("seed" in key or list(values) == list(seeds))


def _initial_weights(runs: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Where each run's initial weights came from; the start of their hash, unless each place has its own weights."""
    places = [run.get("init_from") for run in runs]
    contents = [run.get(WEIGHTS) or run.get("init_from") for run in runs]
    apart = follows(places, contents) and follows(contents, places)
    return places if apart else [content and content[:8] for content in contents]


def _null_or_absent(key: str, values: list[Any]) -> list[Any]:
    """Where null means the same as leaving the key out, the two are one level."""
    same = None in values and key.split(".")[0] in (*_NULL_IS_ABSENT, key)
    return [None if value == ABSENT else value for value in values] if same else values


def _choices(group: str, runs: Sequence[Run]) -> list[str]:
    """The choice of a group in each run; of choices with equal settings (``trainer=cpu`` and ``auto``), the first."""
    nothing = "none" if any(group in run.choices for run in runs) else ABSENT  # a choice without settings
    first: dict[str, str] = {}
    found = []
    for run in runs:
        own = {key: value for key, value in _essence(run.settings).items() if key.split(".")[0] == group}
        found.append(first.setdefault(_canonical(own), run.choices.get(group, ABSENT if own else nothing)))
    return found


def _short_names(keys: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """The last part of each key; the whole key if that is taken, or if another key nearer to the root has it."""
    short = {key: key.removesuffix("._target_").split(".")[-1] for key in keys}
    depths: dict[str, list[int]] = {}
    for key, name in short.items():
        depths.setdefault(name, []).append(key.count("."))
    groups, taken = {key.split(".")[0] for key in keys if "." in key}, set(reserved)

    def alone(key: str, name: str) -> bool:
        nearest = min(depths[name])
        return key.count(".") == nearest and depths[name].count(nearest) == 1 and name not in taken | groups - {key}

    return {key: name if alone(key, name) else key for key, name in short.items()}


def _essence(counting: Mapping[str, Any]) -> dict[str, Any]:
    """Drop nulls that mean the same as leaving the key out, and the settings of a place if its content is known."""
    known = tuple(place for content, place in _PLACES.items() if content in counting)
    return {
        key: value
        for key, value in counting.items()
        if not (value is None and key.split(".")[0] in (*_NULL_IS_ABSENT, key)) and not key.startswith(known)
    }


def _with_current_keys(counting: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, by dotted key, with those that are younger than it (``_FORMERLY``)."""
    renamed = {} if "loss._target_" in counting else {"label_smoothing": "loss.label_smoothing"}
    model = str(counting.get("model._target_"))
    added = [values for prefix, values in _FORMERLY.items() if counting and model.startswith(prefix)]
    return {renamed.get(key, key): value for key, value in ChainMap(dict(counting), *added).items()}


def _leaves(node: Any, key: str = "") -> dict[str, Any]:
    """The values in nested mappings by their dotted keys; a list is one value."""
    if not isinstance(node, Mapping):
        return {key: node}
    below = [_leaves(value, f"{key}.{child}" if key else str(child)) for child, value in node.items()]
    return {name: value for leaves in below for name, value in leaves.items()}


def plain_value(value: Any) -> Any:
    """Replace whole floats by integers, so that 0.0 equals 0; but not in what ``_is_foreign``, see ``_tells_apart``."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        if _is_foreign(value.get("_target_")):
            return dict(value)
        return {str(key): plain_value(child) for key, child in value.items()}
    return [plain_value(child) for child in value] if isinstance(value, list) else value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _only_watches(node: Any, own: bool) -> bool:
    """Whether the callback of this config node does not change results."""
    if not isinstance(node, Mapping):
        return node is None
    target = str(node.get("_target_"))
    if target.startswith(_LIGHTNING):
        return target.removeprefix(_LIGHTNING) in _WATCHERS
    declared = _declaration(target) if own or target in known_targets("callbacks") else False
    return declared in node and not node[declared] if isinstance(declared, str) else declared


@cache
def _declaration(target: str) -> bool | str:
    """A callback class's ``only_watches``, parsed from the source: an import would take seconds."""
    module, _, name = target.rpartition(".")
    try:
        spec = find_spec(module)
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))  # type: ignore[union-attr, arg-type]
    except (ImportError, ValueError, TypeError, OSError, AttributeError, SyntaxError):
        return False  # building the callback reports the error
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    for statement in (statement for found in classes for statement in found.body):
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "only_watches":
            return ast.literal_eval(statement.value)
    return False


@cache
def _target_of(group: str, choice: str) -> str | None:
    """The ``_target_`` of a choice in conf/; None if conf/ has no such choice."""
    file = CONF / group / f"{choice}.yaml"
    if not re.fullmatch(r"[\w-]+", choice) or not file.is_file():
        return None
    text = file.read_text(encoding="utf-8")
    if target := re.search(r"^_target_:\s*(\S+)", text, re.MULTILINE):
        return target[1]
    base = re.search(r"^defaults: *\[(\w+)\]", text, re.MULTILINE)
    return _target_of(group, base[1]) if base else None
