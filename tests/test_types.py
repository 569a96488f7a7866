"""Types for type checkers: the stub of the package."""

from package_stub import PATH, stub


def test_stub_is_up_to_date():
    assert PATH.read_text() == stub(), "python tests/package_stub.py writes it"
