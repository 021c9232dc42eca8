"""The grammar of composed queries: "2:dog.png + rain.wav - grass" becomes signed, weighted terms.

It is that of rclip, with quotes::

    query  :=  ["-" | "+"] term { ("+" | "-") term }      an operator is a + or - with white space on both sides
    term   :=  [weight ":"] value                         weight: a decimal number, 1 when left out
    value  :=  words | path | '"' anything '"' | "'" anything "'"

So "wi-fi", "a - b" in quotes and "rain+thunder" hold no operator. A value that names an existing file is that file; a
value that looks like a path of a known kind but does not exist is an error rather than a search for its name, unless
it is quoted. Everything else is words.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from embedspace.errors import QueryError

__all__ = ["Query", "Term", "parse"]

_WEIGHT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)):(?=\S)")
_OPERATOR = re.compile(r"[+-](?=\s|$)")
_NEXT_OPERATOR = re.compile(r"\s[+-](?=\s|$)")
_TERM_ENDS = re.compile(r"\s*(?:$|\s[+-](?=\s|$))")


@dataclass(frozen=True, slots=True)
class Term:
    """One signed, weighted term of a query.

    Attributes:
        weight: Signed weight; the sign of its operator is in it.
        value: Words or a path, without quotes.
        quoted: It stood in quotes: words even if it looks like a path to nothing.
    """

    weight: float
    value: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query: its terms in order, at least one."""

    terms: tuple[Term, ...]


def parse(text: str) -> Query:
    """Read a query.

    Args:
        text: For example "a barking dog" or "2:dog.png + rain.wav - grass".

    Returns:
        The terms in order.

    Raises:
        QueryError: If it is empty, an operator has no term, a quote is not closed, or a weight is not finite.
    """
    terms: list[Term] = []
    position, sign = 0, 1.0
    expects_term, operator = True, ""
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif _OPERATOR.match(text, position):
            if expects_term and (terms or operator):
                raise QueryError(f"query {text!r}: two operators in a row; put words that are only a sign in quotes")
            operator = text[position]
            sign, expects_term, position = (-1.0 if operator == "-" else 1.0), True, position + 1
        else:
            term, position = _read_term(text, position, sign)
            terms.append(term)
            sign, expects_term = 1.0, False
    if not terms:
        raise QueryError("the query is empty; give words, a file, or terms such as '2:dog.png + rain.wav - grass'")
    if expects_term:
        raise QueryError(f"query {text!r}: nothing follows the last {operator!r}")
    return Query(tuple(terms))


def _read_term(text: str, position: int, sign: float) -> tuple[Term, int]:
    """Read one term at `position`; returns it and where it ends."""
    weight = 1.0
    if match := _WEIGHT.match(text, position):
        weight, position = float(match[1]), match.end()
        if not math.isfinite(weight):
            raise QueryError(f"query {text!r}: the weight {match[1][:20]}... is not a finite number")
    if text[position] in "\"'":
        quote, start = text[position], position + 1
        end = text.find(quote, start)
        while end >= 0:
            if _TERM_ENDS.match(text, end + 1):
                if not text[start:end].strip():
                    raise QueryError(f"query {text!r}: empty quotes")
                return Term(sign * weight, text[start:end], quoted=True), end + 1
            end = text.find(quote, end + 1)
        if quote == '"' and '"' not in text[start:]:
            raise QueryError(f"query {text!r}: a quote is not closed")
    following = _NEXT_OPERATOR.search(text, position)
    end = following.start() if following else len(text)
    return Term(sign * weight, text[position:end].rstrip()), end
