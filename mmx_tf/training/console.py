"""How far a training phase has come: a line of the terminal's width, or lines of the log.

    select 1/2   38%|████      | 03:12 left, run 12:40, loss 1.204, 61.2 MBOPs, accuracy 61.34%

Below a terminal's line nothing is written; where there is no terminal the log has a line a minute. Both log
the ends of epochs, ten seconds apart at least, and that of the last one always. Keras's own bar has one
figure for every log, so that three budgets took a line of 600 characters.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

from mmx_tf import waiting
from mmx_tf.notation import duration
from mmx_tf.training.forecast import META, Stage, current
from mmx_tf.training.told import Told, told
from mmx_tf.waiting import clock

SECONDS_BETWEEN_EPOCHS = 10.0
SHORTEST_BAR = 4


class Console(waiting.Display):
    """A phase as its user sees it; the loop tells it what happens.

    Args:
      stage: the phase; `stage.key` ends with its name.
      costs: that are among the logs.
      silent: nothing is to be seen, as in a process that is not the chief of its job.
    """

    def __init__(self, stage: Stage, costs: Sequence[Told] = (), *, silent: bool = False):
        super().__init__()
        self._stage, self._costs, self._silent = stage, costs, silent
        self._forecast = current()  # Another thread, which draws, has a context of its own.
        self._epoch = self._step = 0
        self._figures: list[str] = []
        self._doing = "preparing the first step"
        self._step_begun: float | None = None
        self._told_epoch = float("-inf")

    def __enter__(self):
        self._forecast.begins()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._forecast.ends()

    @property
    def _name(self) -> str:
        return self._stage.key[-1]

    @property
    def _counted(self) -> Sequence[Told]:
        """The costs; none where no bits are chosen yet."""
        return () if self._stage.epochs[self._epoch] == META else self._costs

    def begin(self, epoch: int, step: int) -> None:
        """An epoch begins, or goes on, after so many epochs and steps of it."""
        self._epoch, self._step, self._epoch_begun = epoch, step, time.monotonic()
        self._step_begun = None

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """In the block the epoch is evaluated."""
        self._doing, begun = "evaluating", time.monotonic()
        yield
        self._doing = ""
        if self._stage.judged:
            self._forecast.seen("judged", (time.monotonic() - begun) / self._stage.judged)

    def step(self, logs: dict[str, float]) -> None:
        """A step has ended, with these logs."""
        now = time.monotonic()
        # A first step is traced, and that of an epoch waits for its data.
        if not self._figures:
            self._forecast.started(self._stage, self.seconds)
        elif self._step_begun is not None:
            self._forecast.seen(self._stage.epochs[self._epoch], now - self._step_begun)
        self._step_begun, self._doing = now, ""
        self._step += 1
        self._figures = told(logs, self._counted)

    def tell(self, line: str) -> None:
        """Logs a line, unless nothing is to be seen."""
        if not self._silent:
            super().tell(line)

    def refresh(self) -> None:
        """Draws, or logs what is due, unless nothing is to be seen."""
        if not self._silent:
            super().refresh()

    def end(self, logs: dict[str, float]) -> None:
        """The epoch has ended; `logs` has the evaluation after it."""
        self._figures = told(logs, self._counted)
        self._epoch, self._step = self._epoch + 1, 0
        now, last = time.monotonic(), self._epoch == len(self._stage.epochs)
        if last or now - self._told_epoch >= SECONDS_BETWEEN_EPOCHS:
            self._told_epoch = now
            took = f" after {duration(now - self._epoch_begun)}"
            self.tell("".join([f"{self._name}: epoch {self._epoch} of {len(self._stage.epochs)} done{took}",
                               self._said(": ")]))  # fmt: skip

    def words(self) -> str:
        """Position, figures, and the time that is left."""
        if not self._figures:
            why = " (TensorFlow traces it, which takes minutes for a large network)"
            long = self.seconds >= waiting.SECONDS_BETWEEN_LINES
            return f"{self._name}: {self._doing}, {duration(self.seconds)} so far{'' if long else why}"
        share = self._done / self._total
        step = f"step {self._step} of {self._stage.steps}" if not self._doing else self._doing
        where = f"{self._name}: epoch {self._epoch + 1} of {len(self._stage.epochs)}, {step}"
        return f"{where}, {share:.0%} of the phase{self._said(': ')}"

    def _said(self, before: str) -> str:
        own, run = (seconds if seconds and seconds >= 1 else None for seconds in self._left)
        left = [f"about {duration(own)} left"] if own else []
        left += [f"{duration(run)} of the run"] if run and own else []
        left += [f"about {duration(run)} of the run left"] if run and not own else []
        return "; ".join(filter(None, [before + ", ".join(self._figures), ", ".join(left)]))

    def on_screen(self, columns: int):
        """Position, bar, the time that is left, and as many figures as there is room for."""
        text = f"{self._name} {min(self._epoch + 1, len(self._stage.epochs))}/{len(self._stage.epochs)}"
        if self._doing and not self._figures:
            return f"mmx_tf: {self._name}: {self._doing}", None, clock(self.seconds)
        own, run = self._left
        behind = [f"{clock(own)} left"] if own is not None else []
        behind += [f"run {clock(run)}"] if run is not None else []
        behind += [self._doing] if self._doing else []
        room = columns - len(f"{text} 100%|| ") - SHORTEST_BAR
        for figure in self._figures:
            if len(", ".join([*behind, figure])) > room:
                break
            behind.append(figure)
        return text, (self._done, self._total), ", ".join(behind)

    @property
    def _done(self) -> int:
        return self._epoch * self._stage.steps + self._step

    @property
    def _total(self) -> int:
        return len(self._stage.epochs) * self._stage.steps

    @property
    def _left(self) -> tuple[float | None, float | None]:
        return self._forecast.left(self._stage, epoch=self._epoch, step=self._step)
