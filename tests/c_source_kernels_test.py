"""Kernels of the C source that are called directly, compiled with sanitizers."""

import itertools
import subprocess

import compiled_network
import numpy as np
import pytest

pytestmark = compiled_network.needed
WIDTHS = (2, 4, 8)
# Buffers have just the bytes that their slots need, so that the sanitizer sees one read or written too many.
PROGRAM = r"""
#include "mmx_kernels.h"
#include <stdio.h>
#include <stdlib.h>

static uint8_t *read_bytes(unsigned count) {
  uint8_t *bytes = (uint8_t *)malloc(count);
  for (unsigned i = 0; i < count; i++) {
    unsigned byte;
    if (scanf("%u", &byte) != 1) exit(2);
    bytes[i] = (uint8_t)byte;
  }
  return bytes;
}

int main(void) {
  unsigned in_bits, out_bits, count, entries, in_place;
  while (scanf("%u %u %u %u %u", &in_bits, &out_bits, &count, &entries, &in_place) == 5) {
    const unsigned size = (count * out_bits + 7) / 8;
    uint8_t *table = entries ? read_bytes(entries) : NULL, *in = read_bytes((count * in_bits + 7) / 8);
    uint8_t *out = in_place ? in : (uint8_t *)malloc(size);
    if (!in_place)
      for (unsigned i = 0; i < size; i++) out[i] = 0xA5;
    mmx_map(in, (uint8_t)in_bits, out, (uint8_t)out_bits, table, count);
    for (unsigned i = 0; i < size; i++) printf("%u ", out[i]);
    printf("\n");
    if (!in_place) free(out);
    free(in);
    free(table);
  }
  return 0;
}
"""


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A function: lines of numbers for the program -> the lines that it prints."""
    folder = tmp_path_factory.mktemp("map")
    (folder / "main.c").write_text(PROGRAM)
    flags = compiled_network.SANITIZED
    kernels = compiled_network.kernels(flags)
    program = folder / "main"
    compiled_network.run_compiler(*flags, f"-I{kernels.parent}", folder / "main.c", kernels, "-o", program)

    def run(lines):
        done = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def slots(codes, bits):
    """The bytes of codes, the first in the lowest bits."""
    number = sum(int(code) << bits * place for place, code in enumerate(codes))
    return number.to_bytes((len(codes) * bits + 7) // 8, "little")


def codes_of(slots, bits, count):
    number = int.from_bytes(slots, "little")
    return [number >> bits * place & (1 << bits) - 1 for place in range(count)]


def test_slots_are_those_of_the_header():
    """By hand: three codes of 2 bits are 1 + 2 * 4 + 3 * 16."""
    assert slots([1, 2, 3], 2) == bytes([57]) and codes_of(bytes([57]), 2, 3) == [1, 2, 3]
    assert slots([10, 11, 12], 4) == bytes([0xBA, 0x0C])


@pytest.mark.parametrize("tabled", [False, True])
@pytest.mark.parametrize("in_bits, out_bits", list(itertools.product(WIDTHS, WIDTHS)))
def test_maps_of_any_count(mapped, in_bits, out_bits, tabled):
    """Four slots at a time, and the one to three that are left over; also over their own input."""
    rng = np.random.default_rng(10 * in_bits + out_bits)
    lines, wanted = [], []
    for count, in_place in itertools.product([*range(1, 14), 63], [0, 1] if out_bits <= in_bits else [0]):
        table = rng.integers(0, 2**out_bits, 2**in_bits) if tabled else []
        codes = rng.integers(0, 2 ** (in_bits if tabled else min(in_bits, out_bits)), count)
        lines.append(
            " ".join(
                map(str, (in_bits, out_bits, count, len(table), in_place, *table, *slots(codes, in_bits)))
            )
        )
        wanted.append([int(code) for code in (table[codes] if tabled else codes)])
    found = [bytes(map(int, line.split())) for line in mapped(lines)]
    assert [codes_of(line, out_bits, len(codes)) for line, codes in zip(found, wanted, strict=True)] == wanted
