"""Ratios of costs as a person says them: "26% less RAM on a microcontroller", never "0.74 of the RAM".

>>> told("bops", 0.44), told("file_bytes", 1.12), told("flash_bytes", 1)
('56% fewer BOPs', '12% larger file', 'the same flash on a microcontroller')
>>> told("ram_bytes", 2.5), told("latency_ms", 0.5)
('2.5 times the RAM on a microcontroller', '50% less time on this CPU')
>>> beside(0.74), beside(1.004), beside(1)
('26% less than', '0.4% more than', 'as much as')
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A cost that is compared, of which less is better.

    Attributes:
      row: its name in the table.
      noun: its name behind "the same" and "2.5 times the".
      less: behind a percentage, of a lower cost; "" is "less" and the noun.
      more: the same of a higher cost; "" is "more" and the noun.
    """

    row: str
    noun: str
    less: str = ""
    more: str = ""


QUANTITIES = {
    "bops": Quantity("bit operations of one image", "BOPs", less="fewer BOPs"),
    "file_bytes": Quantity("bytes of the file", "file size", "smaller file", "larger file"),
    # "50% faster" may mean half of the time or two thirds of it; "less time" cannot.
    "latency_ms": Quantity("time on this CPU, one thread", "time on this CPU", more="slower on this CPU"),
    "ram_bytes": Quantity("RAM on a microcontroller", "RAM on a microcontroller"),
    "flash_bytes": Quantity("flash on a microcontroller", "flash on a microcontroller"),
    "device_latency_ms": Quantity(
        "time on the device, by its tool", "time on the device", more="slower on the device"
    ),
    "device_flash_bytes": Quantity("flash of the device, by its tool", "flash on the device"),
    "device_dram_bytes": Quantity("DRAM of the device, by its tool", "DRAM on the device"),
    "device_sram_bytes": Quantity("SRAM of the device, by its tool", "SRAM on the device"),
}
"""What is compared beside the score."""


def told(name: str, ratio: float) -> str:
    """A ratio of one of `QUANTITIES` in words; from 2 on as a multiple, since '150% more' is hard to read."""
    quantity = QUANTITIES[name]
    if ratio == 1:
        return f"the same {quantity.noun}"
    if ratio >= 2:
        return f"{ratio:.1f} times the {quantity.noun}"
    words = quantity.less or f"less {quantity.noun}"
    if ratio > 1:
        words = quantity.more or f"more {quantity.noun}"
    return f"{_percent(ratio)} {words}"


def beside(ratio: float) -> str:
    """A ratio to what is named next: '26% less than', '2.5 times' or 'as much as'."""
    if ratio == 1:
        return "as much as"
    if ratio >= 2:
        return f"{ratio:.1f} times"
    return f"{_percent(ratio)} {'less' if ratio < 1 else 'more'} than"


def _percent(ratio: float) -> str:
    """How far a ratio is from 1, with digits enough to tell it from none and from all: 26%, 0.04%, 99.7%."""
    size, digits = 100 * abs(ratio - 1), 0
    while float(f"{size:.{digits}f}") in (0, 100) and ratio not in (0, 1) and digits < 4:
        digits += 1
    return f"{size:.{digits}f}%"
