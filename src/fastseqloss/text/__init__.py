"""Text and labels: vocabularies, and words from spans of labels."""

from .vocabulary import Vocabulary
from .words import Words, WordSpan, words_from_spans

__all__ = ["Vocabulary", "WordSpan", "Words", "words_from_spans"]
