"""The memory plan of C source: no two tensors that are needed together share a byte, and it is small."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_tf.export.c_source.memory_plan import Block, Rows, aligned, arrange, table

SMALL = Rows(height=4, width=4, in_height=4, stride=1, before=1)
"""A 3x3 window on 4x4 pixels, padded by one."""


def overlapping(plan, into=None):
    """Pairs of blocks that share bytes while both live, but for what is written in place."""
    found = []
    for number, one in enumerate(plan.blocks):
        for other in plan.blocks[:number]:
            together = one.first <= other.last and other.first <= one.last
            start, begin = plan.offsets[one.name], plan.offsets[other.name]
            apart = start + one.size <= begin or begin + other.size <= start
            allowed = other.name == plan.in_place.get(one.name) or one.name == plan.in_place.get(other.name)
            for writer, read in ((one, other), (other, one)):
                if (into or {}).get(writer.name, ("",))[0] == read.name:
                    lag = into[writer.name][1].lag(writer.size, read.size)
                    allowed |= plan.offsets[writer.name] + lag <= plan.offsets[read.name]
            if together and not apart and not allowed:
                found.append((one.name, other.name))
    return found


def chain(sizes):
    return [Block(f"t{i}", size, i, i + 1) for i, size in enumerate(sizes)]


def test_a_chain_takes_its_largest_pair():
    plan = arrange(chain([100, 40, 60, 24]), in_place={})
    assert plan.bytes == 140 and plan.live == (100, 140, 100, 84, 24) and plan.peak == 1
    assert not overlapping(plan)
    assert [block.name for block in plan.live_at(1)] == ["t0", "t1"]


def test_what_is_written_in_place_takes_nothing():
    blocks = [Block("carrier", 64, 0, 3), Block("inner", 32, 1, 3), Block("sum", 64, 3, 4)]
    assert arrange(blocks, in_place={}).bytes == 160
    plan = arrange(blocks, in_place={"sum": "carrier"})
    assert plan.bytes == 96 and plan.in_place == {"sum": "carrier"}
    assert plan.offsets["sum"] == plan.offsets["carrier"] and not overlapping(plan)


def test_narrower_slots_in_place_leave_the_rest_free():
    blocks = [Block("wide", 64, 0, 1), Block("narrow", 32, 1, 3), Block("next", 32, 2, 3)]
    assert arrange(blocks, in_place={"narrow": "wide"}).bytes == 64


@pytest.mark.parametrize("seed", range(20))
def test_random_lives_never_overlap_and_need_little(seed):
    generator = random.Random(seed)
    blocks = []
    for i in range(25):
        first = generator.randrange(20)
        blocks.append(Block(f"t{i}", generator.randrange(1, 500), first, first + generator.randrange(5)))
    plan = arrange(blocks, in_place={})
    bound = max(
        sum(aligned(block.size) for block in blocks if block.first <= step <= block.last)
        for step in range(25)
    )
    assert not overlapping(plan) and bound == plan.live[plan.peak]
    assert bound <= plan.bytes <= 1.1 * bound
    assert plan.offsets == arrange(blocks, in_place={}).offsets
    assert all(offset % 4 == 0 for offset in plan.offsets.values())


def test_the_table_tells_places_and_lives():
    blocks = [Block("a", 64, 0, 1), Block("b", 30, 1, 2)]
    assert table(arrange(blocks, in_place={"b": "a"})).splitlines() == [
        "tensor  offset   bytes  steps",
        "a            0      64  0..1",
        "b            0      30  1..2  over a",
        "64 bytes; the peak is at step 0",
    ]


def test_a_window_stays_so_far_behind_what_it_reads():
    # A byte a pixel. Up to the end of row 0 and a pixel are 5, and the input is needed from byte 0 on;
    # row 1: 9, the same; row 2: 13, needed from byte 4, of which one is kept in reserve; row 3: 16, from 8.
    assert [SMALL.reached(row, 16) for row in range(4)] == [5, 9, 13, 16]
    assert [SMALL.done(row, 16) for row in range(4)] == [0, 0, 3, 7]
    assert SMALL.lag(16, 16) == 12  # 10, in words.
    assert Rows(1, 9, 1, 1, 0).lag(9, 9) == 12  # All of one row.


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 3), st.integers(1, 5),
    st.integers(1, 5), st.sampled_from([2, 4, 8]), st.sampled_from([2, 4, 8]),
)  # fmt: skip
@settings(deadline=None)
def test_no_row_is_overtaken(height, width, stride, before, channels, in_channels, bits, in_bits):
    rows = Rows(height, width, in_height := height * stride, stride, before)
    row_bits = width * stride * in_channels * in_bits
    written, read = -(-height * width * channels * bits // 8), -(-in_height * row_bits // 8)
    lag = rows.lag(written, read)
    for row in range(height):
        pixels = min((row + 1) * width + 1, height * width)
        first_needed = max(row * stride - before, 0) * row_bits // 8
        assert -(-pixels * channels * bits // 8) <= lag + first_needed


def test_a_window_is_written_into_what_it_reads():
    into = {"t1": ("t0", SMALL)}
    plan = arrange(chain([16, 16]), in_place={}, into=into)
    assert plan.bytes == 28 == plan.live[1] and plan.into == {"t1": "t0"}
    assert plan.offsets == {"t1": 0, "t0": 12} and not overlapping(plan, into)
    assert "16  0..1" in table(plan) and "16  1..2  into t0" in table(plan)


def test_a_chain_of_windows_goes_down_and_begins_again_above():
    into = {"t1": ("t0", SMALL), "t2": ("t1", SMALL)}
    plan = arrange(chain([16, 16, 16]), in_place={}, into=into)
    # A third one below the second would take 40 bytes.
    assert plan.offsets == {"t1": 0, "t0": 12, "t2": 16} and plan.bytes == 32


def test_a_window_that_widens_takes_what_it_writes_and_a_row():
    plan = arrange(chain([16, 64]), in_place={}, into={"t1": ("t0", SMALL)})
    # 64 bytes are written up to the last row, for which byte 8 of the input is needed: 57, in words.
    assert plan.offsets == {"t1": 0, "t0": 60} and plan.bytes == 76


def test_names_change_no_plan():
    generator = random.Random(1)
    blocks = [
        Block(f"t{i}", generator.randrange(1, 500), first := generator.randrange(20), first + i % 5)
        for i in range(25)
    ]
    others = [Block(f"u{25 - i}", block.size, block.first, block.last) for i, block in enumerate(blocks)]
    plans = arrange(blocks, in_place={}), arrange(others, in_place={})
    assert [list(plan.offsets.values()) for plan in plans][0] == list(plans[1].offsets.values())


@pytest.mark.parametrize("seed", range(10))
def test_random_chains_of_windows_never_overtake(seed):
    generator = random.Random(seed)
    blocks = chain([generator.randrange(1, 500) for _ in range(12)])
    blocks += [Block(f"scratch {i}", generator.randrange(1, 99), i, i) for i in range(0, 12, 3)]
    blocks += [Block("kept", 200, 2, 8)]
    into = {
        f"t{i}": (f"t{i - 1}", Rows(size := generator.randrange(1, 9), size, size, 1, generator.randrange(2)))
        for i in generator.sample(range(1, 12), 7)
    }
    plan = arrange(blocks, in_place={}, into=into)
    assert not overlapping(plan, into) and min(plan.offsets.values()) == 0
    assert max(plan.live) <= plan.bytes <= arrange(blocks, in_place={}).bytes
    assert all(offset % 4 == 0 for offset in plan.offsets.values())
