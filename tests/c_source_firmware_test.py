"""Firmware in C and C++ that includes what export.c_source has written."""

import pathlib
import re

import compiled_array
import compiled_network
import numpy as np
import pytest
from small_files import Net, options

from mmx_tf.export.c_source import c_source


@pytest.fixture(scope="module")
def made():
    """One pooling layer; its scales are no short decimals."""
    net = Net(0)
    source = net.input("image", (4, 4, 2), scale=1 / 127.5, zero_point=-1)
    target = net.tensor("logits", (2, 2, 2), scale=1 / 127.5, zero_point=-1)
    fields = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 1}
    return c_source(
        net.file_of("MAX_POOL_2D", [source], target, options=options("Pool2D", **fields), version=2)
    )


def written(folder, made, **others):
    for name, text in {**made.files, **others}.items():
        (folder / name).write_text(text)


@compiled_network.needed
@compiled_array.needed
def test_strict_cpp_takes_the_header_and_reads_its_scales_unchanged(tmp_path, made):
    firmware = r"""
        #include "net.h"
        #include <cstdio>
        static int8_t image[NET_IMAGE_SIZE], logits[NET_LOGITS_SIZE];
        int main() {
          net_run(image, logits);
          std::printf("%.20g %.20g", double(NET_IMAGE_SCALE), double(NET_LOGITS_SCALE));
        }
    """
    written(tmp_path, made, **{"main.cc": firmware})
    compiled_network.run_compiler("-c", tmp_path / "net.c", "-o", tmp_path / "net.o")
    parts = tmp_path / "main.cc", tmp_path / "net.o", compiled_network.kernels(compiled_network.FAST)
    printed = compiled_array.output(tmp_path, *parts, standard="c++11")
    assert [float(text) for text in printed.split()] == [float(np.float32(1 / 127.5))] * 2


@compiled_network.needed
@pytest.mark.parametrize("page", ["README.md", "docs/tutorials/microcontroller.md"])
def test_the_firmware_of_the_documents_compiles(tmp_path, made, page):
    text = (pathlib.Path(__file__).parents[1] / page).read_text()
    blocks = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    (firmware,) = [block for block in blocks if "int main" in block]
    # Their image is uint8, this file's int8.
    firmware = firmware.replace("uint8_t image", "int8_t image")
    camera = "#include <stdint.h>\nvoid camera_read(int8_t *);\nvoid camera_tell(const int8_t *);\n"
    written(tmp_path, made, **{"main.c": firmware, "camera.h": camera})
    compiled_network.run_compiler("-c", tmp_path / "main.c", "-o", tmp_path / "main.o")
    for block in (block for block in blocks if "int main" not in block):
        # A function of labels, which this file need not have.
        labels = "" if "net_labels" in made.files["net.h"] else "extern const char *const net_labels[];\n"
        used = "const char *used(const int8_t *logits);\nconst char *used(const int8_t *logits)"
        (tmp_path / "part.c").write_text(
            f'#include "net.h"\n{labels}{block}{used} {{ return told(logits); }}\n'
        )
        compiled_network.run_compiler("-c", tmp_path / "part.c", "-o", tmp_path / "part.o")
