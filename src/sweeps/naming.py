"""Resolvers for conf/*.yaml: names of run folders, and products. Importing this module registers them."""

import ast
import hashlib
import math
import os
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path, PurePath

from omegaconf import DictConfig, OmegaConf

from src.runs.files import links_outside
from src.runs.hydra_versions import CONF, register_resolver

# Hydra's own, plugins' own, and those in conf/.
_OWN = sorted(file.stem for file in (CONF / "hydra/launcher").glob("*.yaml"))
LAUNCHERS = ("basic", "joblib", "submitit_local", *_OWN)
SWEEPS = Path("logs/train/sweeps")
_LONGEST = 180  # characters; Linux, macOS and Windows allow 255 for one name, and paths on Windows are short


def run_id() -> str:
    """A name for a run or a sweep: the time, and six random hexadecimal digits."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(3)}"


def run_dir(resume: str | None) -> str:
    """The folder of a run: new, or the resumed one. An invalid one is not created; the error is reported later."""
    if resume is None:
        return f"logs/train/runs/{run_id()}"
    return resume if Path(resume).is_dir() and not any(links_outside(Path(resume))) else "."


def eval_dir(sweep: str | None) -> str:
    """The folder of an evaluation: new for a checkpoint, always the same for a sweep."""
    return f"logs/eval/sweeps/{sweep_name(sweep)}-tested" if sweep else f"logs/eval/runs/{run_id()}"


def eval_record(sweep: str | None) -> str | None:
    """The subfolder for Hydra's record; none where a stranger's link could lie, which Hydra would follow."""
    return None if sweep else ".hydra"


def record_dir(folder: str, resume: str | None) -> str | None:
    """The subfolder of a run folder for Hydra's record of the configuration; None for no record.

    The record from the start of the run is not changed. A resumed run gets a second one.
    """
    if resume is None:
        return None if Path(folder, ".hydra").exists() else ".hydra"
    resumable = Path(resume, "results.json").is_file() and not any(links_outside(Path(resume)))
    return f".hydra/{run_id()}" if resumable else None


def folder_name(overrides: Sequence[str], fixed: Sequence[str], number: int) -> str:
    """One job's folder within a sweep, from its overrides; valid on Linux, macOS and Windows.

    A name that was changed or cut ends in a hash of the overrides, so that two jobs never share one.

    Args:
        overrides: of the job, ``key=value`` each.
        fixed: keys that are left out.
        number: the job's number, which is the name if no overrides are left.
    """
    keys = {override: re.split("[=@]", override.lstrip("+~"))[0] for override in overrides}
    wanted = ",".join(sorted(override for override, key in keys.items() if key not in fixed))
    if not wanted:
        return str(number)
    name = re.sub(r"[^\w.,=+-]", "_", wanted, flags=re.ASCII).rstrip(".")
    if name == wanted and len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


def sweep_name(sweep: str | Sequence[str] | None) -> str:
    """The name of a sweep, or the last part of its path; several are joined by a plus. Of a/first it is a-first."""
    sweeps = [sweep or "unnamed"] if isinstance(sweep, str | None) else sweep
    paths = [PurePath(str(name)) for name in sweeps]
    named = [path.parts if _is_name(path) else path.parts[-1:] for path in paths]
    return "+".join("-".join(parts) for parts in named)


def _is_name(path: PurePath) -> bool:
    return (SWEEPS / path).is_dir() and not path.is_absolute() and ".." not in path.parts


def product(*factors: float | int) -> float:  # OmegaConf 2.4 checks types as written
    """Their product to twelve digits, so that three times 0.1 is 0.3."""
    return float(f"{math.prod(factors):.12g}")


def slots(config: DictConfig) -> int:
    """How many jobs the launcher of a multirun's configuration runs at a time; 1 where only the launcher knows, as for
    Slurm, a Ray cluster of other machines, or Ray with GPUs."""
    launcher, ray = config.hydra.launcher, config.hydra.launcher.get("ray")
    if config.hydra.runtime.choices["hydra/launcher"] == "basic":
        return 1
    if ray and not ray.init.address and not ray.remote.num_gpus and ray.remote.num_cpus:
        default = max(1, int((os.cpu_count() or 1) // ray.remote.num_cpus))
    else:
        default = launcher.get("n_jobs") or 1
    at_once = config.get("workers") or default
    return at_once if at_once > 0 else os.cpu_count() or 1


def trial_seed(seed: int, trial: int | None) -> int:
    """The seed, 0 to 2**32 - 1, of the sampler that chooses a trial; other for every pair of seed and trial."""
    return int.from_bytes(hashlib.sha256(f"{seed} {trial}".encode()).digest()[:4])


def help_text(command: str) -> str:
    """The text of ``--help``: the command's docstring, its settings with comments from conf/, and the choices.
    src.tune has those of src.train, and its own."""
    docstring = ast.get_docstring(ast.parse((CONF.parent / "src" / f"{command}.py").read_text(encoding="utf-8")))
    file = CONF / f"{'train' if command == 'tune' else command}.yaml"
    settings = (CONF / "tuner/_base.yaml").read_text(encoding="utf-8").partition("\n")[2] if command == "tune" else ""
    settings += file.read_text(encoding="utf-8").partition("\n\n")[2].partition("\nhydra:")[0]
    defaults = [entry for entry in OmegaConf.load(file).defaults if entry != "_self_"]
    groups = [group for entry in defaults for group in entry if " " not in group]
    choices = {group: sorted(choice.stem for choice in (CONF / group).glob("[!_]*.yaml")) for group in groups}
    choices |= {"hydra/launcher": list(LAUNCHERS)} if command in ("train", "tune") else {}
    lines = [f"  {group}: {', '.join(names)}" for group, names in choices.items()]
    chosen = ["Choices (group=choice):", *lines, ""] * bool(groups)
    parts = [docstring, "", *chosen, "Settings (key=value), and what they are if not given:", settings]
    parts.append("--cfg job shows the whole configuration; any value of it can be set.")
    return "\n".join(map(str, parts)).replace("$", "$$")  # Hydra substitutes $NAME


# The value of a cached resolver stays the same for every job of a sweep.
for cached in (run_id, run_dir, eval_dir, eval_record, record_dir):
    register_resolver(cached.__name__, cached, use_cache=True, replace=True)
for resolver in (folder_name, sweep_name, product, trial_seed):
    register_resolver(resolver.__name__, resolver, replace=True)
register_resolver("help", help_text, replace=True)
