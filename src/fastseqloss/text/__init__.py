"""Text and labels: vocabularies, n-gram models, and words from spans of labels."""

from .ngram import NGram, read_arpa
from .vocabulary import Vocabulary
from .words import Words, WordSpan, words_from_spans

__all__ = ["NGram", "Vocabulary", "WordSpan", "Words", "read_arpa", "words_from_spans"]
