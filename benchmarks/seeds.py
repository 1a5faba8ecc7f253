"""Which pins a benchmark is of: by a word of `--corpus`, or those of the kept figures."""

from __future__ import annotations

import re
from typing import Annotated

import typer


def _word(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]*", text):
        raise typer.BadParameter("small letters and digits only")
    return text


CorpusOption = Annotated[
    str, typer.Option("--corpus", callback=_word, help="a word: other pins than those of the kept figures")
]


def seed(corpus: str, name: object) -> str:
    """The stand-in's seed of one search of a corpus: the same word and name give the same pins."""
    return f"{corpus}{name}"
