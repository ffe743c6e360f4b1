"""The landing page's two small proofs: first state in Python, then `rlbook.js`."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

REFERENCE = (0.4, 0.3, 0.2, 0.1)
REWARDS = (0.0, 0.5, 1.0, 2.0)
GROUPS = (2, 4, 8, 16, 32)
START_BETA, START_MOVE = 0.5, 0.3
START_P, START_GROUP = 0.3, 2


def relative_entropy(p: Sequence[float], q: Sequence[float]) -> float:
    """Return KL(p, q), with 0 log 0 = 0."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def both_sides(
    beta: float, move: float
) -> tuple[list[float], list[float], float, float]:
    """Return a policy, the best one, what the policy lacks, and beta times its KL."""
    policy = [(1 - move) * p + move * (i == 3) for i, p in enumerate(REFERENCE)]
    tilted = [p * math.exp(r / beta) for p, r in zip(REFERENCE, REWARDS, strict=True)]
    total = sum(tilted)
    best = [t / total for t in tilted]
    reward = sum(p * r for p, r in zip(policy, REWARDS, strict=True))
    worth = reward - beta * relative_entropy(policy, REFERENCE)
    lacks = beta * math.log(total) - worth
    return policy, best, lacks, beta * relative_entropy(policy, best)


def multiplier(p: float, size: int) -> float:
    """Return what division by the group's std does to the expected gradient."""
    return sum(
        math.comb(size, k)
        * p**k
        * (1 - p) ** (size - k)
        * math.sqrt(k * (size - k) * (size - 1) / size)
        for k in range(1, size)
    ) / (size * p * (1 - p))


def slider(name: str, text: str, span: tuple[float, float, float], at: float) -> str:
    """Return a slider with its name and value."""
    low, high, step = span
    share = 100 * (at - low) / (high - low)
    return (
        f'<label class="rl-control"><span class="rl-name">{text}</span>'
        f'<input type="range" name="{name}" min="{low:g}" max="{high:g}" '
        f'step="{step:g}" value="{at:g}" style="--p:{share:g}%">'
        f'<output class="rl-value"></output></label>'
    )


def frame(
    kind: str, task: str, label: str, picture: str, controls: str, says: str
) -> str:
    """Return one proof: task, picture, controls, check line."""
    return (
        f'<div class="rl-proof" data-proof="{kind}" role="group" '
        f'aria-label="{html.escape(label)}"><p class="rl-prompt"><b>{task}</b></p>'
        f'<svg viewBox="0 0 520 200" aria-hidden="true">{picture}</svg>'
        f'<div class="rl-controls">{controls}</div>'
        '<p class="rl-check" aria-live="polite">'
        '<span class="rl-check-word">Checked</span> '
        f'<span class="rl-sentence">{says}</span></p></div>'
    )


def identity() -> str:
    """Draw a policy beside the best one, on four responses."""
    policy, best, lacks, divergence = both_sides(START_BETA, START_MOVE)
    bars = "".join(
        f'<rect class="{name}" x="{22 + 126 * i + 46 * k}" y="{176 - 140 * p:.2f}" '
        f'width="42" height="{140 * p:.2f}"/>'
        for k, (name, side) in enumerate((("a", policy), ("b", best)))
        for i, p in enumerate(side)
    )
    words = "".join(
        f'<text x="{66 + 126 * i}" y="194" text-anchor="middle">reward {r:g}</text>'
        for i, r in enumerate(REWARDS)
    )
    keys = (
        '<text class="a" x="22" y="16">your policy</text>'
        '<text class="b" x="132" y="16">the best policy</text>'
    )
    return frame(
        "identity",
        "Find the move at which your policy lacks least.",
        "Four responses: your policy beside the best one",
        f'<path class="r" d="M14 176.5H506"/>{bars}{words}{keys}',
        slider("beta", "KL weight <i>\u03b2</i>", (0.1, 2, 0.1), START_BETA)
        + slider("move", "Move to the best response", (0, 1, 0.05), START_MOVE),
        f"it lacks {lacks:.4f} of the best objective; "
        f"\u03b2 KL(\u03c0, \u03c0*) = {divergence:.4f}",
    )


def place(p: float, value: float) -> str:
    """Return a point of the second picture."""
    return f"{30 + 460 * p:.1f} {180 - 28 * value:.1f}"


def curve(size: int) -> str:
    """Return the path of the multiplier over the success probability."""
    points = (place(i / 100, multiplier(i / 100, size)) for i in range(1, 100))
    return "M" + "L".join(points)


def group() -> str:
    """Draw what the group's std does, over the success probability."""
    size = GROUPS[START_GROUP]
    factor, most = multiplier(START_P, size), math.sqrt(size) * (1 - 1 / size)
    x, y = place(START_P, factor).split()
    top = place(0, most).split()[1]
    ticks = "".join(
        f'<text x="{30 + 460 * p:g}" y="197" text-anchor="middle">{p:g}</text>'
        for p in (0, 0.5, 1)
    )
    heights = "".join(
        f'<text x="20" y="{186 - 28 * value}" text-anchor="end">{value}</text>'
        for value in (0, 2, 4)
    )
    return frame(
        "group",
        "Which prompts does a division by the group\u2019s spread prefer?",
        "Multiplier of the gradient over the probability of success",
        f'<path class="r" d="M30 180.5H490"/><path class="d" d="M30 {top}H490"/>'
        f'<path class="c" d="{curve(size)}"/><circle cx="{x}" cy="{y}" r="6"/>'
        f'{ticks}{heights}<text x="0" y="14">Multiplier of the gradient</text>',
        slider("p", "Success probability", (0.02, 0.98, 0.02), START_P)
        + slider("size", "Group size <i>G</i>", (0, len(GROUPS) - 1, 1), START_GROUP),
        f"the gradient is multiplied by {factor:.2f}; "
        f"\u221aG (1 \u2212 1/G) = {most:.2f} bounds it",
    )


class Proofs(SphinxDirective):
    """The two proofs, each followed by its caption, a paragraph of the content."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return them side by side."""
        parsed = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        captions = [n for n in parsed.children if isinstance(n, nodes.paragraph)]
        if len(captions) != 2:
            raise self.error("the two proofs have one caption each")
        out: list[nodes.Node] = [
            nodes.raw("", '<div class="rl-proofs">', format="html")
        ]
        for drawn, caption in zip((identity(), group()), captions, strict=True):
            caption["classes"].append("rl-caption")
            out += [
                nodes.raw("", f"<div>{drawn}", format="html"),
                caption,
                nodes.raw("", "</div>", format="html"),
            ]
        return [*out, nodes.raw("", "</div>", format="html")]
