"""Slow scores of n-gram models in the ARPA format."""

import math


def read(text):
    """Score and back-off to base 10 of each n-gram, a tuple of tokens."""
    found, length = {}, 0
    for line in text.splitlines():
        fields = line.split()
        if line.endswith("-grams:"):
            length = int(line[1 : line.index("-")])
        elif length and fields and fields[0] != "\\end\\":
            backoff = float(fields[length + 1]) if len(fields) > length + 1 else 0.0
            found[tuple(fields[1 : length + 1])] = float(fields[0]), backoff
    return found


def log_prob(ngrams, history, token):
    """Logarithm to base 10 of the probability of a token after others."""
    if (*history, token) in ngrams:
        return ngrams[(*history, token)][0]
    if not history:
        return -math.inf
    return ngrams.get(history, (0, 0.0))[1] + log_prob(ngrams, history[1:], token)


def score(ngrams, tokens, start=True, end=True, unknown=None):
    """Natural logarithm of the probability of tokens; those that the model lacks count as <unk>, or are forbidden."""
    ngrams = dict(ngrams)
    if unknown is not None or ("<unk>",) not in ngrams:
        ngrams["<unk>",] = (-100.0 if unknown is None else unknown / math.log(10), ngrams.get(("<unk>",), (0, 0.0))[1])
    history, total = ("<s>",) if start else (), 0.0
    known = [token if (token,) in ngrams and token not in ("<s>", "</s>") else "<unk>" for token in tokens]
    if unknown == -math.inf and "<unk>" in known:
        return -math.inf
    for token in [*known, *(["</s>"] if end else [])]:
        total += log_prob(ngrams, history, token)
        history = (*history, token)
    return total * math.log(10)
