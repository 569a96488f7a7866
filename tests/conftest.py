import importlib
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from fastseqloss import _runtime

# Imported by name: an attribute of the package could be a function called like its module.
ctc = importlib.import_module("fastseqloss.ctc")

settings.register_profile(
    "fastseqloss", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", settings.get_profile("fastseqloss"), derandomize=True, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "fastseqloss")


@pytest.fixture(scope="module", params=_runtime.available_levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine, the losses running on it; per module, for hypothesis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctc, "_kernel", _runtime.load("ctc", request.param))
        for module in ("crf", "structured_hinge"):
            patch.setattr(f"fastseqloss.{module}._kernel", _runtime.load("crf", request.param))
        yield request.param
