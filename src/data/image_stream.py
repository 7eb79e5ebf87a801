"""Image files, decoded a batch at a time."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from torch import Tensor

from src.data.decode import THREADS, read_image


def stream(
    files: Iterable[Path], image_size: int, batch_size: int, bits: int = 16
) -> Iterator[tuple[list[Path], list[Tensor], list[ValueError]]]:
    """Decode files in threads, the next batch while the current one is used; at most two are in memory.

    Args:
        files: images of any format, mode and size, see ``read_image``.
        image_size: side S of the results.
        batch_size: files per batch.
        bits: see ``read_image``.

    Yields:
        the files that could be read, their images uint8 ``[3, S, S]``, and the errors of the others.
    """

    def read(file: Path) -> Tensor | ValueError:
        try:
            return read_image(file, image_size, bits)
        except ValueError as error:
            return error

    remaining = iter(files)
    ahead: deque[tuple[list[Path], list[Future[Tensor | ValueError]]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            if batch := list(islice(remaining, batch_size)):
                ahead.append((batch, [pool.submit(read, file) for file in batch]))
            if not ahead:
                return
            if len(ahead) == 2 or not batch:
                yield _collect(*ahead.popleft())


def _collect(
    files: list[Path], futures: list[Future[Tensor | ValueError]]
) -> tuple[list[Path], list[Tensor], list[ValueError]]:
    readable, images, errors = [], [], []
    for file, future in zip(files, futures, strict=True):
        result = future.result()
        if isinstance(result, ValueError):
            errors.append(result)
        else:
            readable.append(file)
            images.append(result)
    return readable, images, errors
