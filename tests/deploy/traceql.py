"""Whether a search is TraceQL, by the grammar of https://grafana.com/docs/tempo/latest/traceql/construct-traceql-queries/.

Of the language only what searches for spans is here: spansets in braces, their relations, and the
stages that may follow. Queries that make metrics are not.
"""

from __future__ import annotations

import re

TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*" | `[^`]*`)
    | (?P<duration>(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+)
    | (?P<number>-?\d+(?:\.\d+)?)
    | (?P<operator>&&|\|\||=~|!~|!=|>=|<=|&?>>|&?<<|&?~|[{}()|,=<>!+*/^~-])
    | (?P<attribute>(?:(?:span|resource|event|link|instrumentation)\.|\.)[\w.\-/]+)
    | (?P<word>[a-zA-Z][\w:]*)
    )""",
    re.VERBOSE,
)
INTRINSICS = {
    "duration",
    "kind",
    "name",
    "nestedSetLeft",
    "nestedSetParent",
    "nestedSetRight",
    "parent",
    "rootName",
    "rootServiceName",
    "status",
    "statusMessage",
    "traceDuration",
    "span:duration",
    "span:kind",
    "span:name",
    "span:status",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
}
CONSTANTS = {
    *("true", "false", "nil", "ok", "error", "unset", "unspecified"),
    *("internal", "server", "client", "producer", "consumer"),
}
COMPARISONS = {"=", "!=", "<", "<=", ">", ">=", "=~", "!~"}
RELATIONS = {"&&", "||", ">>", "<<", ">", "<", "~", "&>>", "&<<", "&~"}
AGGREGATES = {"avg", "count", "max", "min", "sum"}


def check(query: str) -> None:
    """Raise `SyntaxError` where `query` is not TraceQL."""
    _Parser(query).pipeline()


class _Parser:
    def __init__(self, query: str) -> None:
        self._query = query
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while query[position:].strip():
            match = TOKEN.match(query, position)
            if match is None:
                raise SyntaxError(f"{query[position:]!r} in {query!r}")
            self._tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            position = match.end()
        self._tokens.append(("end", ""))

    def pipeline(self) -> None:
        self._spanset()
        while self._take("|"):
            self._stage()
        self._expect("")

    def _spanset(self) -> None:
        self._spanset_operand()
        while self._text in RELATIONS:
            self._advance()
            self._spanset_operand()

    def _spanset_operand(self) -> None:
        if self._take("("):
            self._spanset()
            self._expect(")")
            return
        self._expect("{")
        if self._text != "}":
            self._condition()
        self._expect("}")

    def _condition(self) -> None:
        self._comparison()
        while self._text in ("&&", "||"):
            self._advance()
            self._comparison()

    def _comparison(self) -> None:
        self._sum()
        if self._text in COMPARISONS:
            regular_expression = self._text in ("=~", "!~")
            self._advance()
            if regular_expression:
                self._expect_kind("string")
            else:
                self._sum()

    def _sum(self) -> None:
        self._operand()
        while self._text in ("+", "-", "*", "/", "^"):
            self._advance()
            self._operand()

    def _operand(self) -> None:
        if self._take("("):
            self._condition()
            self._expect(")")
        elif self._take("!") or self._take("-"):
            self._operand()
        elif self._kind == "word" and self._text not in INTRINSICS | CONSTANTS:
            self._fail("the name of an attribute, with its scope")
        elif self._kind in ("word", "attribute", "string", "number", "duration"):
            self._advance()
        else:
            self._fail("a value")

    def _stage(self) -> None:
        stage = self._text
        if stage in AGGREGATES:
            self._advance()
            self._expect("(")
            if stage != "count":
                self._sum()
            self._expect(")")
            if self._text not in COMPARISONS:
                self._fail("a comparison")
            self._advance()
            self._sum()
        elif stage in ("select", "by"):
            self._advance()
            self._expect("(")
            self._sum()
            while stage == "select" and self._take(","):
                self._sum()
            self._expect(")")
        elif stage == "coalesce":
            self._advance()
            self._expect("(")
            self._expect(")")
        else:
            self._spanset()

    @property
    def _kind(self) -> str:
        return self._tokens[0][0]

    @property
    def _text(self) -> str:
        return self._tokens[0][1]

    def _advance(self) -> None:
        self._tokens.pop(0)

    def _take(self, text: str) -> bool:
        if self._text != text or self._kind == "end":
            return False
        self._advance()
        return True

    def _expect(self, text: str) -> None:
        if self._text != text:
            self._fail(repr(text) if text else "the end")
        self._advance()

    def _expect_kind(self, kind: str) -> None:
        if self._kind != kind:
            self._fail(f"a {kind}")
        self._advance()

    def _fail(self, expected: str) -> None:
        raise SyntaxError(f"{expected} expected, not {self._text!r}, in {self._query!r}")
