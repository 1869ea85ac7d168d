"""The processes and devices that share one run, and what they have to agree on.

Every process of a job runs the same program on the same workdir; the *chief* alone writes there. Training is
the same sequence of steps for all of them, so what a step's end depends on (a signal, the clock, files in
the workdir) is decided together.

    with job.scope():
        network = build()
    job.on_chief(lambda: network.save("float.keras"))     # the others wait
"""

import contextlib
import re
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence

import tensorflow as tf
import tf_keras as keras

from mmx_tf.errors import PeerError

GONE = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
    tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError, tf.errors.InternalError,
)  # fmt: skip
"""What TensorFlow raises in a process when another one of its job is gone."""


class Job:
    """A run's `tf.distribute` strategy, or none, and this process's place in it.

    Args:
      strategy: None for one process on one device.
      index: of this process among the workers; the chief's is 0.
      workers: processes of the job.

    Attributes:
      replicas: parts into which a batch is cut; 1 without a strategy.
      is_chief: whether this process writes the workdir.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None, *, index: int = 0, workers: int = 1):
        self.strategy, self.index, self.workers = strategy, index, workers
        self.replicas = strategy.num_replicas_in_sync if strategy else 1
        self.is_chief = index == 0
        self._steps: dict[tuple, Callable] = {}

    def scope(self) -> contextlib.AbstractContextManager:
        """In it networks, metrics and optimizers are made that are trained on all replicas."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    @property
    def part(self) -> tuple[int, int]:
        """(index, count): which of `count` equal parts of every batch this process reads."""
        return self.index, self.workers

    def distribute(self, dataset: tf.data.Dataset, *, batch_size: int):
        """This process's part of every batch, cut into those of its replicas, in their order.

        Args:
          dataset: batches of this process's part.
          batch_size: images of the whole batch, a multiple of `replicas`.
        """
        if self.strategy is None:
            return dataset
        own = dataset.rebatch(batch_size // self.replicas, drop_remainder=True)
        return self.strategy.distribute_datasets_from_function(lambda _: own)

    def step_function(self, fitted: keras.Model, kind: Hashable = None) -> Callable:
        """iterator -> logs of one training step of a compiled model, as they are on the first replica.

        Args:
          fitted: compiled model.
          kind: what the step depends on beside the model; on several replicas each kind is traced.
        """
        if self.strategy is None:
            return fitted.make_train_function()
        key = (id(fitted), kind)
        if key not in self._steps:

            @tf.function(autograph=False)
            def step(iterator):
                logs = self.strategy.run(fitted.train_step, args=(next(iterator),))
                return {name: self.strategy.experimental_local_results(log)[0] for name, log in logs.items()}

            self._steps = {key: step}
        return self._steps[key]

    def any_of(self, *flags: bool) -> list[bool]:
        """For each flag whether it is true in any process; all must ask at the same place."""
        if self.workers == 1:
            return [bool(flag) for flag in flags]
        return [
            value > 0 for value in self._summed(tf.constant([float(bool(flag)) for flag in flags])).numpy()
        ]

    def all_equal(self, number: int) -> bool:
        """Whether all processes have the same number; all must ask at the same place."""
        if self.workers == 1:
            return True
        number = float(number)
        first, second, count = self._summed(tf.constant([number, number * number, 1.0], tf.float64)).numpy()
        return count * second == first * first

    def chief_says(self, flag: bool) -> bool:
        """The chief's flag, in every process; all must ask at the same place."""
        return self.any_of(self.is_chief and flag)[0]

    def on_chief(self, function: Callable):
        """What a function gives that the chief alone calls; the others wait for its end and get None.

        Raises:
          PeerError: in the others, if it raised an error in the chief.
        """
        result, done = None, not self.is_chief
        try:
            if self.is_chief:
                result, done = function(), True
        finally:
            failed = self._wait(not done) if self.workers > 1 else False
        if failed:
            raise PeerError("the chief has ended with an error: see the output of that process.")
        return result

    def _wait(self, flag: bool) -> bool:
        """`any_of` one flag, open to signals, which Python does not see while TensorFlow waits for others."""
        found: list[bool | Exception] = []

        def ask():
            try:
                found.append(self.any_of(flag)[0])
            except tf.errors.OpError as error:
                found.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    def take_the_chiefs(self, variables: Sequence[tf.Variable]) -> None:
        """Gives float variables the values that they have in the chief."""
        if self.workers == 1:
            return
        values = self._of_first([variable.read_value() for variable in variables])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    @contextlib.contextmanager
    def peer_errors(self) -> Iterator[None]:
        """Says in words that another process is gone when TensorFlow finds so in the block.

        Raises:
          PeerError: names the process, where TensorFlow does.
        """
        try:
            yield
        except GONE as error:
            if self.workers == 1:
                raise
            task = re.search(r"/job:\w+(?:/replica:\d+)?/task:\d+", str(error.message))
            which = f" (TensorFlow names {task[0]})" if task else ""
            raise PeerError(f"another process of the job is gone{which}.") from error

    @tf.function(autograph=False, reduce_retracing=True)
    def _summed(self, values):
        """Sums over the processes; those with several replicas count once."""

        def own(values):
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group % (self.replicas // self.workers), 0)
            return context.all_reduce("SUM", tf.where(first, values, tf.zeros_like(values)))

        return self.strategy.experimental_local_results(self.strategy.run(own, args=(values,)))[0]

    @tf.function(autograph=False)
    def _of_first(self, values):
        def own(values):
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group, 0)
            return context.all_reduce(
                "SUM", [tf.where(first, value, tf.zeros_like(value)) for value in values]
            )

        results = self.strategy.run(own, args=(values,))
        return [self.strategy.experimental_local_results(result)[0] for result in results]


ALONE = Job()
"""One process on one device, without a strategy."""
