"""The emulated boards: output, exit codes, exact numbers of instructions, stack, and whatever goes wrong."""

import pathlib
import subprocess
import sys

import cortex_m
import pytest

from benchmarks import emulated

pytestmark = cortex_m.needed
ROOT = pathlib.Path(__file__).parents[1]
BOARDS = pytest.mark.parametrize("board", emulated.BOARDS)

MEASURED = r"""
#include <stdio.h>
#include "emulated.h"

static volatile int values[100] = {3, 1, 2};
static const int constants[50] = {1};
static volatile char zeros[300];

/* 1 move, 1000 times a subtraction and a branch, 1 return. */
__attribute__((naked)) static void loop(void) {
  __asm__ volatile("mov r0, #1000\n1: subs r0, #1\nbne 1b\nbx lr");
}

/* Three instructions and the return, eight bytes of stack of its own and 200 more. */
__attribute__((naked)) static void deep(void) {
  __asm__ volatile("push {r4, lr}\nsub sp, #200\nstr r4, [sp]\nadd sp, #200\npop {r4, pc}");
}

__attribute__((naked)) static void nothing(void) { __asm__ volatile("bx lr"); }

static float product(volatile float x) { return x * 0.1f; }

int main(void) {
  emulated_measure("loop", loop);
  emulated_measure("deep and down", deep);
  emulated_measure("nothing", nothing);
  emulated_measure("loop again", loop);
  emulated_write_number(-2147483647 - 1);
  emulated_write("\n");
  printf("%d ", values[2] + values[3] + constants[values[9] + 9]);
  printf("%d %d\n", (int)sizeof zeros + zeros[299], (int)(product(7.5f) * 100));
  return 7;
}
"""


@BOARDS
def test_a_program_tells_what_it_took_exactly(board, tmp_path):
    program = cortex_m.built(MEASURED, board, tmp_path, flags=["-O2", "-Wall", "-Wextra", "-Werror"])
    # 100 numbers with values, 300 bytes of zeros; the rest is newlib's.
    assert program.data >= 400 and program.bss >= 300 and program.ram_bytes < 1000
    assert program.rodata >= 200
    assert program.flash_bytes == program.text + program.rodata + program.data
    run = program.run()
    assert (run.exit_code, run.output) == (7, "-2147483648\n2 300 75\n")
    assert {name: section.instructions for name, section in run.sections.items()} == {
        "loop": 2002, "deep and down": 5, "nothing": 1, "loop again": 2002,
    }  # fmt: skip
    assert {name: section.stack_bytes for name, section in run.sections.items()} == {
        "loop": 0, "deep and down": 208, "nothing": 0, "loop again": 0,
    }  # fmt: skip
    assert run.stack_bytes >= 208
    assert program.run() == run


def test_long_sections_are_counted_to_the_last_instruction(tmp_path):
    text = MEASURED.replace("#1000", "#0x1000000")
    sections = cortex_m.built(text, "cortex-m4", tmp_path).run().sections
    assert sections["loop"].instructions == sections["loop again"].instructions == 2 * 2**24 + 2


def test_what_nobody_calls_takes_no_room(tmp_path):
    empty = cortex_m.built("int main(void) { return 0; }", "cortex-m4", tmp_path)
    assert empty.run() == emulated.Run(0, "", empty.run().stack_bytes)
    assert (empty.text < 1500, empty.data, empty.bss) == (True, 0, 8)


@BOARDS
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("*(volatile int *)0x90000000 = 1;", "faulted in main: .*address 0x90000000"),
        ("*(volatile int *)16 = 1;", "faulted in main: .*address 0x10"),
        ("*(volatile int *)0x1ffffff0 = 1;", "faulted in main: .*address 0x1ffffff0"),
        ("return ((int (*)(void))0x20000001)();", "faulted in "),
        ("return (int)deeper(0);", "needs more than 65536 bytes of stack"),
    ],
    ids=["no memory", "code memory", "below RAM", "no code", "stack"],
)
def test_a_program_that_goes_wrong_is_told_of(board, line, said, tmp_path):
    deeper = (
        "int deeper(int n) { volatile char part[512]; part[n & 511] = 1; return deeper(n + 1) + part[n]; }"
    )
    program = cortex_m.built(
        f"{deeper}\nint main(void) {{ {line} return 0; }}", board, tmp_path, flags=["-O1"]
    )
    with pytest.raises(emulated.EmulationError, match=said):
        program.run(timeout_s=60)


@BOARDS
def test_a_program_without_an_end_is_told_of(board, tmp_path):
    program = cortex_m.built("int main(void) { for (;;) {} }", board, tmp_path, flags=["-O1"])
    with pytest.raises(emulated.EmulationError, match="has not ended within 0.5 seconds"):
        program.run(timeout_s=0.5)


def test_what_is_missing_is_named():
    words = "from benchmarks import emulated; print(emulated.MISSING); emulated.build([], 'cortex-m4', '.')"
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=ROOT, env={"PATH": "/"}, capture_output=True, text=True
    )
    assert "arm-none-eabi-gcc" in done.stdout and "qemu-system-arm" in done.stdout
    assert "EmulationError: this machine lacks arm-none-eabi-gcc" in done.stderr


def test_what_does_not_compile_or_fit_is_told_of(tmp_path):
    with pytest.raises(emulated.EmulationError, match="main.c:1:.*does_not_exist"):
        cortex_m.built("int main(void) { return does_not_exist; }", "cortex-m3", tmp_path)
    with pytest.raises(emulated.EmulationError, match="no emulated board 'z80'; there are cortex-m3"):
        cortex_m.built("int main(void) { return 0; }", "z80", tmp_path)
    text = "static char large[5 << 20]; int main(void) { return large[(long)large % 77]; }"
    with pytest.raises(emulated.EmulationError, match="does not compile.*RAM"):
        cortex_m.built(text, "cortex-m7", tmp_path)
