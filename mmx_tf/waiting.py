"""How far a long comparison has come: a bar on a terminal, a line a minute elsewhere.

>>> with images_done("verify", 10_000) as progress:
...     report = verify(folded, data, eval_ds, progress=progress)
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from absl import logging
from tqdm import tqdm

from mmx_tf.notation import duration

SECONDS_BETWEEN_LINES = 60.0


@contextlib.contextmanager
def images_done(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A function that is told how many images are done, and shows it on stderr.

    Args:
      what: is done with them.
      total: number of images; None where nobody knows.
    """
    if sys.stderr.isatty():
        options = {"unit": " images", "dynamic_ncols": True, "leave": False, "file": sys.stderr}
        with tqdm(total=total, desc=f"mmx_tf: {what}", **options) as bar:
            yield lambda done: bar.update((done if total is None else min(done, total)) - bar.n)
        return
    start = told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= SECONDS_BETWEEN_LINES:
            told = now
            logging.info("%s: %s", what, words(done, total, now - start))

    yield tell


def words(done: int, total: int | None, seconds: float) -> str:
    """'1,280 of 10,000 images, about 5 min 41 s left', after `seconds` for those that are done."""
    if total is None:
        return f"{done:,} images"
    left = seconds / done * max(0, total - done)
    return f"{done:,} of {total:,} images, about {duration(left)} left"
