"""--strategy: what a run is spread over, checked before long work, and started.

    mirrored      all GPUs of this machine; all logical CPU devices where it has none
    multi_worker  the GPUs of several machines, one process each, which TF_CONFIG describes
    tpu           the cores of a TPU, named by --tpu

On all of them a step is that of the same batch on one device: see `layers.replicas`.
"""

import dataclasses
import json
import os
import re
import typing
from collections.abc import Mapping

import tensorflow as tf
from absl import logging

from mmx_tf.distribution.job import ALONE, Job
from mmx_tf.errors import RecipeError
from mmx_tf.recipe.recipe import Recipe

TF_CONFIG = "TF_CONFIG"
EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class Task:
    """What TF_CONFIG says: the addresses of all processes, the chief's first, and which is this one's."""

    addresses: tuple[str, ...]
    index: int


def is_chief(recipe: Recipe) -> bool:
    """Whether this process is the one that writes, known before anything is started.

    Raises:
      RecipeError: for a TF_CONFIG that cannot be read.
    """
    return recipe.strategy != "multi_worker" or task_of(os.environ).index == 0


def start(recipe: Recipe) -> Job:
    """Connects the processes and devices of a recipe's --strategy; before any other use of TensorFlow.

    With multi_worker it waits until all processes are there. One device alone needs no strategy, and gets
    none: the loops of a step on one replica leave a strategy no place to synchronize its metrics.

    Raises:
      RecipeError: for a TF_CONFIG that cannot be read, processes that cannot be connected, a TPU that is not
        found, a batch that cannot be shared out.
    """
    if recipe.strategy == "none":
        return ALONE
    if recipe.strategy == "mirrored":
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        devices = [device.name.removeprefix("/device:") for device in found]
        job = Job(tf.distribute.MirroredStrategy(devices)) if len(devices) > 1 else ALONE
        said = ", ".join(devices)
    elif recipe.strategy == "multi_worker":
        task = task_of(os.environ)
        others = [a for index, a in enumerate(task.addresses) if index != task.index]
        logging.info(
            "process %d of %d, %s; waiting for %s", task.index, len(task.addresses),
            "the chief" if task.index == 0 else "no chief", ", ".join(others) or "none",
        )  # fmt: skip
        if len(task.addresses) > 1 or len(tf.config.list_physical_devices("GPU")) > 1:
            job = Job(_connected(), index=task.index, workers=len(task.addresses))
        else:
            job = ALONE
        said = f"{job.workers} process{'es' if job.workers > 1 else ''}"
    else:
        job = Job(_tpu(recipe.tpu))
        said = "a TPU"
    logging.info(
        "--strategy=%s: %d replica%s on %s%s", recipe.strategy, job.replicas,
        "s" if job.replicas > 1 else "", said,
        "; one is what --strategy=none uses too" if job.replicas == 1 else "",
    )  # fmt: skip
    check_batch(recipe, recipe.batch_size, job)
    return job


def check_batch(recipe: Recipe, batch_size: int, job: Job) -> None:
    """Refuses a batch that the replicas cannot share out equally.

    Raises:
      RecipeError: names both numbers.
    """
    if batch_size % job.replicas:
        few = "" if batch_size == recipe.batch_size else " (the data set has no more)"
        raise RecipeError(
            f"--batch_size={recipe.batch_size}: {batch_size} images{few} cannot be shared out equally among "
            f"the {job.replicas} replicas of --strategy={recipe.strategy}. Give a multiple of {job.replicas}."
        )


def task_of(environment: Mapping[str, str]) -> Task:
    """The job that TF_CONFIG describes.

    Raises:
      RecipeError: says what is wrong with it, and gives an example.
    """
    text = environment.get(TF_CONFIG)
    if not text:
        _refuse("is not set")
    try:
        config = json.loads(text)
    except ValueError as error:
        _refuse(f"is {text!r}, which is no JSON ({error})")
    config = config if isinstance(config, dict) else {}
    cluster, task = config.get("cluster"), config.get("task")
    if not isinstance(cluster, dict) or not cluster or not isinstance(task, dict):
        _refuse(f"is {text!r}; it needs the objects 'cluster' and 'task'")
    unknown = sorted(set(cluster) - {"chief", "worker"})
    if unknown:
        _refuse(
            f"has {', '.join(map(repr, unknown))} in its cluster; here every process trains: chief and worker"
        )
    for kind, addresses in cluster.items():
        if not isinstance(addresses, list) or not addresses or (kind == "chief" and len(addresses) > 1):
            _refuse(f"has {addresses!r} as {kind}: a list of addresses, of a chief one")
        for address in addresses:
            port = isinstance(address, str) and re.fullmatch(r"[^\s,/]+:(\d{1,5})", address)
            if not port or not 1 <= int(port[1]) <= 65535:
                _refuse(f"has the address {address!r}; one is host:port, with a port of 1 to 65535")
    kind, index = task.get("type"), task.get("index")
    if not isinstance(kind, str) or kind not in cluster:
        _refuse(f"has the task type {kind!r}, which its cluster ({', '.join(cluster)}) does not have")
    if type(index) is not int or not 0 <= index < len(cluster[kind]):
        _refuse(f"has the task index {index!r}, but its cluster has {kind} 0 to {len(cluster[kind]) - 1}")
    addresses = (*cluster.get("chief", ()), *cluster.get("worker", ()))
    if len(set(addresses)) < len(addresses):
        _refuse(f"names an address twice: {', '.join(addresses)}")
    return Task(addresses, index + (len(cluster.get("chief", ())) if kind == "worker" else 0))


def _refuse(what: str) -> typing.NoReturn:
    raise RecipeError(
        f"--strategy=multi_worker: the environment variable {TF_CONFIG} {what}. Every process gets the same "
        f"cluster and a task of its own, such as {TF_CONFIG}='{EXAMPLE}'; the chief is worker 0."
    )


def _connected() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        reason = " ".join(str(error).split())[:300]
        raise RecipeError(
            f"--strategy=multi_worker: the processes that {TF_CONFIG} names cannot be connected: "
            f"{reason.rstrip('.')}. Check that these machines can reach each other, and that this process's "
            "own port is free."
        ) from error


def _tpu(name: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RecipeError(
            f"--strategy=tpu --tpu={name}: no TPU can be used: {reason.rstrip('.')}. Give --tpu=NAME, its "
            "grpc:// address, or 'local' on a TPU's own machine."
        ) from error
