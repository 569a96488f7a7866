import importlib
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from fastseqloss import _runtime

# The kernels, and the modules that use them; imported by name, for an attribute of the package could be a function
# called like its module.
KERNELS = {
    "ctc": "fastseqloss.ctc",
    "ctc_alignment": "fastseqloss.ctc_alignment",
    "cross_entropy": "fastseqloss.cross_entropy",
    "hinge": "fastseqloss.hinge",
    "pointwise": "fastseqloss._pointwise",
}

settings.register_profile(
    "fastseqloss", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", settings.get_profile("fastseqloss"), derandomize=True, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "fastseqloss")


@pytest.fixture(scope="module", params=_runtime.available_levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine, every loss running on it; per module, for hypothesis."""
    with pytest.MonkeyPatch.context() as patch:
        for kernel, module in KERNELS.items():
            patch.setattr(importlib.import_module(module), "_kernel", _runtime.load(kernel, request.param))
        yield request.param
