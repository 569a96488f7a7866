"""Increase of the resident memory of this process during a call (on Linux)."""

import subprocess
from pathlib import Path

from bench.contest import Call


def growth(call: Call) -> int:
    """Return the increase of the peak memory during one call, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def printed_by(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Return the output of a separate process; exit with its message if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr.rstrip())
    return done.stdout


def status(field: str) -> int:
    """Return a field of the process's status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
