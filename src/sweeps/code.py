"""The code of a sweep: kept at its launch, and compared when it is launched again.

code.json            the commit, the versions of all packages, and a hash of every file that training may use
code-<hash>.diff     the difference to that commit, if there was one
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from src.runs.file_schema import Code, read_json
from src.runs.folder import write_json
from src.runs.provenance import environment, keep_revision, training_code, versions

_MOST_NAMES = 20  # in a message


def keep_code(sweep: Path, on_code_change: str) -> str:
    """Keep the code of this launch in the sweep's folder, unless it is that of the launch before.

    Args:
        on_code_change: of other code, ``error`` refuses the launch, ``warn`` tells, ``ignore`` does not.

    Returns:
        What to tell the user; empty if nothing changed.

    Raises:
        ValueError: the code is other and ``on_code_change`` is ``error``, or is none of the three.
    """
    if on_code_change not in ("warn", "error", "ignore"):
        raise ValueError(f"on_code_change is {on_code_change!r}; expected warn, error or ignore.")
    file = sweep / "code.json"
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / ".code.json.lock"):
        former: Code | None = None
        with suppress(OSError, ValueError):  # damaged, or from before there was such a record
            former = read_json(file, Code)
        now, installed = training_code(), environment()
        changed = _differences(former["files"], now) if former else []
        packages = _differences(former["versions"], installed, versions()) if former else []
        if former and not changed and not packages:
            return ""
        if len(changed) > _MOST_NAMES:
            changed[_MOST_NAMES:] = [f"and {len(changed) - _MOST_NAMES} more files"]
        told = f"The code is not that of this sweep's last launch: {', '.join(changed + packages)}."
        if former and on_code_change == "error":
            raise ValueError(f"{told} on_code_change=warn goes on all the same; another sweep=NAME keeps them apart.")
        write_json(file, {"revision": keep_revision(sweep), "versions": installed, "files": now})
    if not former or on_code_change == "ignore":
        return ""
    return (
        f"{told} Completed jobs keep their results of the former code: another sweep=NAME trains them with this one, "
        "on_code_change=error refuses the launch."
    )


def _differences(old: Mapping[str, str], new: Mapping[str, str], shown: Mapping[str, str] | None = None) -> list[str]:
    """The keys whose values differ, with both values for those in ``shown``; if that is given, only those count."""
    keys = [key for key in sorted({*old, *new} if shown is None else shown) if old.get(key) != new.get(key)]
    return keys if shown is None else [f"{key} was {old.get(key)} and is now {new.get(key)}" for key in keys]
