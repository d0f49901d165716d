"Code whose long lines go on below, a little further in than they began, where the page is too narrow for them."

import re
from collections.abc import Iterator
from html import unescape

from pygments.formatters import HtmlFormatter


class CodeLines(HtmlFormatter):
    "Writes every line of code into an element of its own that knows how far in the line begins; site.css does the rest."

    def wrap(self, source: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        return super().wrap((kind, with_indent(html) if kind else html) for kind, html in source)


def with_indent(html: str) -> str:
    "A coloured line of code within its element; an empty line as it is."
    line = unescape(re.sub(r"<[^>]+>", "", html)).rstrip("\n")
    if not line.strip():
        return html
    indent = len(line) - len(line.lstrip(" "))
    html = re.sub(r"^((?:<span[^>]*>)?)( +)", r'\1<span class="in">\2</span>', html.rstrip("\n"))
    return f'<span class="line"{f" style={chr(34)}--in:{indent}{chr(34)}" if indent else ""}>{html}</span>\n'
