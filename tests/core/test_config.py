"""The OpenMP runtime in show_config: its file and its original package."""

import io
import json
from types import SimpleNamespace

import pytest

import fastseqloss as fsl
from fastseqloss._core import config

GRAFTED = "/venv/lib/python3.11/site-packages/fastseqloss.libs/libgomp-e985bcbb.so.1.0.0"
COMPONENTS = [
    {"name": "fastseqloss", "version": "0.1.0"},
    {"name": "libgomp", "version": "8.5.0-28.el8_10"},
]


@pytest.fixture
def build(monkeypatch):
    """Pretend to be another build: its OpenMP version, its runtime, its bill of materials."""

    def pretend(version, runtime, bill=None):
        threads = SimpleNamespace(
            openmp=lambda: version,
            openmp_runtime=lambda: runtime,
            openmp_threads=lambda: 1,
        )
        installed = SimpleNamespace(read_text={"sboms/auditwheel.cdx.json": bill}.get)
        monkeypatch.setattr(config, "runtime", threads)
        monkeypatch.setattr(config, "available_levels", lambda: [config.level])
        monkeypatch.setattr("importlib.metadata.distribution", {"fastseqloss": installed}.__getitem__)

    return pretend


def openmp():
    file = io.StringIO()
    fsl.show_config(file)
    (line,) = [line for line in file.getvalue().splitlines() if line.startswith("  OpenMP")]
    return line.removeprefix("  OpenMP").strip()


def test_runtime_that_came_with_the_wheel(build):
    build(201511, GRAFTED, json.dumps({"components": COMPONENTS}))
    assert openmp() == "201511 (libgomp-e985bcbb.so.1.0.0, libgomp 8.5.0-28.el8_10)"


def test_runtime_of_a_wheel_without_a_bill_of_materials(build):
    build(201511, GRAFTED)
    assert openmp() == "201511 (libgomp-e985bcbb.so.1.0.0)"


def test_runtime_of_the_system(build, tmp_path):
    file = tmp_path / "libgomp.so.1.0.0"
    file.touch()
    link = tmp_path / "libgomp.so.1"
    link.symlink_to(file)
    build(201511, str(link))
    assert openmp() == f"201511 ({file.resolve()})"


def test_unknown_runtime(build):
    build(200203, "")
    assert openmp() == "200203"


def test_no_openmp(build):
    build(0, "")
    assert openmp() == "none"
