"""The landing page: the live figure's first state, the chapter map, the columns."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, ClassVar

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

LAYOUT = (
    "..............",
    "....#.........",
    "....#..###....",
    "....#....#.G..",
    "....#....#....",
    "....#....#....",
    ".##......#....",
    "......#..###..",
    "..............",
)
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))
START_SWEEP, START_GAMMA, LAST_SWEEP = 18, 0.9, 40
GAMMAS = (0.8, 0.9, 0.97)

Values = dict[tuple[int, int], float]


def action_values(values: Values, cell: tuple[int, int], gamma: float) -> list[float]:
    """Return what each move is worth: 0.8 goes ahead, 0.1 slips to either side."""

    def after(move: int) -> float:
        row, column = cell[0] + MOVES[move % 4][0], cell[1] + MOVES[move % 4][1]
        inside = 0 <= row < len(LAYOUT) and 0 <= column < len(LAYOUT[0])
        if not inside or LAYOUT[row][column] == "#":
            row, column = cell
        return 1.0 if LAYOUT[row][column] == "G" else gamma * values[row, column]

    return [0.8 * after(m) + 0.1 * after(m + 1) + 0.1 * after(m + 3) for m in range(4)]


def sweeps(gamma: float, count: int) -> Values:
    """Run value iteration on the landing page's world from zero."""
    values = {(r, c): 0.0 for r in range(len(LAYOUT)) for c in range(len(LAYOUT[0]))}
    free = [cell for cell in values if LAYOUT[cell[0]][cell[1]] == "."]
    for _ in range(count):
        new = {cell: max(action_values(values, cell, gamma)) for cell in free}
        values = {**values, **new}
    return values


def world() -> tuple[str, str]:
    """Draw the first state of the live figure; return it and its sentence."""
    values, best = sweeps(START_GAMMA, START_SWEEP), sweeps(START_GAMMA, 400)
    cells, arrows = [], []
    for (row, column), value in values.items():
        kind = {"#": ' class="w"', "G": ' class="g"'}.get(LAYOUT[row][column], "")
        shade = 0.06 + 0.8 * value**0.9
        faint = f' fill-opacity="{shade:.3f}"' if not kind else ""
        cells.append(f'<rect x="{44 * column}" y="{44 * row}"{kind}{faint}/>')
        ahead = action_values(values, (row, column), START_GAMMA)
        turn = 90 * max(range(4), key=lambda m: (round(ahead[m], 9), -m))
        shown = "" if value > 0 and not kind else ' class="n"'
        shown = ' class="l"' if value > 0.8 and not kind else shown
        place = f"translate({44 * column + 21} {44 * row + 21}) rotate({turn})"
        arrows.append(f'<use href="#rl-arrow"{shown} transform="{place}"/>')
    row, column = next(cell for cell in values if LAYOUT[cell[0]][cell[1]] == "G")
    picture = (
        '<svg viewBox="0 0 614 394" aria-hidden="true"><defs><path id="rl-arrow" '
        'd="M-7 0H7M2-5 7 0 2 5"/></defs>'
        f'{"".join(cells)}{"".join(arrows)}<path class="t" '
        f'd="M{44 * column + 11} {44 * row + 22}l7 7 14-16"/></svg>'
    )
    error = max(abs(best[cell] - values[cell]) for cell in values)
    bound = START_GAMMA**START_SWEEP * max(best.values())
    says = (
        f"after {START_SWEEP} sweeps the error is {error:.3f}, "
        f"the bound \u03b3<sup>k</sup> promises at most {bound:.3f}"
    )
    return picture, says


def live_world() -> str:
    """Return the landing page's live figure; `rlbook.js` takes it over."""
    picture, says = world()
    choices = "".join(
        f'<label><input type="radio" name="rl-gamma" value="{g}"'
        f"{' checked' if g == START_GAMMA else ''}><span>{g:.2f}</span></label>"
        for g in GAMMAS
    )
    return (
        '<div class="rl-side"><div class="rl-world" role="group" '
        'aria-label="Value iteration in a grid world">'
        '<div class="rl-frame" role="application" tabindex="0" '
        'aria-label="Grid of 14 by 9 cells. Arrow keys choose a cell, '
        'the space bar builds or removes a wall.">'
        f"{picture}</div>"
        '<div class="rl-controls"><button type="button" class="rl-play">Play</button>'
        '<label class="rl-control"><span class="rl-name">Sweep <i>k</i></span>'
        f'<input type="range" min="0" max="{LAST_SWEEP}" value="{START_SWEEP}" '
        f'style="--p:{100 * START_SWEEP / LAST_SWEEP:g}%"><output class="rl-value">'
        f"{START_SWEEP}</output></label>"
        '<fieldset class="rl-choices"><legend>Discount <i>\u03b3</i></legend>'
        f"{choices}</fieldset></div>"
        '<p class="rl-check" aria-live="polite">'
        '<span class="rl-check-word">Checked</span> '
        f'<span class="rl-sentence">{says}</span></p></div>'
    )


class Cover(SphinxDirective):
    """The first screen: promise, links (the first a button), live figure, caption."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the grid's left column and the live figure."""
        parsed = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        paragraphs = [n for n in parsed.children if isinstance(n, nodes.paragraph)]
        if len(paragraphs) != 3:
            raise self.error("a cover has three paragraphs: promise, links, caption")
        for paragraph, name in zip(
            paragraphs, ("rl-promise", "rl-actions", "rl-caption"), strict=True
        ):
            paragraph["classes"].append(name)
        promise, actions, caption = paragraphs
        return [
            nodes.raw(
                "", '<div class="rl-cover"><span class="rl-mark"></span>', format="html"
            ),
            promise,
            actions,
            nodes.raw("", live_world(), format="html"),
            caption,
            nodes.raw("", "</div></div>", format="html"),
        ]


Chapters = dict[int, tuple[str, int, int, tuple[int, ...]]]
WIDE, HIGH, STEP_X, STEP_Y, TOP = 158, 46, 194, 70, 42


def crossed(chapters: Chapters, need: int, number: int) -> int:
    """Return the chapter that a link would run through, or 0."""
    (_, c0, r0, _), (_, c1, r1, _) = chapters[need], chapters[number]
    for other, (_, column, row, _) in chapters.items():
        beside = c0 < column < c1 and row == r0
        between = c0 == c1 == column and r0 < row < r1
        if beside or between:
            return other
    return 0


def map_edges(chapters: Chapters) -> list[str]:
    """Draw the links, their ends fanned out where several meet on one side."""
    ends: dict[tuple[int, str], list[int]] = {}
    edges = []
    for number, (_, column, _row, needs) in chapters.items():
        for need in needs:
            straight = chapters[need][1] == column
            if other := crossed(chapters, need, number):
                raise ValueError(f"link {need}-{number} runs through chapter {other}")
            side = "top" if straight else "left"
            ends.setdefault((number, side), []).append(need)
            edges.append((need, number, straight))
    drawn = []
    for need, number, straight in edges:
        (_, c0, r0, _), (_, c1, r1, _) = chapters[need], chapters[number]
        meeting = sorted(
            ends[number, "top" if straight else "left"], key=lambda n: chapters[n][2]
        )
        shift = 7 * (meeting.index(need) - (len(meeting) - 1) / 2)
        if straight:
            x = c1 * STEP_X + WIDE / 2
            y0, y1 = TOP + r0 * STEP_Y + float(HIGH), float(TOP + r1 * STEP_Y)
            path, head = f"M{x:g} {y0:g}V{y1 - 6:g}", f"M{x - 4:g} {y1 - 7:g}h8l-4 7z"
        else:
            x0, x1 = c0 * STEP_X + WIDE, c1 * STEP_X
            y0, y1 = TOP + r0 * STEP_Y + HIGH / 2, TOP + r1 * STEP_Y + HIGH / 2 + shift
            middle = x1 - (STEP_X - WIDE) / 2
            start = x0 if c1 - c0 == 1 else x1 - (STEP_X - WIDE)
            curve = f"{middle:g} {y0:g} {middle:g} {y1:g} {x1 - 6} {y1:g}"
            path = f"M{x0} {y0:g}H{start}C{curve}"
            head = f"M{x1 - 7} {y1 - 4:g}v8l7-4z"
        drawn.append(
            f'<g class="rl-edge" data-from="{need}" data-to="{number}">'
            f'<path d="{path}"/><path d="{head}"/></g>'
        )
    return drawn


def map_lists(
    chapters: Chapters, parts: list[tuple[str, int, int]], links: dict[int, str]
) -> list[str]:
    """Write the map as one ordered list a part, for narrow screens."""
    lists = []
    for name, first, last in parts:
        lists.append(f'<p class="rl-part">{html.escape(name)}</p><ol>')
        for number, (title, column, _, needs) in chapters.items():
            if first <= column <= last:
                words = html.escape(title)
                if number in links:
                    words = f'<a href="{links[number]}">{words}</a>'
                after = "needs " + ", ".join(map(str, needs)) if needs else "start here"
                lists.append(f'<li value="{number}">{words} <span>{after}</span></li>')
        lists.append("</ol>")
    return lists


def chapter_map(
    chapters: Chapters,
    parts: list[tuple[str, int, int]],
    links: dict[int, str],
    here: int = 0,
    label: str = "The chapters and what they need",
) -> str:
    """Draw the map; `parts` are (name, first column, last column), `here` is lit."""
    for title, *_ in chapters.values():
        if len(title) > 16:
            raise ValueError(f"{title!r} is longer than 16 characters")
    wide = max(c for _, c, _, _ in chapters.values()) * STEP_X + WIDE
    high = TOP + max(r for _, _, r, _ in chapters.values()) * STEP_Y + HIGH
    drawn = [
        f'<text class="rl-part" x="{a * STEP_X}" y="12">{html.escape(name)}</text>'
        f'<path class="rl-part-rule" d="M{a * STEP_X} 24H{b * STEP_X + WIDE}"/>'
        for name, a, b in parts
    ]
    drawn += map_edges(chapters)
    for number, (title, column, row, needs) in chapters.items():
        x, y = column * STEP_X, TOP + row * STEP_Y
        lit = " rl-here" if number == here else ""
        body = (
            f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="6"/>'
            f'<text class="rl-number" x="{x + 13}" y="{y + 28}">{number}</text>'
            f'<text x="{x + 36}" y="{y + 28}">{html.escape(title)}</text>'
        )
        data = f'data-n="{number}" data-needs="{" ".join(map(str, needs))}"'
        if number in links:
            start = f'<a class="rl-node{lit}" {data} href="{links[number]}">'
            drawn.append(f"{start}{body}</a>")
        else:
            drawn.append(f'<g class="rl-node rl-planned" {data}>{body}</g>')
    return (
        f'<div class="rl-map"><svg viewBox="0 -2 {wide + 1} {high + 4}" role="group" '
        f'aria-label="{html.escape(label)}">{"".join(drawn)}</svg>'
        '<p class="rl-hint">Point at a chapter to see everything it needs.</p>'
        '<div class="rl-map-list">'
        f"{''.join(map_lists(chapters, parts, links))}</div></div>"
    )


class ChapterMap(SphinxDirective):
    """The map of `book/map.yml`; `:here:` names the chapter that is lit.

    `parts` is {name: [first, last column]}. A chapter is
    number: [title, column, row, [needs], name]; it is linked once
    `chapters/<name>` is a page.
    """

    option_spec: ClassVar[dict[str, Any]] = {"here": str}

    def run(self) -> list[nodes.Node]:
        """Return the map as HTML, its links relative to this page."""
        path = Path(self.env.srcdir) / "book" / "map.yml"
        self.env.note_dependency(str(path))
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        chapters: Chapters = {
            number: (title, column, row, tuple(needs))
            for number, (title, column, row, needs, _) in data["chapters"].items()
        }
        names = {number: row[4] for number, row in data["chapters"].items()}
        builder, here = self.env.app.builder, self.env.docname
        links = {
            number: builder.get_relative_uri(here, f"chapters/{name}")
            for number, name in names.items()
            if f"chapters/{name}" in self.env.found_docs and builder.format == "html"
        }
        parts = [(name, first, last) for name, (first, last) in data["parts"].items()]
        wanted = self.options.get("here")
        lit = next((n for n, name in names.items() if name == wanted), 0)
        if wanted and not lit:
            raise self.error(f"book/map.yml has no chapter {wanted!r}")
        try:
            drawn = chapter_map(chapters, parts, links, lit)
        except ValueError as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", drawn, format="html")]


class Columns(SphinxDirective):
    """A definition list as columns: the three routes, and what "checked" means."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the list with the class that the style sheet lays out."""
        parsed = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        found = next(iter(parsed.findall(nodes.definition_list)), None)
        if found is None:
            raise self.error("columns hold a definition list")
        found["classes"].append("rl-columns")
        return [found]
