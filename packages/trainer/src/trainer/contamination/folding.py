"""Text folded so that case, punctuation, odd spaces and compatible characters make no difference."""

from __future__ import annotations

import unicodedata

#: Scripts that put no spaces between words: each of their characters is a word of its own.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class _Table(dict[int, str | None]):
    """What a character becomes, found out when it is first met."""

    def __init__(self, punctuation: str | None) -> None:
        super().__init__({ord("\n"): "\n"})
        self._punctuation = punctuation

    def __missing__(self, key: int) -> str | None:
        kind = unicodedata.category(chr(key))
        if any(first <= key <= last for first, last in _UNSPACED) and kind[0] in "LN":
            self[key] = f" {chr(key)} "
        elif kind == "Cf":  # zero-width spaces and joiners, soft hyphens, marks of direction
            self[key] = None
        elif kind[0] in "PS":
            self[key] = self._punctuation
        else:  # the marks of Indic and Arabic vowels belong to their words
            self[key] = " " if kind[0] in "ZC" else chr(key)
        return self[key]


_JOINED, _SPLIT = _Table(None), _Table(" ")


def fold(text: str) -> str:
    """The text in NFKC, without case and punctuation; line ends stay, and words are what ``split`` gives.

    Punctuation inside a word is taken out, so that "don't" is "dont" whoever wrote it.
    """
    return unicodedata.normalize("NFKC", text).casefold().translate(_JOINED)


def fold_apart(text: str) -> str:
    """The same with a space for each punctuation mark: what a text is folded to whose marks became spaces."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_SPLIT)
