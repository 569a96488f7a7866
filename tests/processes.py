"""Python programs in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from fastseqloss._core import threads

HERE = Path(__file__).parent

# For programs that ask for more threads than this machine may have CPUs.
MANY = """
from fastseqloss._core import threads
from fastseqloss._kernels import parallel
threads.processors, threads.LEAST_WORK = (lambda: 64), 0
parallel.threads.always_help(True)
"""


def _environment(**changes):
    """The environment with changes, None to unset a variable; tests/ is on Python's path."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "PYTHONPATH": path, **changes}
    return {name: value for name, value in variables.items() if value is not None}


def python(code, timeout=120, warnings="error", **environment):
    """Run code in a fresh interpreter; returns the completed process. The time limit means that it hangs.

    What of the environment is None is unset there; tests/ is on the path.
    """
    return subprocess.run(
        [sys.executable, "-W", warnings, "-c", code],
        env=_environment(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def use_threads(n: int) -> None:
    """Let every call from now on have n threads, however small its work is and whatever it asks for."""
    threads.LEAST_WORK, threads._max_threads, threads._most_threads = 0.0, n, lambda: n


def printed(code, **options):
    """Output of code."""
    process = python(code, **options)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def printed_by_file(folder, code, timeout=300):
    """The same for a program in a file, as the children of `multiprocessing` need it."""
    script = folder / "program.py"
    script.write_text(code)
    process = subprocess.run(
        [sys.executable, script],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()
