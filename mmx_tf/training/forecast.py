"""How long a run still takes: its phases in their order, and what a step of each kind has taken so far.

A kind of step that has not been seen yet is put at a multiple of one that has, by `WEIGHTS`; so is the time
until a phase's first step is done, in which TensorFlow traces it. These multiples are rough, since what a
quantizer costs beside a convolution depends on the network and the processor: figures that follow from them
are told with "about". What lies between two phases (saving, loading, other networks) is put at the last time.

    with using(Forecast(stages)):           # once for a run
        ...
        current().left(stage, epoch=0, step=12)

Stages that a resumed run has behind it are never asked for, and those before the one that is asked for do not
count.
"""

import contextlib
import contextvars
import dataclasses
import time
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

WEIGHTS = {"float": 0.6, "fixed": 1.0, "judged": 0.35, "checked": 1.0}
"""Cost of a step of a kind, each of them on a batch: training the float and the fixed network, an evaluation,
and the comparison of the file with its network. A search's `Stage` has its own."""
CHECK = "check"
"""Name of the stage in which a file is compared with its network."""
META = "meta"
"""Steps of a search that choose no bits yet."""
RECENT = 50
"""Steps over which a step's time is taken: the median of so many."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run that takes long.

    Attributes:
      key: by which its phase finds it: (folder of the workdir, name).
      epochs: the kind of the steps of each epoch.
      steps: of every epoch.
      judged: batches of the evaluation after each epoch.
      weights: of kinds that `WEIGHTS` lacks.
    """

    key: tuple[str, str]
    epochs: tuple[str, ...]
    steps: int
    judged: int = 0
    weights: tuple[tuple[str, float], ...] = ()


class Forecast:
    """The stages of a run, and the seconds of their steps as far as they were seen.

    Args:
      stages: in their order. None at all: what is left of a run is not known.
    """

    def __init__(self, stages: Sequence[Stage] = ()):
        self._stages, self._seconds, self._starts = tuple(stages), {}, {}
        self._weights = dict(WEIGHTS)
        for stage in self._stages:
            self._weights |= dict(stage.weights)
        self._last = ""
        self._between, self._since = 0.0, time.monotonic()

    def begins(self) -> None:
        """A phase begins."""
        self._between = time.monotonic() - self._since

    def ends(self) -> None:
        """A phase has ended."""
        self._since = time.monotonic()

    def seen(self, kind: str, seconds: float) -> None:
        """Takes note of a step that took so long."""
        self._seconds.setdefault(kind, deque(maxlen=RECENT)).append(seconds)
        if kind != "judged":
            self._last = kind

    def started(self, stage: Stage, seconds: float) -> None:
        """Takes note of how long a stage took until its first step was done; most of it is tracing."""
        self._starts[stage.key[-1]] = seconds, self._weight(stage)

    def step(self, kind: str) -> float | None:
        """Seconds of a step of a kind; None where nothing of the sort is known."""
        if kind in self._seconds:
            return float(np.median(self._seconds[kind]))
        if self._last and kind in self._weights and self._last in self._weights:
            return self.step(self._last) * self._weights[kind] / self._weights[self._last]
        return None

    def start(self, stage: Stage) -> float:
        """Seconds until a stage's first step is done; 0 where nothing of the sort is known."""
        name = stage.key[-1]
        if name in self._starts:
            return self._starts[name][0]
        if not self._starts:
            return 0.0
        seconds, weight = list(self._starts.values())[-1]
        return seconds * self._weight(stage) / weight

    def _weight(self, stage: Stage) -> float:
        return max(self._weights.get(kind, 1.0) for kind in stage.epochs)

    def stage(self, key: tuple[str, str]) -> Stage | None:
        """The stage of a phase; None of one that nobody has planned."""
        return next((stage for stage in self._stages if stage.key == key), None)

    def left(self, stage: Stage, *, epoch: int, step: int) -> tuple[float | None, float | None]:
        """Seconds that are left of a stage, and of all stages from it on; None where that is not known.

        Args:
          stage: that is worked at.
          epoch, step: finished epochs, and steps that are done of the next.
        """
        own = self._of(stage, epoch, step)
        if own is None or stage not in self._stages:
            return own, None
        others = self._stages[self._stages.index(stage) + 1 :]
        later = [self._of(other) for other in others]
        if None in later:
            return own, None
        phases = [other for other in others if other.key[-1] != CHECK]
        return own, own + sum(later) + sum(map(self.start, phases)) + self._between * len(phases)

    def _of(self, stage: Stage, epoch: int = 0, step: int = 0) -> float | None:
        kinds = stage.epochs[epoch:]
        if not kinds:
            return 0.0
        rates = {kind: self.step(kind) for kind in {*kinds, "judged"}}
        if any(rates[kind] is None for kind in kinds):
            return None
        judging = stage.judged * (rates["judged"] or 0.0)
        return sum(stage.steps * rates[kind] + judging for kind in kinds) - step * rates[kinds[0]]


_CURRENT: contextvars.ContextVar[Forecast] = contextvars.ContextVar("forecast")


@contextlib.contextmanager
def using(forecast: Forecast) -> Iterator[Forecast]:
    """A block in which phases tell a forecast of their steps, and it tells them what is left."""
    token = _CURRENT.set(forecast)
    try:
        yield forecast
    finally:
        _CURRENT.reset(token)


def current() -> Forecast:
    """That of the block; outside of one, a new one without stages."""
    return _CURRENT.get(None) or Forecast()
