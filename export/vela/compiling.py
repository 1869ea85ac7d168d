"""Vela on a .tflite, in a process of its own.

    estimate(data, accelerator="ethos-u65-256").cycles
    compile_file(data, accelerator="ethos-u65-256").data       # the bytes for the device

Why a process: Vela's Python functions are no public interface and change with every version, while its
command line is documented; and its reader, in C++, dies of a segmentation fault on a damaged file.
"""

import dataclasses
import pathlib
import re
import subprocess
import sys
import tempfile

from mmx_tf.export.reading import tflite_file
from mmx_tf.export.reading.contents import TfliteFile
from mmx_tf.export.vela import estimates
from mmx_tf.export.vela.configurations import CONFIG_FILE, Configuration, VelaError, resolve
from mmx_tf.export.vela.estimates import Estimate

_NAME = "network"


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A file that the NPU runs: `data`, the bytes of the compiled .tflite, and its `estimate`."""

    data: bytes
    estimate: Estimate


def estimate(
    data: bytes, *, accelerator: str, system_config: str | None = None, memory_mode: str | None = None
) -> Estimate:
    """What a .tflite takes on an accelerator; see `compile_file`."""
    return compile_file(
        data, accelerator=accelerator, system_config=system_config, memory_mode=memory_mode
    ).estimate


def compile_file(
    data: bytes, *, accelerator: str, system_config: str | None = None, memory_mode: str | None = None
) -> Compiled:
    """Compiles a .tflite for an accelerator with the installed Vela.

    Args:
      data: bytes of a .tflite, int8.
      accelerator: one of `ACCELERATORS`, such as "ethos-u55-128".
      system_config, memory_mode: names of Vela's configurations; None takes Vela's defaults for the
        accelerator.

    Returns:
      The compiled file and Vela's estimate of it.

    Raises:
      TfliteFileError: `data` is no .tflite, or a damaged one.
      MissingVelaError: Vela is not installed.
      VelaError: a setting that Vela does not have, or a file that it does not compile.
    """
    configuration = resolve(accelerator, system_config, memory_mode)
    return compile_parsed(tflite_file.parse(data), configuration)


def compile_parsed(file: TfliteFile, configuration: Configuration) -> Compiled:
    """Compiles a file that has been read (`export.reading.tflite_file`); errors as for `compile_file`."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        network = folder / f"{_NAME}.tflite"
        network.write_bytes(file.data)
        words = [
            sys.executable, "-m", "ethosu.vela", str(network), "--output-dir", name, "--config", CONFIG_FILE,
            "--accelerator-config", configuration.accelerator,
            "--system-config", configuration.system_config, "--memory-mode", configuration.memory_mode,
            "--verbose-performance",
        ]  # fmt: skip
        done = subprocess.run(words, cwd=name, capture_output=True, text=True, check=False)
        try:
            compiled = (folder / f"{_NAME}_vela.tflite").read_bytes()
        except OSError:
            compiled = b""
        if done.returncode or not compiled:
            raise VelaError(
                "Vela does not compile it for "
                f"{', '.join(dataclasses.astuple(configuration))}: {_reason(done)}"
            )
        found = estimates.read(folder, _NAME, configuration, operators=len(file.operators), compiled=compiled)
        return Compiled(compiled, found)


def _reason(done: subprocess.CompletedProcess) -> str:
    if done.returncode < 0:
        return f"it was ended by signal {-done.returncode}."
    lines = [line for line in (*done.stdout.splitlines(), *done.stderr.splitlines()) if line.strip()]
    if not lines:
        return f"exit code {done.returncode}."
    # Of a Python error the class is left out.
    said = re.sub(r"^[\w.]+Error: ", "", lines[-1].strip()).strip("'\"")
    return said if said.endswith(".") else f"{said}."
