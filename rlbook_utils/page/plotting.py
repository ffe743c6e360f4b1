"""Figures of the book: one style, one SVG for light, dark and print.

Sizes are in units of 1/72 inch. A full figure is 520 x 276 units with fixed
margins, so that axes line up between figures and stand still between frames.
Colors are the light palette; in the SVG each becomes a CSS variable with that
color as its fallback, so that the page's theme decides.
"""

from __future__ import annotations

import base64
import csv
import io
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rlbook_utils.page.claims import significant

PALETTES = {
    "light": {
        "fig-1": "#1b5fc1",
        "fig-2": "#c2410c",
        "fig-3": "#0d5a41",
        "fig-4": "#a62a8e",
        "fig-ink": "#1d2126",
        "fig-soft": "#565b62",
        "fig-rule": "#e2ded5",
        "fig-paper": "#fdfcfa",
    },
    "dark": {
        "fig-1": "#7b9bee",
        "fig-2": "#f0793a",
        "fig-3": "#49d39b",
        "fig-4": "#f2bfe4",
        "fig-ink": "#e4e2dd",
        "fig-soft": "#a3a8ad",
        "fig-rule": "#2c3237",
        "fig-paper": "#14171a",
    },
}
"""Colors of both themes by role; the site's style sheet holds the same."""

ROLES = PALETTES[os.environ.get("RLBOOK_THEME", "light")]
"""Role of each color: the CSS variable and its fallback."""

SERIES = tuple(ROLES[f"fig-{k}"] for k in (1, 2, 3, 4))
"""Colors of the data series, in order; a fifth does not exist."""

DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1, 1.6)), (0, (5, 3)))
"""Line styles that go with `SERIES`, so that color is never the only cue."""

FULL, NARROW = (520, 276), (340, 300)
"""Width and height of a full figure and of its form for phones, in units."""

TEXT, GAP = 10.5, 16.0

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": TEXT,
    "text.color": ROLES["fig-ink"],
    "axes.edgecolor": ROLES["fig-soft"],
    "axes.labelcolor": ROLES["fig-soft"],
    "xtick.color": ROLES["fig-soft"],
    "ytick.color": ROLES["fig-soft"],
    "figure.facecolor": ROLES["fig-paper"],
    "axes.facecolor": "none",
    "lines.solid_capstyle": "round",
    "lines.dash_capstyle": "butt",
    "lines.linewidth": 1.8,
    "lines.scale_dashes": False,
    "path.simplify_threshold": 0.3,
}


def canvas(width: float = FULL[0], height: float = FULL[1]) -> Figure:
    """Make an empty figure of the book's paper.

    Parameters
    ----------
    width, height : float
        In units of 1/72 inch, positive.

    Returns
    -------
    matplotlib.figure.Figure
        Without axes, and not registered with pyplot: no back end shows it twice.

    Examples
    --------
    >>> canvas().get_size_inches() * 72
    array([520., 276.])
    """
    if not (width > 0 and height > 0):
        raise ValueError(f"figure of {width} x {height} units: both must be positive")
    with rc_context(_RC):
        fig = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasAgg(fig)
    return fig


def axes(
    fig: Figure,
    *,
    x: str,
    y: str,
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
    xticks: Sequence[float] | None = None,
    yticks: Sequence[float] | None = None,
    panel: tuple[int, int] = (0, 1),
) -> Axes:
    """Return the figure's styled axes, emptied of data.

    The first call makes them; later calls hand back the same axes without
    their lines, areas and labels, so that a frame of an interactive figure
    redraws only what changes.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        From `canvas`.
    x, y : str
        Names of the axes with their units. The name of y stands above the axis.
    xlim, ylim : pair of float, optional
        Limits; left to the data if None.
    xticks, yticks : sequence of float, optional
        Places of the ticks; matplotlib's choice (at most 5) if None.
    panel : (int, int)
        Index of this panel and count of panels, side by side.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If an axis has no name, or the panel does not exist.

    Examples
    --------
    >>> ax = axes(canvas(), x="pulls", y="Regret")
    """
    if not (x.strip() and y.strip()):
        raise ValueError(f"axes need names, got x={x!r}, y={y!r}")
    index, count = panel
    if not 0 <= index < count:
        raise ValueError(f"panel {index} of {count} does not exist")
    if index < len(fig.axes):
        ax = fig.axes[index]
        for artist in [*ax.lines, *ax.collections, *ax.patches, *ax.texts, *ax.images]:
            artist.remove()
    else:
        with rc_context(_RC):
            ax = fig.add_axes(_panel_box(fig, index, count))
            _style(ax, x, y)
    if xticks is not None:
        ax.set_xticks(list(xticks))
    if yticks is not None:
        ax.set_yticks(list(yticks))
    if xlim is not None:
        ax.set_xlim(*xlim)
    if ylim is not None:
        ax.set_ylim(*ylim)
    return ax


def line(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    *,
    series: int,
    name: str | None = None,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
) -> None:
    """Draw one curve in the color and dash of its series, with its band.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    x, y : array_like, shape (T,)
    series : int
        1 to 4.
    name : str, optional
        Written at the right end by `name_lines`.
    low, high : array_like, shape (T,), optional
        Band around the curve; give both or none.

    Raises
    ------
    ValueError
        If the series does not exist, or only one edge of the band is given.

    Examples
    --------
    >>> ax = axes(canvas(), x="pulls", y="Regret")
    >>> line(ax, [0, 1], [0, 2], series=1, name="greedy")
    """
    if series not in (1, 2, 3, 4):
        raise ValueError(f"series {series} does not exist: there are 1 to 4")
    if (low is None) != (high is None):
        raise ValueError("a band needs both low and high")
    color = SERIES[series - 1]
    with rc_context(_RC):
        ax.plot(x, y, color=color, linestyle=DASHES[series - 1], label=name or "_")
        if low is not None and high is not None:
            ax.fill_between(
                np.asarray(x),
                np.asarray(low),
                np.asarray(high),
                color=color,
                alpha=0.28,
                linewidth=0,
            )


def reference(ax: Axes, level: float, name: str) -> None:
    """Draw a thin horizontal line to compare with, named at its right end.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    level : float
        In the unit of the y axis.
    name : str

    Examples
    --------
    >>> reference(axes(canvas(), x="pulls", y="Reward"), 0.9, "best arm")
    """
    with rc_context(_RC):
        ax.axhline(level, color=ROLES["fig-soft"], linewidth=0.8, label=name)


def name_lines(ax: Axes) -> None:
    """Write the name of each line of the axes at its right end, apart.

    Names keep the order of the lines' ends and stand at least 16 units from
    each other. Call it last, when the limits are set.

    Parameters
    ----------
    ax : matplotlib.axes.Axes

    Examples
    --------
    >>> ax = axes(canvas(), x="pulls", y="Regret")
    >>> line(ax, [0, 1], [0, 2], series=1, name="greedy")
    >>> name_lines(ax)
    >>> ax.texts[0].get_text()
    'greedy'
    """
    for text in [text for text in ax.texts if text.get_gid() == "name"]:
        text.remove()
    named = [artist for artist in ax.lines if str(artist.get_label())[0] != "_"]
    if not named:
        return
    ends = [float(np.asarray(artist.get_ydata(), float)[-1]) for artist in named]
    heights = ax.transData.transform([(0.0, end) for end in ends])[:, 1]
    bottom, top = ax.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    right = ax.transAxes.transform((1, 0))[0]
    for artist, height in zip(named, _spread(heights, bottom, top), strict=True):
        color = str(artist.get_color())
        point = ax.transAxes.inverted().transform((right + 6, height))
        ax.text(
            point[0],
            point[1],
            str(artist.get_label()),
            transform=ax.transAxes,
            va="center",
            gid="name",
            fontsize=TEXT,
            color=color,
            weight="normal" if color == ROLES["fig-soft"] else "bold",
        )


# A tuple would be printed as a tuple: IPython prefers that to a MIME bundle.
@dataclass(frozen=True)
class Rendered:
    """A finished figure, as a notebook stores it."""

    name: str
    alt: str
    digest: str
    svg: str
    narrow: str
    png: bytes

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        data = {
            "image/svg+xml": self.svg,
            "image/png": base64.b64encode(self.png).decode(),
            "text/plain": self.digest,
        }
        record = {
            "kind": "figure",
            "name": self.name,
            "alt": self.alt,
            "narrow": self.narrow,
        }
        return data, {"rlbook": record, "image/png": {"alt": self.alt}}


def figure(
    fig: Figure,
    *,
    name: str,
    alt: str,
    data: Mapping[str, ArrayLike],
    x: str | None = None,
    n: int | None = None,
) -> Rendered:
    """Finish a figure: the value of a cell's last expression.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        From `canvas`.
    name : str
        Lower-case words joined by hyphens, unique in the chapter.
    alt : str
        What a reader who cannot see it must know: at least 20 characters.
    data : mapping of str to array_like
        What is drawn, one entry a curve, each of shape (T,) with its own T.
    x : str, optional
        The key of `data` that holds the abscissa.
    n : int, optional
        Count of replications behind the data.

    Returns
    -------
    Rendered
        SVG, small PNG, and one line of text that sums up the data: nbval
        compares that line.

    Raises
    ------
    ValueError
        If the alt text is missing, the name is malformed, or the data are
        empty or hold NaN.

    Examples
    --------
    >>> fig = canvas()
    >>> ax = axes(fig, x="pulls", y="Regret")
    >>> line(ax, [0, 1], [0, 2], series=1)
    >>> figure(fig, name="demo", alt="A line that rises from 0 to 2.",
    ...        data={"greedy": [0, 2]}, n=1).digest
    'demo: 1 curve x 2, mean 1.000, last 2.000 (n=1)'
    """
    check_name(name, alt)
    summary = digest(name, data, x=x, n=n)
    export(fig, name, data)
    return Rendered(name, alt, summary, svg(fig, name), _narrowed(fig, name), png(fig))


def check_name(name: str, alt: str) -> None:
    """Refuse a figure without a proper name and alt text.

    Parameters
    ----------
    name, alt : str

    Raises
    ------
    ValueError
        Naming the figure and what is wrong.

    Examples
    --------
    >>> check_name("demo", "A line that rises from 0 to 2.")
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"figure name {name!r}: use lower-case words and hyphens")
    if len(alt.strip()) < 20:
        raise ValueError(
            f"figure {name!r} has the alt text {alt!r}: "
            "say in at least 20 characters what it shows"
        )


def digest(
    name: str, data: Mapping[str, ArrayLike], *, x: str | None, n: int | None
) -> str:
    """Sum up the data of a figure in one line.

    Parameters
    ----------
    name : str
    data : mapping of str to array_like
        Arrays of finite numbers; each is flattened.
    x : str or None
        Key of the abscissa, left out of the line.
    n : int or None
        Count of replications.

    Returns
    -------
    str
        Counts, means and last values to 4 significant digits.

    Raises
    ------
    ValueError
        If there is nothing to sum up, `x` is no key, or a number is not finite.

    Examples
    --------
    >>> digest("demo", {"a": [1, 2, 3]}, x=None, n=None)
    'demo: 1 curve x 3, mean 2.000, last 3.000'
    """
    if x is not None and x not in data:
        raise ValueError(f"figure {name!r}: x={x!r} is no key of its data")
    curves = {key: np.asarray(y, float).ravel() for key, y in data.items() if key != x}
    if not curves:
        raise ValueError(f"figure {name!r} has no data")
    for key, y in curves.items():
        if y.size == 0 or not np.isfinite(y).all():
            raise ValueError(
                f"figure {name!r}: curve {key!r} is empty or has values that are "
                "not finite"
            )
    sizes = sorted({y.size for y in curves.values()})
    means = " ".join(significant(float(y.mean()), 4) for y in curves.values())
    lasts = " ".join(significant(float(y[-1]), 4) for y in curves.values())
    count = f"{len(curves)} curve{'s' * (len(curves) > 1)}"
    runs = "" if n is None else f" (n={n})"
    size = " ".join(map(str, sizes))
    return f"{name}: {count} x {size}, mean {means}, last {lasts}{runs}"


def export(fig: Figure, name: str, data: Mapping[str, ArrayLike]) -> None:
    """Write a figure and its data as files where ``RLBOOK_FIGURES`` names a folder.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    name : str
        Stem of the files: SVG, PDF, PNG, and a CSV with one column a curve.
    data : mapping of str to array_like
        Shorter columns end in blanks.

    Examples
    --------
    >>> export(canvas(), "demo", {"a": [1.0]})
    """
    if "RLBOOK_FIGURES" not in os.environ:
        return
    folder = Path(os.environ["RLBOOK_FIGURES"])
    folder.mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"var\(--[\w-]+,(#[0-9a-f]{6})\)", r"\1", svg(fig, name))
    (folder / f"{name}.svg").write_text(plain, encoding="utf-8")
    (folder / f"{name}.png").write_bytes(png(fig, dpi=300))
    with rc_context(_RC):
        nothing = {"CreationDate": None, "Creator": None, "Producer": None}
        fig.savefig(folder / f"{name}.pdf", metadata=nothing)
    columns = [np.asarray(column).ravel().tolist() for column in data.values()]
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(data)
        writer.writerows(itertools.zip_longest(*columns, fillvalue=""))


def svg(fig: Figure, name: str) -> str:
    """Draw a figure as a compact SVG that follows the page's theme.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    name : str
        Salt of the identifiers inside, unique on the page.

    Returns
    -------
    str
        One `svg` element: two decimals, theme variables for the book's colors,
        no metadata, no identifier that nothing refers to.

    Examples
    --------
    >>> svg(canvas(), "demo")[:4]
    '<svg'
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({**_RC, "svg.hashsalt": name}):
        fig.savefig(buffer, format="svg", metadata=nothing, dpi=72)
    return _compact(buffer.getvalue(), name)


def png(fig: Figure, dpi: int = 110) -> bytes:
    """Draw a figure as a small PNG, for readers that show no SVG.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    dpi : int
        Dots per inch.

    Returns
    -------
    bytes

    Examples
    --------
    >>> png(canvas())[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    with rc_context(_RC):
        fig.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _panel_box(
    fig: Figure, index: int, count: int
) -> tuple[float, float, float, float]:
    width, height = fig.get_size_inches() * 72
    left, right, top, bottom = 50.0, 84.0, 34.0, 31.0
    gap = 62.0
    if width < FULL[0]:
        left, right = 40.0, 76.0
    each = (width - left - right - gap * (count - 1)) / count
    start = left + index * (each + gap)
    return (
        start / width,
        bottom / height,
        each / width,
        (height - top - bottom) / height,
    )


def _style(ax: Axes, x: str, y: str) -> None:
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_linewidth(0.8)
    ax.tick_params(axis="x", length=3, width=0.8, pad=8)
    ax.tick_params(axis="y", length=0, pad=6)
    ax.grid(axis="y", color=ROLES["fig-rule"], linewidth=0.8)
    ax.set_axisbelow(True)
    ax.locator_params(nbins=5)
    _place_titles(ax, x, y)


def _place_titles(ax: Axes, x: str, y: str) -> None:
    width, height = ax.bbox.width, ax.bbox.height
    left = ax.bbox.x0 if not len(ax.figure.axes) > 1 else 34.0
    after = 30 if ax.figure.bbox.width >= FULL[0] else 16
    # Names are not texts of the axes: emptying the axes must leave them.
    ax.set_title(
        y,
        loc="left",
        fontsize=TEXT,
        color=ROLES["fig-soft"],
        x=-left / width,
        y=1 + 16 / height,
        pad=0,
    )
    ax.set_xlabel(x, fontsize=TEXT, ha="left")
    ax.xaxis.set_label_coords(1 + after / width, -11.5 / height)
    ax.xaxis.label.set_verticalalignment("top")


def _narrowed(fig: Figure, name: str) -> str:
    """Draw a chart of one panel in its form for phones; nothing for other figures."""
    if len(fig.axes) != 1 or not fig.axes[0].axison:
        return ""
    ax, size = fig.axes[0], fig.get_size_inches().copy()

    def lay_out(width: float, height: float) -> None:
        fig.set_size_inches(width / 72, height / 72)
        ax.set_position(_panel_box(fig, 0, 1))
        _place_titles(ax, ax.get_xlabel(), ax.get_title(loc="left"))
        if any(text.get_gid() == "name" for text in ax.texts):
            name_lines(ax)

    with rc_context(_RC):
        lay_out(*NARROW)
        drawn = svg(fig, f"{name}-narrow")
        lay_out(*(size * 72))
    return drawn


def _spread(heights: np.ndarray, bottom: float, top: float) -> np.ndarray:
    """Move labels as little as needed to stand GAP apart, in pool-adjacent order."""
    order = np.argsort(heights, kind="stable")
    blocks: list[list[float]] = []
    for position, height in enumerate(heights[order]):
        blocks.append([height - GAP * position, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            before, count = blocks.pop()
            total = size + count
            blocks.append([(mean * size + before * count) / total, total])
    low: np.ndarray = np.repeat([m for m, _ in blocks], [int(c) for _, c in blocks])
    spread = low + GAP * np.arange(len(heights))
    spread -= max(0.0, spread[-1] - (top + 8))
    spread += max(0.0, bottom - spread[0])
    placed = np.zeros(len(heights))
    placed[order] = spread
    return placed


_FONT = f"font: {TEXT}px Inter, system-ui, sans-serif"
_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def _compact(text: str, name: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'( width| height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r' xmlns:xlink="[^"]*"| version="1.1"', "", text)
    text = text.replace("xlink:href", "href")
    text = _NUMBER.sub(lambda match: _short(match.group()), text)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    keep = {old: f"{name}-{rank}" for rank, old in enumerate(sorted(used))}
    text = re.sub(
        r' id="([^"]*)"',
        lambda m: f' id="{keep[m[1]]}"' if m[1] in keep else "",
        text,
    )
    text = re.sub(
        r'(url\(#|href="#)([^)"]+)', lambda m: m[1] + keep.get(m[2], m[2]), text
    )
    text = text.replace(": #000000", f": {ROLES['fig-ink']}")
    for role, color in ROLES.items():
        text = text.replace(f": {color}", f": var(--{role},{color})")
    text = re.sub(r'(?<=style=")([^"]*)(?=")', lambda m: _style_of(m[1]), text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*"| style=""', "", text)
    ink = f"var(--fig-ink,{ROLES['fig-ink']})"
    text = text.replace("<svg", f'<svg style="{_FONT}; fill: {ink}"', 1)
    text = re.sub(r"<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", text)
    text = re.sub(r">\s+<", "><", text)
    return re.sub(r"\s*\n\s*", " ", text).strip()


def _style_of(declarations: str) -> str:
    """Keep of a text's font what differs from the root's: its weight."""
    kept = []
    for declaration in declarations.split(";"):
        key, _, value = declaration.strip().partition(":")
        if key == "font-weight" or (
            key == "font" and re.match(r"\s*(bold|\d+ )", value)
        ):
            kept.append("font-weight: 600")
        elif key and not key.startswith("font"):
            kept.append(f"{key}:{value}")
    return "; ".join(kept)


def _short(number: str) -> str:
    text = f"{float(number):.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
