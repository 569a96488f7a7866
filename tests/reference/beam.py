"""Slow beam search for CTC, and the probabilities of all label sequences."""

import itertools
import math

import numpy as np

from reference.ctc import collapse


def every_sequence(y, blank, lm=None):
    """Total probability of each label sequence, by enumeration of all alignments of y [T, V], best first.

    `lm(prefix, label)` is the factor of a label after those before it.
    """
    found = {}
    for path in itertools.product(range(y.shape[1]), repeat=len(y)):
        labels = tuple(collapse(list(path), blank))
        found[labels] = found.get(labels, 0) + math.prod((row[c] for row, c in zip(y, path, strict=True)), start=1)
    if lm is not None:
        found = {
            labels: p * math.prod((lm(labels[:i], label) for i, label in enumerate(labels)), start=1)
            for labels, p in found.items()
        }
    return sorted(((p, labels) for labels, p in found.items() if p > 0), key=lambda x: (-x[0], len(x[1]), x[1]))


def beam_search(y, blank, beam, lm=None):
    """Masses that a beam search sums, and the prefixes left, best first; exact for fractions."""
    lm = lm or (lambda prefix, label: 1)
    prefixes = {(): (1, 0)}
    for row in np.asarray(y, object) if isinstance(y, list) else y:
        following = {}

        def add(prefix, b, n, following=following):
            before = following.get(prefix, (0, 0))
            following[prefix] = (before[0] + b, before[1] + n)

        for prefix, (b, n) in prefixes.items():
            last = prefix[-1] if prefix else None
            add(prefix, (b + n) * row[blank], n * row[last] if prefix else 0)
            for c in range(len(row)):
                if c != blank:
                    add((*prefix, c), 0, (b if c == last else b + n) * row[c] * lm(prefix, c))
        kept = sorted(following.items(), key=lambda x: (-sum(x[1]), len(x[0]), x[0]))[:beam]
        prefixes = {prefix: masses for prefix, masses in kept if sum(masses) > 0}
    return sorted(((b + n, prefix) for prefix, (b, n) in prefixes.items()), key=lambda x: (-x[0], len(x[1]), x[1]))
