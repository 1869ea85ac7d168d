"""What a result says of its origin: the commit of the code, the machine and the date.

>>> made_by = commit()         # when a command begins
>>> document = {"provenance": provenance(), "results": [1, 2]}

Nothing but the standard library, git and, for graphics cards, nvidia-smi is used.
"""

import datetime
import functools
import os
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
"""The checkout that this code is run from."""
CHANGES = "+changes"
_NOT_CODE = ("results", "*.md")
"""What may differ from the commit: it decides no number, and commands write the former."""


def provenance(*, earlier: dict | None = None, root: pathlib.Path = ROOT) -> dict:
    """The stamp that a result carries under the key `provenance`.

    Args:
      earlier: the stamp of the file that is continued, some of whose numbers are older.
      root: the checkout of the code.

    Returns:
      `commit` (see `commit`), `date` (ISO, UTC, to the second), `machine` (see `machine`) and, where
      `earlier` is given, `earlier`: all stamps that the file has had, oldest first.
    """
    stamp = {"commit": commit(root), "date": iso(datetime.datetime.now(datetime.UTC)), "machine": machine()}
    if earlier:
        before = [*earlier.get("earlier", []), {k: v for k, v in earlier.items() if k != "earlier"}]
        stamp["earlier"] = before
    return stamp


def commit(root: pathlib.Path = ROOT) -> str | None:
    """The commit of a checkout when this process first asked: 40 hex digits.

    `+changes` follows where tracked files differ from it or others are there that git does not ignore,
    results and Markdown apart. None where `root` is the top of no git checkout with a commit, or git cannot
    be run.
    """
    return _commit(root)


@functools.cache
def _commit(root: pathlib.Path) -> str | None:
    # A cache knows `commit()` and `commit(ROOT)` as two calls; here both are one.
    found = git(root, "rev-parse", "--show-toplevel", "HEAD")
    if found is None:
        return None
    top, name = found.splitlines()
    # An installed copy may lie in a checkout of something else.
    if pathlib.Path(top).resolve() != root.resolve():
        return None
    excluded = [f":(exclude){pattern}" for pattern in _NOT_CODE]
    return name + (CHANGES if git(root, "status", "--porcelain", "--", ".", *excluded) else "")


def git(root: pathlib.Path, *arguments: str) -> str | None:
    """What git prints in the folder, without white space around it; None if it fails or is not there."""
    # A hook's variables name a repository, which need not be that of the folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return _printed("git", "-C", str(root), *arguments, environment=environment)


def iso(moment: datetime.datetime) -> str:
    """A moment with a time zone as ISO date and time in UTC, to the second."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds")


def machine() -> dict:
    """What numbers and times depend on.

    Returns:
      `architecture`, `cpus` (their number), `cpu_model`, `avx2`, `avx512`, `amx` (see `cpu_facts`),
      `memory_bytes`, `os`, `gpus` (names of the NVIDIA cards that nvidia-smi shows).
    """
    try:
        cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    return {
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        **cpu_facts(cpuinfo),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "os": platform.platform(),
        "gpus": (_printed("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") or "").splitlines(),
    }


def cpu_facts(cpuinfo: str) -> dict:
    """Model and vector instructions of the first CPU of Linux's /proc/cpuinfo; None where it does not say."""
    fields = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    flags = fields["flags"].split() if "flags" in fields else None

    def has(prefix):
        return None if flags is None else any(flag.startswith(prefix) for flag in flags)

    model = fields.get("model name") or platform.processor() or None
    return {"cpu_model": model, "avx2": has("avx2"), "avx512": has("avx512"), "amx": has("amx")}


def _printed(*words: str, environment: dict[str, str] | None = None) -> str | None:
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
