"""Skip the completed jobs of a relaunch before their configurations are composed, which takes a third of a second each.

A job that is not skipped here is compared setting by setting, see ``src.sweeps.relaunch``.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.data.content_hash import content_of
from src.runs import identity
from src.runs.folder import RunFolder, accuracy
from src.runs.provenance import composed_by
from src.runs.trust import trusted

_OTHER_FILES = ("--config-", "-cd", "-cp", "-cn", "hydra.searchpath")


def left_of(sweep: Path, jobs: Mapping[str, Sequence[str]]) -> list[str]:
    """The jobs that may still have something to do, by the names of their folders; the others are printed.

    A completed run whose overrides, code, configuration files, packages and images are those of this launch has the
    settings that would be composed.

    Args:
        jobs: overrides of each job, by folder name.
    """
    if any(word.startswith(_OTHER_FILES) for word in sys.argv[1:]):
        return list(jobs)  # whose changes ``composed_by`` does not see
    now = composed_by()
    left = []
    for name, overrides in jobs.items():
        with suppress(OSError, ValueError, KeyError):
            results = RunFolder(sweep / name).results()
            record = (results["status"], results["overrides"], results["composed_by"])
            # An interpolation may have another value now, such as that of an environment variable.
            same = record == ("completed", [*overrides], now) and "$" not in "".join(overrides)
            same = same and not results["config"].get("init_from")  # whose weights are compared there
            if same:
                config: Any = OmegaConf.to_container(trusted({"data": results["config"]["data"]}))  # a stranger's file?
                if content_of(config["data"]["source"]) == results["settings"][identity.CONTENT]:
                    print("{}: completed before, {} {:.2%}".format(name, *accuracy(results)))
                    continue
        left.append(name)
    return left
