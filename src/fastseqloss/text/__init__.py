"""Text and labels: vocabularies, n-gram models, words from spans of labels, and spans from tags."""

from .ngram import NGram, read_arpa
from .tagging import TagConstraints, TagSpan, TagViolation, spans_from_tags, tag_constraints, tags_from_spans
from .vocabulary import Vocabulary
from .words import Words, WordSpan, words_from_spans

__all__ = [
    "NGram",
    "TagConstraints",
    "TagSpan",
    "TagViolation",
    "Vocabulary",
    "WordSpan",
    "Words",
    "read_arpa",
    "spans_from_tags",
    "tag_constraints",
    "tags_from_spans",
    "words_from_spans",
]
