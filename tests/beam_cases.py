"""Calls of ctc_beam_search, and the label sequences that it finds."""

import numpy as np

import fastseqloss as fsl


def floats(y):
    """Fractions as floats."""
    return np.array(y, np.float64)


def search(y, kind="probs", **options):
    """The result for fractions, which are probabilities unless another kind is given."""
    return fsl.ctc_beam_search(floats(y), input=kind, **options)


def found(beams):
    """Label sequences of a single sequence's result."""
    return [tuple(beams.labels[i, : beams.label_lengths[i]].tolist()) for i in range(beams.n_found)]
