"""The content hash of a configuration's images, without training."""

import json
from functools import cache
from typing import Any

from hydra.utils import instantiate


def content_of(source: dict[str, Any]) -> str:
    """See ``LabelledImages.content``. Images are loaded once for all jobs of a launch, see ``clear_cache``.

    Args:
        source: resolved, plain values of ``data.source``.

    Raises:
        ValueError, OSError: they cannot be loaded.
    """
    return _content_of(json.dumps(source, sort_keys=True))


@cache
def _content_of(source: str) -> str:
    return instantiate(json.loads(source)).load().content


clear_cache = _content_of.cache_clear
