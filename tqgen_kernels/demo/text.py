"""The text that ships with the demo: Python's own language reference, as pydoc carries it.

`pydoc_data.topics` is in every CPython (PSF licence), some 450,000 characters. The wording differs
a little between Python versions, so perplexities compare only within one version.
"""

from __future__ import annotations

import importlib
import re

ROLE = re.compile(r"\*{1,2}([^*\s](?:[^*]*[^*\s])?)\*{1,2}")  # *name* and **name** in the markup
CODE = re.compile(r"[`\"]([^`\"]+)[`\"]")
FOOTNOTE = re.compile(r" ?\[\d+\]")
SHORTEST = 120  # characters: shorter paragraphs are mostly headings, signatures and list items


class TextError(RuntimeError):
    """This Python does not carry the pydoc topics."""


def demo_text() -> str:
    """English prose from pydoc's topics: whole paragraphs in the order of the topics' names.

    Headings, tables, grammar, code and repeated paragraphs are left out; paragraphs are joined
    by one blank line. The same Python version gives the same text. Raises TextError.
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError) as error:
        raise TextError(
            f"this Python has no pydoc_data.topics ({error}), the demo's text; "
            "install the full standard library or give a text file with --text"
        ) from error
    paragraphs: dict[str, None] = {}  # keeps order, drops repeats
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[name]):
            paragraph = prose(block)
            if paragraph:
                paragraphs[paragraph] = None
    return "\n\n".join(paragraphs)


def prose(block: str) -> str | None:
    """One paragraph of pydoc's markup as a plain line, or None if it is no prose."""
    lines = block.strip("\n").split("\n")
    if any(line.startswith((" ", "+", "|", ">>>", "..", "*", "=", "-")) for line in lines):
        return None
    text = " ".join(line.strip() for line in lines).replace("- ", "-")  # "comma-\nseparated"
    text = FOOTNOTE.sub("", CODE.sub(r"\1", ROLE.sub(r"\1", text)))
    if len(text) < SHORTEST or not text.endswith((".", "?", "!")):
        return None
    letters = sum(char.isalpha() or char == " " for char in text)
    return text if letters > 0.9 * len(text) else None
