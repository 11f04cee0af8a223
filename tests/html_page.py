"""A page taken apart as a browser would, as far as the tests of HTML reports ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

EMPTY = {"br", "input", "meta", "wbr"}

# What a report is made of; an element outside of this was injected.
ELEMENTS = """
html head meta title style body main article header section footer div p h1 h2 h3 small span bdi
code pre ul ol li dl dt dd table thead tbody tr th td details summary figure figcaption svg path
line rect text wbr
"""
ATTRIBUTES = """
lang charset http-equiv content name class id open scope aria-label aria-hidden role width height
viewbox preserveaspectratio d x y x1 x2 y1 y2 text-anchor vector-effect
"""


@dataclass
class Page(HTMLParser):
    """The elements, attributes and texts of a page; unclosed or crossed elements are errors."""

    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str | None]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []

    @classmethod
    def of(cls, source: str) -> Page:
        page = cls()
        page.feed(source)
        page.close()
        page.errors += [f"{tag} is not closed" for tag in page._open]
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.errors.append(f"{tag} ends where it was not open")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.errors.append(f"a comment: {data}")

    @property
    def text(self) -> str:
        """All text of the page, as a reader sees it."""
        return "".join(self.texts)

    def strangers(self) -> list[str]:
        """Return every element and attribute that a report is not made of."""
        found = [tag for tag in self.tags if tag not in ELEMENTS.split()]
        allowed = ATTRIBUTES.split()
        found += [f"{tag} {name}" for tag, name, _ in self.attributes if name not in allowed]
        return found + self.errors
