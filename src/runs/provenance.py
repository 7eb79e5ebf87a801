"""Provenance of a run: the code's revision, package versions, the device, its memory."""

import hashlib
import platform
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.runs.escaping import plural

if TYPE_CHECKING:
    import torch

_NOT_TRAINING = ("src/analysis/", "src/benchmarks/", "src/inference/")

# torch is imported where it is used: a job that is already completed does not need it.


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    packages = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def revision() -> tuple[dict[str, Any], str]:
    """The code's git commit, whether files differ from it, and a hash of the diff; and the diff itself.

    The first three are None outside a checkout or without git. New files count if they are Python, YAML or TOML.
    """
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True)
        return done.stdout.decode("utf-8", "replace")

    try:
        commit, modified, diff = git("rev-parse", "HEAD").strip(), git("status", "--porcelain"), git("diff", "HEAD")
        for name in git("ls-files", "-zo", "--exclude-standard", "--", "*.py", "*.yaml", "*.toml").split("\0")[:-1]:
            diff += f"new file {name}\n{(root / name).read_text('utf-8', 'replace')}\n"
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "modified": None, "diff": None}, ""
    digest = hashlib.sha256(diff.encode()).hexdigest()[:12] if diff else None
    return {"commit": commit, "modified": bool(modified), "diff": digest}, diff


def keep_revision(folder: Path) -> dict[str, Any]:
    """The ``revision``, with its diff kept in ``folder`` as ``code-<hash>.diff``."""
    code, diff = revision()
    kept = folder / f"code-{code['diff']}.diff"
    if diff and not kept.exists():
        kept.write_text(diff, encoding="utf-8")
    return code


def environment() -> dict[str, str]:
    """Versions of Python and of all installed packages."""
    installed = {package.name: package.version for package in distributions() if package.name}
    return {"python": platform.python_version()} | dict(sorted(installed.items()))


def training_code() -> dict[str, str]:
    """A hash (12 hexadecimal digits) of every file that training may use, by its path: in src and conf from the root,
    and modules and packages (with an ``__init__.py``) of the user's own in the folder in which the command is
    started."""
    root, here = Path(__file__).parents[2], Path.cwd()
    files = sorted([*root.glob("src/**/*.py"), *root.glob("hydra_plugins/*.py"), *root.glob("conf/**/*.yaml")])
    names = {file: file.relative_to(root).as_posix() for file in files}
    packages = [file.parent for file in here.glob("*/__init__.py") if file.parent != root / "src"]
    own = [*here.glob("*.py"), *(file for package in packages for file in package.rglob("*.py"))]
    names |= {file: f"./{file.relative_to(here).as_posix()}" for file in sorted(own)}
    used = {file: name for file, name in names.items() if not name.startswith(_NOT_TRAINING) and file.is_file()}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file, name in used.items()}


def composed_by() -> str:
    """A hash of all that makes a configuration from overrides: code, configuration files and packages; 12 digits."""
    return hashlib.sha256(repr((training_code(), versions())).encode()).hexdigest()[:12]


def device_name(device: "torch.device") -> str:
    """The device in words: the card's name, or the processor and the number of threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{platform.processor() or platform.machine()} CPU, {plural(torch.get_num_threads(), 'thread')}"
    return device.type


def has_bfloat16_units() -> bool | None:
    """Whether this processor has units that multiply matrices in bfloat16 (AMX, or those of ARM); None where torch
    cannot tell, and for AVX-512's instructions, which may be slower than float32 (src/benchmarks/README.md)."""
    import torch

    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()  # younger than the oldest torch that will do
    known = {name: capabilities[name] for name in ("amx_bf16", "bf16", "avx512_bf16") if name in capabilities}
    if known.pop("avx512_bf16", False) and not any(known.values()):
        return None
    return any(known.values()) if known else None


def peak_memory() -> int:
    """The peak resident memory of this process, in bytes; 0 under Windows, where it is unknown.

    Linux's ``ru_maxrss`` would include that of the parent process; macOS's is in bytes.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    if sys.platform == "win32":
        return 0
    import resource  # Windows has neither

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
