"""Every JSON file of the results says which commit and machine made it, and when."""

import datetime
import json
import pathlib
import re

import pytest

from mmx_tf.export import provenance

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results"
FILES = sorted(path.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("*.json"))


def test_there_are_results():
    assert {"performance.json", "quick/metrics.json", "cifar10/figures/figure7.json"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_result_names_its_origin(name):
    document = json.loads((RESULTS / name).read_text())
    stamps = [document["provenance"], *document["provenance"].get("earlier", [])]
    for stamp in stamps:
        assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", stamp["commit"])
        date = datetime.datetime.fromisoformat(stamp["date"])
        assert date.utcoffset() == datetime.timedelta(0)
        # A fact that nobody recorded is told as such.
        assert set(stamp["machine"]) == set(provenance.machine())
