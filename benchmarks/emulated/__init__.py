"""Programs for Arm Cortex-M microcontrollers, compiled here and run on a board that QEMU emulates.

    program = emulated.build(["main.c", "net.c"], "cortex-m4", folder)
    program.flash_bytes, program.ram_bytes      # .text + .rodata + .data, and .data + .bss, as `size` tells
    run = program.run()
    run.exit_code, run.output, run.stack_bytes  # what it printed, and the deepest that its stack has been
    run.sections["layer 3"].instructions        # of what it gave to emulated_measure (emulated.h)

Debian's packages gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm have what is needed. QEMU
computes what the processor computes, with its DSP and floating-point instructions, but knows nothing of
pipelines, caches and flash: it counts instructions, exactly and the same in every run, not cycles.
"""

import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field

COMPILER, SIZE, NAMES, QEMU = (
    "arm-none-eabi-gcc", "arm-none-eabi-size", "arm-none-eabi-addr2line", "qemu-system-arm",
)  # fmt: skip
FOLDER = pathlib.Path(__file__).parent
NEWLIB = "nano.specs"
STACK_BYTES = 64 * 1024
OPTIMIZATION = ("-O3",)


@dataclass(frozen=True)
class Board:
    """A board of QEMU: its `machine` and the compiler's `flags` for its processor."""

    machine: str
    flags: tuple[str, ...]


BOARDS = {
    "cortex-m3": Board("mps2-an385", ("-mcpu=cortex-m3", "-mfloat-abi=soft")),
    "cortex-m4": Board("mps2-an386", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")),
    "cortex-m7": Board("mps2-an500", ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard")),
}


def _missing() -> list[str]:
    absent = [name for name in (COMPILER, SIZE, NAMES, QEMU) if shutil.which(name) is None]
    if COMPILER not in absent:
        words = [COMPILER, f"-print-file-name={NEWLIB}"]
        found = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
        # A file that it does not find is told as it was asked for.
        absent += [f"newlib ({NEWLIB})"] if found == NEWLIB else []
    return absent


MISSING = _missing()
"""What this machine lacks; nothing here works without it."""


class EmulationError(RuntimeError):
    """A program that does not compile, faults, or does not end; the message says which and where."""


@dataclass(frozen=True)
class Section:
    """A call's `instructions`, from the function's first to its return, and its `stack_bytes`."""

    instructions: int
    stack_bytes: int


@dataclass(frozen=True)
class Run:
    """A program that has ended: its `exit_code`, `output`, deepest stack, and `Section`s by name."""

    exit_code: int
    output: str
    stack_bytes: int
    sections: dict[str, Section] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """A program for a board; sizes are bytes of its sections."""

    path: pathlib.Path
    board: str
    text: int
    rodata: int
    data: int
    bss: int

    @property
    def flash_bytes(self) -> int:
        """Code, constants, and the first values of variables."""
        return self.text + self.rodata + self.data

    @property
    def ram_bytes(self) -> int:
        """Variables, without the stack."""
        return self.data + self.bss

    def run(self, *, timeout_s: float = 120) -> Run:
        """Runs it to its end.

        Raises:
          EmulationError: it faulted, or did not end within `timeout_s` seconds.
        """
        words = [
            QEMU,
            "-machine",
            BOARDS[self.board].machine,
            "-nographic",
            "-monitor",
            "none",
            "-serial",
            "none",
        ]
        # An instruction takes 128 ns of the board's time: see startup.c.
        words += ["-icount", "shift=7,sleep=off", "-semihosting-config", "enable=on,target=native"]
        words += ["-kernel", self.path]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            name = f"{self.path.name} on an emulated {self.board}"
            raise EmulationError(f"{name} has not ended within {timeout_s:g} seconds.") from error
        # Semihosting writes to QEMU's standard error or output, as its version likes.
        return _told(self, done.returncode, (done.stdout + done.stderr).decode(errors="replace"))


def build(
    sources: Iterable[str | pathlib.Path],
    board: str,
    folder: str | pathlib.Path,
    *,
    flags: Iterable[str] = OPTIMIZATION,
    include: Iterable[str | pathlib.Path] = (),
    name: str = "program",
) -> Program:
    """Compiles C files for a board, with its start and `emulated.h`, and links them.

    Args:
      sources: files of C or assembler, one of them with `int main(void)`.
      board: one of `BOARDS`.
      folder: where the program `NAME.elf` goes.
      flags: of the compiler, for all files.
      include: folders of headers, beside those of the sources.
      name: of the program.

    Raises:
      EmulationError: no such board, something is `MISSING`, or the compiler's or linker's complaint.
    """
    if MISSING:
        raise EmulationError(f"this machine lacks {', '.join(MISSING)}.")
    if board not in BOARDS:
        raise EmulationError(f"There is no emulated board {board!r}; there are {', '.join(BOARDS)}.")
    sources = [pathlib.Path(source) for source in sources]
    path = pathlib.Path(folder) / f"{name}.elf"
    common = _common(board, flags)
    folders = dict.fromkeys([FOLDER, *map(pathlib.Path, include), *(source.parent for source in sources)])
    words = [COMPILER, *common, *(f"-I{folder}" for folder in folders)]
    words += [*sources, FOLDER / "startup.c", FOLDER / "syscalls.c", "-o", path, "-nostartfiles"]
    words += [
        f"--specs={NEWLIB}",
        "-T",
        FOLDER / "board.ld",
        f"-Wl,--defsym=emulated_stack_size={STACK_BYTES}",
    ]
    words += ["-Wl,--gc-sections", "-lm"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise EmulationError(f"{name} does not compile for {board}: {done.stderr.strip()[-4000:]}")
    return Program(path, board, **_sizes(path))


def compiled(
    source: str | pathlib.Path, board: str, folder: str | pathlib.Path, *, flags: Iterable[str] = OPTIMIZATION
) -> pathlib.Path:
    """The object of one C file in `folder`, which `build` takes in its place; errors as of `build`."""
    path = pathlib.Path(folder) / f"{pathlib.Path(source).stem}.o"
    done = subprocess.run(
        [COMPILER, *_common(board, flags), "-c", source, "-o", path], capture_output=True, text=True
    )
    if done.returncode:
        raise EmulationError(f"{source} does not compile for {board}: {done.stderr.strip()[-4000:]}")
    return path


def _common(board, flags):
    return ["-mthumb", *BOARDS[board].flags, "-ffunction-sections", "-fdata-sections", *flags]


def _sizes(path: pathlib.Path) -> dict[str, int]:
    done = subprocess.run([SIZE, "-A", path], check=True, capture_output=True, text=True)
    sizes = {name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)", done.stdout, re.MULTILINE)}
    found = {name: sizes.get(f".{name}", 0) for name in ("text", "rodata", "data", "bss")}
    return found | {"text": found["text"] + sizes.get(".ARM.exidx", 0)}


def _told(program: Program, exit_code: int, output: str) -> Run:
    """The `Run` of what a program has printed: its own words and those of startup.c."""
    name = f"{program.path.name} on an emulated {program.board}"
    if fault := re.search(r"^#fault (\w+) (\w+) (\w+) (\w*)$", output, re.MULTILINE):
        place, status, address, stack = fault.groups()
        if stack:
            raise EmulationError(f"{name} needs more than {STACK_BYTES} bytes of stack.")
        raise EmulationError(
            f"{name} faulted in {_function_at(program.path, place)}: fault status 0x{status} (CFSR), "
            f"address 0x{address}."
        )
    stack = re.search(r"^#stack (\d+)\n", output, re.MULTILINE)
    if not stack:
        raise EmulationError(f"{name} did not come to its end: {output.strip()[-500:]}")
    sections = {
        section: Section(int(instructions), int(below))
        for instructions, below, section in re.findall(r"^#measured (\d+) (\d+) (.*)\n", output, re.MULTILINE)
    }
    own = re.sub(r"^#(measured|stack) .*\n", "", output, flags=re.MULTILINE)
    return Run(exit_code, own, int(stack[1]), sections)


def _function_at(path: pathlib.Path, place: str) -> str:
    done = subprocess.run([NAMES, "-f", "-e", path, place], check=True, capture_output=True, text=True)
    return done.stdout.split()[0]
