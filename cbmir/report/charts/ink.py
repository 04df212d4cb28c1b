"""Figures as SVG for the page, which takes its ink from there, and as files for papers."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

from cbmir.report.charts.look import FAINT, INK

DPI = 300  # of PNG
_PAPER = {"grid.color": "#c8ccd0", "axes.edgecolor": "#8a9096"}
_NO_DATES = ("Date", "Creator", "Format", "Type")
_RC = {
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # names are names, whatever signs they have
}


@contextlib.contextmanager
def on_page(salt: str, *, size: float = 10) -> Iterator[None]:
    """Draw for the page: text stays text. `salt` settles the names inside the SVG, which no two figures of a page may share."""
    from matplotlib import rc_context

    with rc_context(_RC | {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": size}):
        yield


@contextlib.contextmanager
def on_paper(salt: str) -> Iterator[None]:
    """Draw for a journal: text as outlines, which look alike wherever the file is opened."""
    from matplotlib import rc_context

    with rc_context(_RC | {"svg.fonttype": "path", "svg.hashsalt": salt, "font.size": 8} | _PAPER):
        yield


def svg_file(figure: Any) -> bytes:
    """A figure drawn on paper as an SVG file, without a date."""
    return _svg(figure, transparent=False).encode()


def png_file(figure: Any) -> bytes:
    """The same as PNG of DPI dots an inch."""
    buffer = io.BytesIO()
    with _foreign_letters():
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg_element(figure: Any) -> str:
    """A figure drawn on the page -> the <svg> element, without namespaces, comments and numbered ids, in the page's font and colors.

    Only tags are changed: names that stand in the drawing may look like anything.
    """
    svg = _svg(figure, transparent=True)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r"<[^>]*>", lambda tag: _for_the_page(tag.group()), svg
    )  # matplotlib escapes < and > in texts and attributes
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("<svg", f'<svg width="{float(width):g}" height="{float(height):g}" aria-hidden="true"', 1)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def _for_the_page(tag: str) -> str:
    tag = re.sub(r' xmlns(:\w+)?="[^"]*"', "", tag)
    tag = re.sub(r' id="[A-Za-z0-9.]+_[0-9]+"', "", tag)
    tag = re.sub(r' id="(\w+)-of-[^"]*"', r' class="\1"', tag)
    tag = re.sub(r'font-family: [^;"]+', "font-family: inherit", tag)
    tag = re.sub(r'font: ([\d.]+px) [^;"]+', r"font-size: \1; font-family: inherit", tag)
    return tag.replace(INK, "currentColor").replace(FAINT, "var(--grid)")


def _svg(figure: Any, *, transparent: bool) -> str:
    buffer = io.StringIO()
    with _foreign_letters():
        figure.savefig(buffer, format="svg", transparent=transparent, metadata=dict.fromkeys(_NO_DATES))
    return buffer.getvalue()


@contextlib.contextmanager
def _foreign_letters() -> Iterator[None]:
    """A letter that the font does not have is an empty box in a file, and itself on the page, whose fonts are the reader's: no reason to warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield
