"""Sums of many equal terms, for tests: without compensation each addition would round in the same direction."""

from fractions import Fraction

STEPS = 300_000


def assert_total(found, each, count=STEPS):
    assert abs(float(Fraction(float(found)) / (each * count) - 1)) < 3e-14
