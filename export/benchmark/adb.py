"""A connected Android device, through the Android debug bridge.

    device = connect(serial=None)               # the only device
    device.push("model.tflite", "/data/local/tmp/mmx_tf/0.tflite")
    code, text = device.shell("ls /data/local/tmp/mmx_tf")

The command `adb` (Android SDK platform-tools) must be on PATH. https://developer.android.com/tools/adb
"""

import dataclasses
import os
import shlex
import shutil
import subprocess

_HELP = {
    "unauthorized": "allow this computer on the device's screen",
    "offline": "unplug it and plug it in again",
    "no permissions": "give this user access to the USB device (udev rules)",
}


class DeviceError(ValueError):
    """There is no device to use, or it does not do what it is told."""


@dataclasses.dataclass(frozen=True)
class Device:
    """A device by its serial number."""

    adb: str
    serial: str

    def shell(self, command: str) -> tuple[int, str]:
        """Exit code and all output of a command line that the device's shell runs."""
        done = _adb(self.adb, "-s", self.serial, "shell", f"{{ {command}; }} 2>&1")
        return done.returncode, done.stdout + done.stderr

    def checked_shell(self, command: str) -> str:
        """The output of a command that must succeed; raises `DeviceError`."""
        code, text = self.shell(command)
        if code:
            raise DeviceError(
                f"device {self.serial}: `{command}` fails with exit code {code}: {last_lines(text)}"
            )
        return text

    def push(self, source: str | os.PathLike, target: str) -> None:
        """Copies a file to the device; raises `DeviceError`."""
        done = _adb(self.adb, "-s", self.serial, "push", os.fspath(source), target)
        if done.returncode:
            reason = last_lines(done.stdout + done.stderr)
            raise DeviceError(f"device {self.serial}: cannot push {source}: {reason}")

    def property(self, name: str) -> str:
        """A system property, empty if the device has none of that name."""
        return self.checked_shell(f"getprop {shlex.quote(name)}").strip()


def connect(serial: str | None = None) -> Device:
    """The connected device, or the one of the serial number.

    Raises:
      DeviceError: if adb is not there, no device is ready, several are and no serial number says which, or
        the serial number is not one of theirs.
    """
    adb = shutil.which("adb")
    if adb is None:
        raise DeviceError("adb is not on PATH; install the platform-tools of the Android SDK.")
    done = _adb(adb, "devices")
    if done.returncode:
        raise DeviceError(f"adb devices fails: {last_lines(done.stdout + done.stderr)}")
    lines = done.stdout.partition("List of devices attached")[2].splitlines()
    states = {line.split()[0]: line.split(None, 1)[1] for line in lines if len(line.split()) > 1}
    ready = [name for name, state in states.items() if state == "device"]
    listed = ", ".join(f"{name} ({state})" for name, state in states.items()) or "none"
    if serial is not None:
        if serial not in states:
            raise DeviceError(f"no device has the serial number {serial!r}; connected: {listed}.")
        if serial not in ready:
            raise DeviceError(f"device {serial} is not ready ({states[serial]}){_advice(states[serial])}.")
        return Device(adb, serial)
    if len(ready) > 1:
        raise DeviceError(f"several devices are connected: {', '.join(ready)}; choose one by --adb_serial.")
    if not ready and states:
        name, state = next(iter(states.items()))
        raise DeviceError(f"no device is ready: {listed}{_advice(state)}.")
    if not ready:
        raise DeviceError("no device is connected; enable USB debugging on it and see `adb devices`.")
    return Device(adb, ready[0])


def last_lines(text: str, count: int = 4) -> str:
    """The last lines that say something, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "no message"


def _advice(state: str) -> str:
    return next((f"; {text}" for start, text in _HELP.items() if state.startswith(start)), "")


def _adb(adb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [adb, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise DeviceError(f"{adb} cannot be run: {error.strerror}.") from error
