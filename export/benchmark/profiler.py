"""What LiteRT spends in each kernel while it runs a whole file, XNNPACK's kernels included.

LiteRT's Python API has no profiler, but the library in its package exports one through its C API: a
CompiledModel with `enable_profiling` records every kernel of every run in whole microseconds.

    kernels, run_ms = profile(path, threads=1, runs=50, warmup=5)
    kernels[0].name, kernels[0].median_ms

A file that LiteRT crashes on ends the process: `isolated.ask(profile, ...)` runs this in one of its own.
C API: https://github.com/google-ai-edge/LiteRT, litert/c, as of release 2.2.
"""

import ctypes
import importlib.util
import itertools
import pathlib
import re
import statistics
from importlib import metadata

import numpy as np

from .interpreter import random_values
from .operators import Kernel

# Before 2.2 the functions take other arguments.
_SINCE = (2, 2)
_CPU = 1
_OPERATOR, _DELEGATE_OPERATOR = 1 << 1, 1 << 3
_WRITE = 1
_INDEX = ctypes.c_size_t
# LiteRtElementType -> numpy type.
_TYPES = {1: "f4", 2: "i4", 3: "u1", 4: "i8", 6: "?", 7: "i2", 9: "i1", 10: "f2", 11: "f8"}


class _Layout(ctypes.Structure):
    _fields_ = [
        ("rank", ctypes.c_uint, 7),
        ("has_strides", ctypes.c_uint, 1),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    ]


class _TensorType(ctypes.Structure):
    _fields_ = [("element_type", ctypes.c_int), ("layout", _Layout)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("index", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    ]


def profile(path: pathlib.Path, *, threads: int, runs: int, warmup: int) -> tuple[list[Kernel], float]:
    """The kernels of one run in the order of execution, each with its median over `runs`; the median run.

    A run is the sum of its kernels, in milliseconds.

    What the process holds is left to its end: this belongs into a process of its own.

    Raises:
      ValueError: if the package has no profiler, or LiteRT refuses the file, or its runs differ in their
        kernels (control flow).
    """
    library = _library()
    environment, model, options, compiled, profiler = (ctypes.c_void_p() for _ in range(5))

    def call(name: str, *arguments) -> None:
        status = getattr(library, name)(*arguments)
        if status:
            raise ValueError(f"{path}: LiteRT cannot profile it: {name} fails with status {status}.")

    call("LiteRtCreateEnvironment", 0, None, ctypes.byref(environment))
    call("LiteRtCreateModelFromFile", environment, bytes(path), ctypes.byref(model))
    call("LiteRtCreateOptions", ctypes.byref(options))
    call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
    release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
    payloads = []
    for name, text in (
        ("runtime_options_string", "enable_profiling = true\n"),
        ("xnnpack", f"num_threads = {threads}\n"),
    ):
        payloads.append(ctypes.create_string_buffer(text.encode()))
        option = ctypes.c_void_p()
        payload = ctypes.cast(payloads[-1], ctypes.c_void_p)
        call("LiteRtCreateOpaqueOptions", name.encode(), payload, release, ctypes.byref(option))
        call("LiteRtAddOpaqueOptions", options, option)
    call("LiteRtCreateCompiledModel", environment, model, options, ctypes.byref(compiled))
    call("LiteRtCompiledModelGetProfiler", compiled, ctypes.byref(profiler))
    buffers = _buffers(call, environment, model, compiled)
    recorded = []
    for number in range(warmup + runs):
        call("LiteRtStartProfiler", profiler)
        call("LiteRtRunCompiledModel", compiled, _INDEX(0), *buffers)
        call("LiteRtStopProfiler", profiler)
        if number >= warmup:
            recorded.append(_events(call, profiler))
    if any([event[:3] for event in run] != [event[:3] for event in recorded[0]] for run in recorded):
        raise ValueError(f"{path}: its runs differ in their operators; they cannot be told apart.")
    kernels = [
        Kernel(name, own, statistics.median(event[-1] for event in same) / 1e3)
        for same in zip(*recorded, strict=True)
        for name, own, _, _ in same[:1]
    ]
    return kernels, statistics.median(sum(event[-1] for event in run) for run in recorded) / 1e3


def _library() -> ctypes.CDLL:
    version = metadata.version("ai-edge-litert")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    spec = importlib.util.find_spec("ai_edge_litert")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    found = sorted(itertools.chain.from_iterable(pathlib.Path(f).glob("libLiteRt.*") for f in folders))
    if numbers < _SINCE or not found:
        raise ValueError(
            f"a profile needs the profiler of ai-edge-litert 2.2 or later; {version} has none here."
        )
    library = ctypes.CDLL(str(found[0]))
    if not hasattr(library, "LiteRtGetProfilerEvents"):
        raise ValueError(
            f"a profile needs LiteRT's profiler; {found[0]} of ai-edge-litert {version} has none."
        )
    return library


def _buffers(call, environment, model, compiled) -> tuple:
    """The arguments of a run: numbers and arrays of input and output buffers, inputs filled."""
    signature, main = ctypes.c_void_p(), _INDEX(0)
    call("LiteRtGetModelSignature", model, main, ctypes.byref(signature))
    arguments = []
    for side in ("Input", "Output"):
        count = ctypes.c_size_t()
        call(f"LiteRtGetNumSignature{side}s", signature, ctypes.byref(count))
        array, layouts = (ctypes.c_void_p * count.value)(), (_Layout * count.value)()
        # The file may leave dimensions open; the loaded model has settled them.
        if side == "Output":
            call(
                "LiteRtGetCompiledModelOutputTensorLayouts",
                compiled,
                main,
                count,
                layouts,
                ctypes.c_bool(True),
            )
        for index, layout in enumerate(layouts):
            place, tensor, needs, buffer = _INDEX(index), *(ctypes.c_void_p() for _ in range(3))
            if side == "Input":
                where = ctypes.byref(layout)
                call("LiteRtGetCompiledModelInputTensorLayout", compiled, main, place, where)
            call(f"LiteRtGetSignature{side}TensorByIndex", signature, place, ctypes.byref(tensor))
            kind = _TensorType()
            call("LiteRtGetRankedTensorType", tensor, ctypes.byref(kind))
            kind.layout = layout
            where = ctypes.byref(needs)
            call(f"LiteRtGetCompiledModel{side}BufferRequirements", compiled, main, place, where)
            made = "LiteRtCreateManagedTensorBufferFromRequirements"
            call(made, environment, ctypes.byref(kind), needs, ctypes.byref(buffer))
            if side == "Input":
                _fill(call, buffer, kind)
            array[index] = buffer.value
        arguments += [count, array]
    return tuple(arguments)


def _fill(call, buffer, kind: _TensorType) -> None:
    size, address = ctypes.c_size_t(), ctypes.c_void_p()
    call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
    shape = kind.layout.dimensions[: kind.layout.rank]
    values = random_values(shape, np.dtype(_TYPES.get(kind.element_type, "u1")))
    call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), _WRITE)
    ctypes.memmove(address, values.tobytes(), min(size.value, values.nbytes))
    call("LiteRtUnlockTensorBuffer", buffer)


def _events(call, profiler) -> list[tuple[str, int | None, int, int]]:
    """(name, file operator or None for a delegate's, index, microseconds) of the kernels of one run."""
    count = ctypes.c_int()
    call("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(count))
    events = (_Event * count.value)()
    call("LiteRtGetProfilerEvents", profiler, count, events)
    kernels = []
    for event in events:
        if event.kind in (_OPERATOR, _DELEGATE_OPERATOR):
            name = event.tag.decode()
            # A delegate that does not tell its kernels is an operator to LiteRT.
            own = None if event.kind == _DELEGATE_OPERATOR or "Delegate" in name else event.index
            kernels.append((name, own, event.index, event.elapsed_us))
    return kernels
