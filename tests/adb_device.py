"""A device for the Android debug bridge on this machine: `adb` is a program that runs its commands here.

`/data/local/tmp` of the device is a folder. The device's programs are programs of this machine; `tool` gives
one that runs `device_tool.py`.
"""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

_TESTS = pathlib.Path(__file__).resolve().parent
COMPILER = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)

_ADB = """#!{python}
import json, os, pathlib, shutil, subprocess, sys

root = pathlib.Path({root!r})
with open(root / "commands", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
local = lambda text: text.replace("/data/local/tmp", str(root / "tmp"))
if sys.argv[1] == "devices":
    print("List of devices attached\\n" + (root / "devices").read_text())
    sys.exit(0)
assert sys.argv[1] == "-s" and sys.argv[2] in (root / "devices").read_text()
if sys.argv[3] == "push":
    target = local(sys.argv[5])
    if not os.path.isdir(os.path.dirname(target)) or (root / "full").exists():
        sys.exit("adb: error: failed to copy: remote couldn't create file: No space left on device")
    shutil.copy(sys.argv[4], target)
    os.chmod(target, 0o644)
    print(sys.argv[4] + ": 1 file pushed, 0 skipped.")
elif sys.argv[3] == "shell":
    (command,) = sys.argv[4:]
    path = str(root / "bin") + os.pathsep + os.environ["PATH"]
    done = subprocess.run(["sh", "-c", local(command)], env={{**os.environ, "PATH": path}})
    sys.exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)
"""

_LAUNCHER = """
#include <unistd.h>
int main(int count, char **arguments) {{
  arguments[0] = "{tool}";
  char *all[count + 2];
  all[0] = "{python}";
  for (int i = 0; i <= count; i++) all[i + 1] = arguments[i];
  return execv(all[0], all);
}}
"""


@dataclasses.dataclass(frozen=True)
class AdbDevice:
    """The device's folder; put its `bin` in front of PATH to have `adb`."""

    root: pathlib.Path

    @property
    def path(self):
        return self.root / "host"

    def connect(self, text="phone1\tdevice\n"):
        """Sets what `adb devices` lists."""
        (self.root / "devices").write_text(text)

    def commands(self, kind):
        """Last argument of every adb command of a kind ("shell") so far."""
        lines = (self.root / "commands").read_text().splitlines()
        return [command[-1] for command in map(json.loads, lines) if command[2:3] == [kind]]

    def files(self):
        """What is in the device's /data/local/tmp."""
        return sorted(str(path.relative_to(self.root / "tmp")) for path in (self.root / "tmp").rglob("*"))


def make_device(root, abis="x86_64"):
    """A connected device in the folder `root`."""
    for name in ("host", "bin", "tmp"):
        (root / name).mkdir(parents=True)
    _program(root / "host" / "adb", _ADB.format(python=sys.executable, root=str(root)))
    properties = {
        "ro.product.cpu.abilist": abis,
        "ro.product.model": "Phone",
        "ro.build.version.release": "15",
    }
    cases = "".join(f"{name}) echo '{value}';; " for name, value in properties.items())
    _program(root / "bin" / "getprop", f'#!/bin/sh\ncase "$1" in {cases} *) echo;; esac\n')
    device = AdbDevice(root)
    device.connect()
    return device


def tool(folder):
    """A statically linked program of this machine that runs `device_tool.py`."""
    source, program = folder / "tool.c", folder / "benchmark_model"
    source.write_text(_LAUNCHER.format(python=sys.executable, tool=_TESTS / "device_tool.py"))
    subprocess.run([COMPILER, "-static", source, "-o", program], check=True)
    return program


def _program(path, text):
    path.write_text(text)
    path.chmod(0o755)
