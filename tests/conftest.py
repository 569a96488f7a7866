import gc
import importlib
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from fastseqloss._core import levels, threads
from fastseqloss._kernels import parallel

# The modules with a kernel, and its name.
KERNELS = {
    "transducer.loss": "transducer.loss",
    "transducer.alignment": "transducer.loss",
    "transducer.simple": "transducer.simple",
    "transducer.tdt": "transducer.loss",
    "crf.kernels": "crf.loss",
    "ctc.alignment": "ctc.alignment",
    "ctc.decoding": "ctc.decoding",
    "ctc.loss": "ctc.loss",
    "ctc.windows": "ctc.alignment",
    "linear.cross_entropy": "steps.classification",
    "linear.policy": "rewards.policy",
    "ranking.lists": "ranking.lists",
    "rewards.policy": "rewards.policy",
    "rewards.rollouts": "rewards.returns",
    "soft_dtw.loss": "soft_dtw.loss",
    "steps.classification": "steps.classification",
    "steps.log_prob": "steps.classification",
    "steps.pointwise": "steps.pointwise",
    "steps.vectors": "steps.rows",
}

# Tests with random examples try a few of them by default, and most with `-m thorough`.
settings.register_profile("fastseqloss", deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("fastseqloss"), max_examples=12, derandomize=True, print_blob=True)
settings.register_profile("quick", settings.get_profile("fastseqloss"), max_examples=8)
settings.register_profile("thorough", settings.get_profile("fastseqloss"), max_examples=24)
profile = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "fastseqloss")
settings.load_profile(profile)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option for builds of a source that the whole suite tests elsewhere."""
    parser.addoption("--share", type=int, default=1, metavar="N", help="run one in N parameter sets of each test")


def is_thorough(config: pytest.Config) -> bool:
    """Return True if the tests marked thorough are asked for, and no others but those that need another library."""
    return config.getoption("markexpr") in ("thorough", "thorough and not peers")


def pytest_configure(config: pytest.Config) -> None:
    """Try more examples in a thorough run, unless a profile was chosen."""
    if is_thorough(config) and "HYPOTHESIS_PROFILE" not in os.environ:
        settings.load_profile("thorough")


def pytest_collection() -> None:
    """Collect without looking for garbage: there is next to none among so many objects."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what has been collected out of every later search."""
    gc.freeze()
    gc.enable()


OPTIONAL = re.compile(r"^pytestmark = (?:\[\s*)?pytest\.mark\.(peers|corpus|onnx)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore modules all of whose tests the marks leave out: importing PyTorch and JAX takes seconds."""
    if collection_path.suffix != ".py":
        return None
    marker = OPTIONAL.search(collection_path.read_text(encoding="utf-8"))
    return True if marker and f"not {marker[1]}" in config.getoption("markexpr") else None


# The quick profile, for builds that check what the compiler did not, is content with the level in use.
LEVELS = [levels.level] if profile == "quick" else levels.available_levels()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before and after marks are looked at
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark what is thorough, and leave out repetitions and what is beyond the share that is asked for."""
    _leave_out(config, items, _repeated(items))
    _mark_thorough(config, items)
    yield
    _leave_out(config, items, _beyond(items, config.getoption("share")))


def _leave_out(config: pytest.Config, items: list[pytest.Item], unwanted: set[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if item in unwanted])
    items[:] = [item for item in items if item not in unwanted]


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def _repeated(items: list[pytest.Item]) -> set[pytest.Item]:
    """Thorough parameter sets at all levels but one, which a checksum of their names chooses."""
    available = set(levels.available_levels())
    repeated = set()
    for item in items:
        callspec = getattr(item, "callspec", None)
        given = {value for value in callspec.params.values() if isinstance(value, str)} if callspec else set()
        for level in given.intersection(available) if item.get_closest_marker("thorough") else ():
            if level != LEVELS[_checksum(item.nodeid.replace(level, "")) % len(LEVELS)]:
                repeated.add(item)
    return repeated


def _beyond(items: list[pytest.Item], n: int) -> set[pytest.Item]:
    """Of the parameter sets of each test all but the first and one in n, which a checksum of their names chooses.

    So they differ from test to test, and each loss meets a part of the tests.
    """
    tests, beyond = set(), set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test in tests and _checksum(item.nodeid) % n:
            beyond.add(item)
        tests.add(test)
    return beyond


def _mark_thorough(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what repeats a test at a level other than the one in use, or with more random examples."""
    others = set(levels.available_levels()) - {levels.level}
    for item in items:
        is_random = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if is_random and is_thorough(config) and profile != "ci":  # CI repeats the examples of the default run
            item.add_marker(pytest.mark.thorough)
        callspec = getattr(item, "callspec", None)
        if callspec and any(isinstance(value, str) and value in others for value in callspec.params.values()):
            item.add_marker(pytest.mark.thorough)


@pytest.fixture(autouse=True, scope="session")
def many_processors() -> Iterator[None]:
    """As many threads as tests ask for, however few CPUs there are, and however busy these."""
    parallel.threads.always_help(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "processors", lambda: 64)
        yield


@pytest.fixture(scope="module", params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine, every loss running on it; per module, for hypothesis."""
    with pytest.MonkeyPatch.context() as patch:
        for name, kernel in KERNELS.items():
            module = importlib.import_module(f"fastseqloss.{name}")
            patch.setattr(module, "_kernel", levels.load(kernel, request.param))
        yield request.param
