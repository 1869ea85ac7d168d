"""The environment that TensorFlow finds when it is imported through mmx_tf."""

import os
import pathlib
import subprocess
import sys

import pytest

from mmx_tf import startup

ROOT = pathlib.Path(__file__).resolve().parents[1]

SHOW = "import os, mmx_tf; print(*(os.environ[name] for name in mmx_tf.startup.SETTINGS))"


def environment(**changes):
    known = {k: v for k, v in os.environ.items() if k not in startup.SETTINGS}
    return {**known, **changes}


def shown(**changes) -> list[str]:
    command = [sys.executable, "-c", SHOW]
    done = subprocess.run(command, env=environment(**changes), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_what_the_user_has_set_stays():
    assert shown(TF_CPU_ALLOCATOR_USE_BFC="0")[1] == "0"


def shown_xla_flags(**changes) -> str:
    command = [sys.executable, "-c", "import os, mmx_tf; print(os.environ['XLA_FLAGS'])"]
    done = subprocess.run(command, env=environment(**changes), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_xla_uses_wide_registers_beside_what_the_user_asks_of_it():
    ours = "--xla_cpu_prefer_vector_width=512"
    assert shown_xla_flags(XLA_FLAGS="") == ours
    dump = "--xla_dump_max_hlo_modules=3"
    assert shown_xla_flags(XLA_FLAGS=dump) == f"{dump} {ours}"
    narrow = "--xla_cpu_prefer_vector_width=256"
    assert shown_xla_flags(XLA_FLAGS=narrow) == narrow


def test_the_allocator_may_use_all_of_the_machines_memory():
    level, allocator, _, limit = shown()
    assert (level, allocator) == ("2", "1")
    with open("/proc/meminfo") as lines:
        kilobytes = int(lines.readline().split()[1])
    assert int(limit) == kilobytes // 1024


@pytest.mark.slow
def test_a_run_loads_neither_keras_3_nor_what_it_loads_nor_the_templates_of_its_report():
    command = [sys.executable, "-X", "importtime", "-c", "import mmx_tf.run.pipeline"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert {"tensorflow", "tf_keras.datasets", "tensorflow_model_optimization"} <= loaded
    assert not {"keras", "sklearn", "matplotlib.pyplot", "jinja2"} & loaded


DETERMINISTIC = """
import os, sys
if sys.argv[1] == "loaded":
    import tensorflow
from mmx_tf import startup
print(os.getpid(), flush=True)
startup.make_deterministic()
print(os.getpid(), os.environ["TF_ENABLE_ONEDNN_OPTS"], "tensorflow" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["loaded", "not loaded"])
def test_a_deterministic_run_has_onednn_off_before_tensorflow_looks(first, tmp_path):
    """Where TensorFlow is loaded already, the same process begins anew."""
    script = tmp_path / "script.py"
    script.write_text(DETERMINISTIC)
    changed = environment() | {"TF_ENABLE_ONEDNN_OPTS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, first], env=changed, capture_output=True, text=True, check=True
    )
    *begun, end = done.stdout.splitlines()
    assert len(set(begun)) == 1 and len(begun) == (2 if first == "loaded" else 1)
    assert end.split() == [begun[0], "0", str(first == "loaded")]
