"""Programs on emulated Cortex-M boards, where this machine has a compiler and QEMU for them."""

import pytest

from benchmarks import emulated

needed = pytest.mark.skipif(
    bool(emulated.MISSING),
    reason=f"NO {', '.join(emulated.MISSING)} (gcc-arm-none-eabi, libnewlib-arm-none-eabi, qemu-system-arm): "
    "NOTHING IS RUN ON AN EMULATED MICROCONTROLLER",
)


def built(text, board, folder, **options):
    """The program of one C file that is given as text."""
    path = folder / "main.c"
    path.write_text(text)
    return emulated.build([path], board, folder, **options)
