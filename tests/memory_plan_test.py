"""The memory plan of C source: no two tensors that are needed together share a byte, and it is small."""

import random

import pytest

from mmx_tf.export.c_source.memory_plan import Block, aligned, arrange, table


def overlapping(plan):
    """Pairs of blocks that share bytes while both live, but for what is written in place."""
    found = []
    for number, one in enumerate(plan.blocks):
        for other in plan.blocks[:number]:
            together = one.first <= other.last and other.first <= one.last
            start, begin = plan.offsets[one.name], plan.offsets[other.name]
            apart = start + one.size <= begin or begin + other.size <= start
            allowed = other.name == plan.in_place.get(one.name) or one.name == plan.in_place.get(other.name)
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
