"""Run a command with the user's arguments: paths need no quotes, and a mistake is explained in one sentence."""

import inspect
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from src.runs.command import setting
from src.runs.errors import near_names, sentence
from src.runs.hydra_versions import CONF
from src.sweeps.jobs import how_to_finish, jobs
from src.sweeps.multirun import SweepSummary  # and, by it, the resolvers that conf/*.yaml use

_PATHS = ("ckpt", "init_from", "resume", "images", "out", "eval", "sweep", "hydra.run.dir", "hydra.sweep.dir")


def run(main: Callable[[], Any]) -> None:
    """Call a command, a function under ``hydra.main``, with the arguments in ``sys.argv``.

    Raises:
        SystemExit: with 1 after an error of Hydra or the system, which is printed as one sentence; with 128 plus the
            signal's number after an interruption, when the command that finishes a sweep is printed.
    """
    # Options first: Hydra 1.3 requires all overrides side by side.
    words = sorted(sys.argv[1:], key=lambda word: word[:1] == "~" or ("=" in word and word[0] != "-"))
    if "hydra.job.chdir=true" in words:
        words.remove("hydra.job.chdir=true")
        print("hydra.job.chdir is left out: paths are relative to the folder in which a command is started.")
    # A group called debug would leave no room for debug=true.
    names = {f"debug={file.stem}": f"debugging={file.stem}" for file in (CONF / "debugging").glob("*.yaml")}
    words = [re.sub(r"=log\(([^(),]+,[^(),]+)\)$", r"=tag(log,interval(\1))", names.get(word, word)) for word in words]
    sys.argv[1:] = [quote_path(word) for word in words]
    name = Path(inspect.getfile(inspect.unwrap(main))).stem
    if _multirun() and name not in ("train", "tune"):
        print(f"src.{name} takes no --multirun: it is one command; a list is written key=[a,b].", file=sys.stderr)
        raise SystemExit(1)
    for key, _, value in (word.partition("=") for word in words):
        texts = {part for part in value.lower().split(",") if part.isalpha()} - {"true", "false", "null"}
        if key in _switches(name) and texts:  # for Hydra, unlike YAML, "no" is a text, and any text counts as true
            print(f"{key} is {value!r}; expected true or false.", file=sys.stderr)
            raise SystemExit(1)
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        import rich

        rich.reconfigure(width=200)  # do not wrap lines in a log file
    logging.raiseExceptions = False  # no stack traces if the output, such as /dev/full, cannot be written
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    # A process that only waits for others, such as joblib's, ends them, too. A run has handlers of its own.
    former = signal.signal(signal.SIGTERM, _terminate)
    try:
        with warnings.catch_warnings():
            # Hydra 1.3: conf/hydra/launcher/ray.yaml has the name of the plugin's own node on purpose.
            warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore")
            main()
            sys.stdout.flush()
    except BrokenPipeError:  # as in: python -m src.status sweep=NAME | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        raise SystemExit(1) from None
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        if "debug=true" in sys.argv:
            raise
        print(_explain(error, name), file=sys.stderr)
        raise SystemExit(1) from None
    except (KeyboardInterrupt, SystemExit) as stopped:
        code = stopped.code if isinstance(stopped, SystemExit) else 128 + signal.SIGINT
        if isinstance(code, int) and code > 128 and _multirun() and SweepSummary.sweep is not None:
            print(how_to_finish(SweepSummary.sweep, jobs(SweepSummary.sweep)))
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
        raise SystemExit(code) from None
    finally:
        signal.signal(signal.SIGTERM, former)


@cache
def _switches(command: str) -> frozenset[str]:
    """The true-or-false settings of a command, but ``compile``: it may be a mode, and has a sentence of its own."""
    settings = OmegaConf.load(CONF / f"{'train' if command == 'tune' else command}.yaml")
    plain = cast(dict[str, Any], OmegaConf.to_container(settings, resolve=False))
    return frozenset(key for key, value in plain.items() if isinstance(value, bool) and key != "compile")


def _terminate(number: int, _: Any) -> None:
    raise SystemExit(128 + number)


def _multirun() -> bool:
    return bool({"-m", "--multirun"} & set(sys.argv))


def quote_path(argument: str) -> str:
    """Quote the path in ``key=path`` if Hydra would otherwise not read it as that path.

    The folders of a sweep's jobs have ``=`` and ``,`` in their names, which Hydra reads as an error and as a list. A
    value is a path if it exists or ``key`` takes paths, unless it is quoted, a list, or one of several in a multirun.
    """
    key, _, value = argument.partition("=")
    several = value[:1] in ("'", '"', "[") or value in ("", "null") or ("," in value and _multirun())
    exists = re.search(r"[^\w./+-]", value) and os.path.exists(value)  # noqa: PTH110  (Path's raises if it is too long)
    if "$" in value or (not exists and (several or key not in _PATHS)):
        return argument
    return setting(key, value.rstrip("/\\") or value)


def _explain(error: Exception, command: str) -> str:
    """One sentence about an error in the arguments of ``command``, with the valid names closest to a wrong one."""
    cause = error.__cause__
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} cannot be read: expected key=value without spaces, as in seed=1,2,3, with every quote "
            "and bracket closed, and quotes around a value of special characters, as in 'key=\"a (b)\"'."
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"There is no {group}={choice}; {_choose(choice, error.options)}"
    if isinstance(error, HydraException) and isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _explain_key(re.findall(r"'(.+?)'", str(error))[0], cause, command)
    overrides = [word for word in sys.argv[1:] if "=" in word and word[0] != "-"]
    for override in OverridesParser.create().parse_overrides(overrides):
        choices = [file.stem for file in (CONF / override.key_or_group).glob("*.yaml")]
        if override.value() is None and choices:
            return f"{override.input_line} chooses nothing; {_choose('', choices)}"
        if override.is_sweep_override() and not _multirun():
            return (
                f"{override.input_line} gives several values: add --multirun for a run with each of them, or write a "
                "list in brackets, key=[a,b]."
            )
    texts = [str(error) if isinstance(error, HydraException) else sentence(error)]
    texts += str(cause).splitlines()[:1] if cause is not None else []
    return ": ".join(" ".join(text.split()) for text in texts)


def _choose(choice: str, choices: Iterable[str]) -> str:
    return near_names(choice, (name for name in choices if name[0] != "_"))


def _explain_key(typed: str, error: OmegaConfBaseException, command: str) -> str:
    """Message for an unknown key ``typed``: suggest the closest names, or the same name elsewhere in the config."""
    above, _, wrong = str(error.full_key).rpartition(".")
    config = cast(dict[str, Any], OmegaConf.to_container(error.parent_node, resolve=False))
    names = list(config)
    if not above:  # a group without a choice has no key
        defaults = OmegaConf.select(OmegaConf.load(CONF / f"{command}.yaml"), "defaults", default=[])
        names += [group for entry in defaults if entry != "_self_" for group in entry]
    names = sorted({name for name in names if name != "hydra" and name[0] != "_" and " " not in name})
    start = f"{above}." if above else ""
    rest = typed[len(start + wrong) :]
    alike = get_close_matches(wrong, names, cutoff=0.75)
    alike = alike or [name for name in names if len(name) > 3 and (wrong.startswith(name) or name.startswith(wrong))]
    near, adds = [start + name + rest for name in alike], ""
    if not near:
        ends = {key: key.rpartition(".")[2] for key in _keys(config, above)}
        alike = get_close_matches(typed.rpartition(".")[2], set(ends.values()), cutoff=0.75)
        near = [key for key, end in ends.items() if end in alike][:3]
        adds = f" (+{typed}=... would add a key.)"
    if near:
        return f"There is no {typed}; did you mean {' or '.join(near)}?{adds}"
    there = f"{above or command} has {', '.join(names)}" if names else f"{above} sets nothing that could be meant"
    return f"There is no {typed}; {there}, and +{typed}=... adds a key."


def _keys(config: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, value in config.items():
        key = f"{above}.{name}" if above else name
        if key != "hydra" and not str(value).startswith("${"):  # an interpolated key is not set directly
            yield key
            yield from _keys(value, key) if isinstance(value, dict) else ()
