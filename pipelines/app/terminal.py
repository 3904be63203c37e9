"""The terminal as rich draws it, of texts that are no markup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from headrace.pipelines.app.shown import as_shown


class Terminal(Console):
    """A console of rich that takes text for what it is: no markup, no emoji, no escapes."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return a text as it is measured and shown."""
        return super().render_str(as_shown(text, lines=True), **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything; what is no text of this module's own may have come with a style."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(as_shown(segment.text, lines=True), segment.style)


def headed(heading: str, style: str, text: str) -> Text:
    """Return a text after a heading that has a style."""
    return Text.assemble((as_shown(heading), style), as_shown(text))
