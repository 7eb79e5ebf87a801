"""Differences between Hydra 1.3 (with OmegaConf 2.3) and Hydra 1.4 (with OmegaConf 2.4)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hydra.utils
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf"
_execution_whitelist: Any = getattr(hydra.utils, "execution_whitelist", None)  # Hydra 1.4

if _execution_whitelist is None:
    register_resolver: Any = OmegaConf.register_new_resolver
    MAIN: dict[str, Any] = {"config_path": str(CONF), "version_base": "1.3"}
else:
    register_resolver = OmegaConf.register_resolver
    # Hydra itself builds callbacks and log handlers from conf/ and the command line, which are trusted.
    MAIN = {"config_path": str(CONF), "execution_whitelist": vars(hydra.utils)["UNSAFE_DISABLE_EXECUTION_CHECKS"]}


def whitelist(targets: Iterable[str]) -> dict[str, Any]:
    """The argument of ``hydra.utils.instantiate`` that allows these targets; Hydra 1.3 has none.

    If a nested target returns a callable, such as a network, Hydra 1.4 also checks its class: the target's package and
    torch are allowed.
    """
    if _execution_whitelist is None:
        return {}
    allowed = {"torch.*"}.union(*({target, f"{target.partition('.')[0]}.*"} for target in targets))
    return {"_execution_whitelist_": _execution_whitelist(sorted(allowed), reset=True)}
