"""What a user types, before Hydra reads it."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any


def plain_paths(*keys: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Let a Hydra application take paths as they are: ``resume=logs/train/sweeps/lr/optim=sgd,seed=1``.

    Hydra reads an unquoted ``,`` as a list and an unquoted ``=`` as an error, and the folders of a sweep's jobs
    have both in their names. A multirun, where lists are meant, and a list in brackets are left alone.

    Args:
        keys: whose values are paths.
    """

    def quoted(argument: str) -> str:
        key, _, path = argument.partition("=")
        if key not in keys or path in ("", "null") or path[0] in "'\"" or (path[0], path[-1]) == ("[", "]"):
            return argument
        path = path.rstrip("/\\").replace("'", "\\'") or path
        return f"{key}='{path}'"

    def decorate(main: Callable[[], Any]) -> Callable[[], Any]:
        @wraps(main)
        def with_plain_paths() -> Any:
            if not {"-m", "--multirun"} & set(sys.argv):
                sys.argv[1:] = [quoted(argument) for argument in sys.argv[1:]]
            return main()

        return with_plain_paths

    return decorate
