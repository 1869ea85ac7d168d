"""A .tflite in LiteRT's interpreter: loaded, fed with random input of a fixed seed, and run.

    interpreter, init_ms, first_ms = start(path, threads=1)
    run(interpreter)                                            # milliseconds
    [operator.kind for operator in operators(interpreter)]      # ["CONV_2D", ...]

Needs only numpy and ai-edge-litert.
"""

import os
import pathlib
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from .operators import FileOperator


def checked(path: str | os.PathLike) -> pathlib.Path:
    """The path of a file that says it is a .tflite; raises `ValueError` for any other."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: a folder, not a .tflite file.")
    if not path.is_file():
        raise ValueError(f"{path}: no such file.")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}).") from error
    # A flatbuffer holds its file identifier after the 4-byte offset of its root table.
    if head[4:] != b"TFL3":
        raise ValueError(f"{path}: not a .tflite file (it lacks the identifier TFL3).")
    return path


def start(path: pathlib.Path, threads: int) -> tuple[Interpreter, float, float]:
    """A loaded and fed interpreter, and the milliseconds of loading it and of its first run.

    Raises:
      ValueError: if LiteRT refuses the file or runs out of memory on it. On a damaged file it may also end
        the process, see `isolated`.
    """
    begin = time.perf_counter()
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        init = 1e3 * (time.perf_counter() - begin)
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], random_values(detail["shape"], detail["dtype"]))
        return interpreter, init, run(interpreter)
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: LiteRT cannot run it: {reason}") from error


def run(interpreter: Interpreter) -> float:
    """Milliseconds of one run."""
    begin = time.perf_counter()
    interpreter.invoke()
    return 1e3 * (time.perf_counter() - begin)


def memory(path: pathlib.Path, threads: list[int]) -> dict[str, int | None]:
    """Loads and runs the file with each number of threads; peak memory of the first, in bytes.

    `peak_rss_bytes` is the peak of this process, which is to do nothing else, `memory_bytes` what the file
    added to it. None where the system does not tell.
    """
    before = _high_water()
    started, _, _ = start(path, threads[0])
    run(started)
    peak = _high_water()
    for count in threads[1:]:
        start(path, count)
    return {"peak_rss_bytes": peak, "memory_bytes": None if before is None or peak is None else peak - before}


def _high_water() -> int | None:
    """Peak resident bytes of this process. Not `ru_maxrss`: on Linux it starts with the parent's peak."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def random_values(shape, dtype) -> np.ndarray:
    """Values of a fixed seed: all codes of an integer type, [0, 1) of a float type, both values of bool."""
    random, kind = np.random.default_rng(0), np.dtype(dtype)
    if kind.kind not in "biufc":
        raise ValueError(f"an input is of type {kind.name}; only numbers can be made up.")
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return random.integers(limits.min, limits.max, size=shape, dtype=kind, endpoint=True)
    values = random.random(shape)
    return (values < 0.5) if kind.kind == "b" else values.astype(kind)


def undelegated(path: pathlib.Path) -> tuple[FileOperator, ...] | None:
    """The operators of a file, which is loaded without delegates; None where LiteRT does not list them."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return operators(Interpreter(model_path=str(path), experimental_op_resolver_type=resolver))


def operators(interpreter: Interpreter) -> tuple[FileOperator, ...] | None:
    """The file's own operators in its order; None where LiteRT does not list them."""
    listed = _listed(interpreter)
    if listed is None:
        return None
    names = {detail["index"]: detail["name"] for detail in interpreter.get_tensor_details()}
    return tuple(
        FileOperator(
            op["index"], op["op_name"], names.get(int(op["outputs"][0])) if len(op["outputs"]) else None
        )
        for op in listed
        if op["op_name"] != "DELEGATE"
    )


def partitions(interpreter: Interpreter) -> tuple[frozenset[int], ...] | None:
    """Indices of the operators inside each partition of a delegate; None where LiteRT does not list them.

    A delegated graph lists its own operators and then one DELEGATE per partition; a partition is what lies
    between the inputs and the outputs of its DELEGATE.
    """
    listed = _listed(interpreter)
    if listed is None:
        return None
    own = [op for op in listed if op["op_name"] != "DELEGATE"]
    producer = {int(tensor): op for op in own for tensor in op["outputs"]}
    found: list[frozenset[int]] = []
    for delegate in (op for op in listed if op["op_name"] == "DELEGATE"):
        borders, pending = set(map(int, delegate["inputs"])), list(map(int, delegate["outputs"]))
        taken: set[int] = set()
        while pending:
            tensor = pending.pop()
            op = producer.get(tensor)
            if tensor not in borders and op is not None and op["index"] not in taken:
                taken.add(op["index"])
                pending.extend(map(int, op["inputs"]))
        found.append(frozenset(taken))
    return tuple(found)


def _listed(interpreter):
    list_operators = getattr(interpreter, "_get_ops_details", None)
    return None if list_operators is None else list_operators()
