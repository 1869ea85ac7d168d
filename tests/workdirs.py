"""Workdirs as other programs, or other versions, leave them."""

import json
from pathlib import Path


def facts_of(workdir: Path) -> dict:
    """What the run has recorded."""
    return json.loads((workdir / "checkpoints" / "state.json").read_text())


def forget(workdir: Path, *names: str) -> None:
    """Takes facts out of the record: without "results" the run was never finished."""
    facts = {name: value for name, value in facts_of(workdir).items() if name not in names}
    (workdir / "checkpoints" / "state.json").write_text(json.dumps(facts))
