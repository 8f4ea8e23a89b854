"""What a reader would not see of a text, or see in another place than it stands, made visible.

Of a message's text those characters stay that phones heed and that cannot be used to deceive: an
Arabic or Hebrew text has them. Everything else that somebody wrote (names, headers, bodies) has no
need of them, and two names that differ in one only should not look alike.
"""

from __future__ import annotations

import re

__all__ = ["UNSEEN", "as_on_a_phone", "visible"]

_MARKS = dict(zip((0x061C, 0x200E, 0x200F), ("ALM", "LRM", "RLM"), strict=True))
"""Letters of a direction that cannot be seen: what stands beside them lies as if they could."""
_ISOLATES = dict(zip(range(0x2066, 0x206A), ("LRI", "RLI", "FSI", "PDI"), strict=True))
_OVERRIDES = dict(zip(range(0x202A, 0x202F), ("LRE", "RLE", "PDF", "LRO", "RLO"), strict=True))
_PICTURES = {
    **{n: chr(0x2400 + n) for n in range(0x20) if chr(n) not in "\n\t"},
    **{n: f"⟨{n:02X}⟩" for n in range(0x80, 0xA0)},
    **{n: f"⟨{name}⟩" for n, name in (_MARKS | _ISOLATES | _OVERRIDES).items()},
    0x7F: "\u2421",
}
"""Control characters as the pictures that Unicode has of them, and those without one as ⟨marks⟩."""
UNSEEN = frozenset(_PICTURES)
"""The code points that are not shown as they are."""

_ON_A_PHONE = {n: picture for n, picture in _PICTURES.items() if n not in _MARKS | _ISOLATES}
_BEGIN_OR_END = re.compile(r"[\u2066-\u2069\n\u2029]")
_END = "\u2069"


def visible(text: str) -> str:
    """``text`` with every character shown that would not be seen, or turns the direction of writing."""
    return text.translate(_PICTURES)


def as_on_a_phone(text: str) -> str:
    """A message's text: marks of a direction work, and so do isolates that are closed in their line."""
    shown = text.translate(_ON_A_PHONE)
    alone = _unpaired(shown)
    if not alone:
        return shown
    return _BEGIN_OR_END.sub(
        lambda found: visible(found[0]) if found.start() in alone else found[0], shown
    )


def _unpaired(text: str) -> set[int]:
    """Where in a line an isolate begins without an end, or ends without a beginning.

    Such a one could reach beyond the text, to what the page says itself.
    """
    alone: list[int] = []
    begun: list[int] = []
    for found in _BEGIN_OR_END.finditer(text):
        if found[0] in "\n\u2029":
            alone += begun
            begun = []
        elif found[0] != _END:
            begun.append(found.start())
        elif begun:
            begun.pop()
        else:
            alone.append(found.start())
    return {*alone, *begun}
