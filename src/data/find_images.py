"""Find the image files that a user names."""

import glob
from collections.abc import Iterable
from pathlib import Path

from src.data.decode import SUFFIXES


def find_images(places: str | Iterable[str]) -> list[Path]:
    """The image files at ``places``, in their order, each one once.

    Args:
        places: files, folders (with all below them, sorted; hidden files and folders, and files without an image's
            extension, are skipped) and patterns such as ``photos/**/*.jpg``.

    Raises:
        FileNotFoundError: a place has none.
    """
    found: dict[Path, None] = {}
    for place in [places] if isinstance(places, str) else places:
        path = Path(place).expanduser()
        if path.is_file():  # whatever its name: an unreadable file is reported, and [ ] may be in the name
            files = [path]
        elif path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if _is_visible_image(file.relative_to(path))]
        else:
            matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
            files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise FileNotFoundError(f"There are no images at {place}; name a file, a folder or a pattern like a/*.png.")
        found |= dict.fromkeys(files)
    return list(found)


def _is_visible_image(file: Path) -> bool:
    return file.name.lower().endswith(SUFFIXES) and not any(part.startswith(".") for part in file.parts)
