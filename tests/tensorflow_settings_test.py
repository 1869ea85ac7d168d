"""The environment that TensorFlow finds when it is imported through mmx_tf."""

import os
import subprocess
import sys

from mmx_tf import startup

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


def test_a_command_loads_neither_keras_3_nor_what_it_loads():
    command = [sys.executable, "-X", "importtime", "-m", "mmx_tf.train", "--nosuch=1"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Unknown command line flag 'nosuch'" in done.stderr
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert {"tensorflow", "tf_keras.datasets", "tensorflow_model_optimization"} <= loaded
    assert not {"keras", "sklearn", "matplotlib.pyplot"} & loaded
