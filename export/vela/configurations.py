"""What Vela can be asked for: accelerators, system configurations, memory modes.

>>> check_accelerator("ethos-u55-128")
>>> resolve("ethos-u55-128")                        # Vela's defaults for this accelerator
Configuration(accelerator='ethos-u55-128', system_config='Ethos_U55_High_End_Embedded', ...)

The accelerators are known without Vela, so that a wrong name is refused at once; the other two are read from
the file of configurations that Vela brings.
"""

import configparser
import importlib.util
import pathlib
from dataclasses import dataclass

ACCELERATORS = (
    "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512",
    "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048",
)  # fmt: skip
"""Vela's names: the core, and how many multiply-accumulates it does in a cycle."""
CONFIG_FILE = "Arm/vela.ini"
"""The file of configurations, as Vela's --config names it."""
# What Vela takes where nothing is said; with a file of configurations it wants both said.
_DEFAULTS = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_Client_Server", "Dedicated_Sram_384KB"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
}


class VelaError(ValueError):
    """A file or a setting with which Vela compiles nothing; the message is one sentence."""


class MissingVelaError(VelaError):
    """Vela is not installed; the message names the extra."""


@dataclass(frozen=True)
class Configuration:
    """What a file is compiled for, each by Vela's name.

    Attributes:
      accelerator: one of `ACCELERATORS`.
      system_config: clock and bandwidths of the memories.
      memory_mode: which memory holds weights and which activations.
    """

    accelerator: str
    system_config: str
    memory_mode: str


def check_accelerator(accelerator: str) -> None:
    """Raises `VelaError`, which lists `ACCELERATORS`, for any other name."""
    if accelerator not in ACCELERATORS:
        raise VelaError(
            f"--accelerator={accelerator} is not one of Vela's accelerators: {', '.join(ACCELERATORS)}."
        )


def resolve(
    accelerator: str, system_config: str | None = None, memory_mode: str | None = None
) -> Configuration:
    """The checked configuration; what is None is Vela's default for the accelerator.

    Raises:
      MissingVelaError: Vela is not installed.
      VelaError: a name that Vela does not know; the message lists those that it knows.
    """
    check_accelerator(accelerator)
    config = configparser.ConfigParser()
    config.read(_installed_at().parent / "config_files" / CONFIG_FILE)
    default_system, default_mode = _DEFAULTS[accelerator.rpartition("-")[0]]
    return Configuration(
        accelerator,
        _one_of(config, "System_Config", "--system_config", system_config or default_system),
        _one_of(config, "Memory_Mode", "--memory_mode", memory_mode or default_mode),
    )


def _one_of(config, kind, flag, name):
    known = [section.partition(".")[2] for section in config.sections() if section.startswith(f"{kind}.")]
    if name not in known:
        raise VelaError(f"{flag}={name} is not in Vela's {CONFIG_FILE}, which has {', '.join(known)}.")
    return name


def _installed_at() -> pathlib.Path:
    """The folder of the package `ethosu.vela`."""
    try:
        found = importlib.util.find_spec("ethosu.vela")
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise MissingVelaError(
            "Vela, Arm's compiler for Ethos-U, is not installed: pip install 'mmx_tf[ethos-u]', or "
            "'ethos-u-vela==5.2.0' into an environment that has the rest."
        )
    return pathlib.Path(found.origin).parent
