"""Figures that move: widgets in a live kernel, precomputed frames on the site.

The same call serves both. With ``RLBOOK_STATIC=1`` in the environment every frame
is drawn once and packed into the cell's HTML; a small script of the site plays
them. Anywhere else the figure is drawn anew by ipywidgets as its controls move.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ipywidgets
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rlbook_utils.page import claims, plotting

MOST_FRAMES = 121
"""Most combinations of values that an interactive figure may have."""

MOST_BYTES = 300_000
"""Most bytes of HTML that an interactive figure may add to a page."""

MOST_SECONDS = 15.0
"""Most seconds of drawing that the interactive figures of a chapter may take."""

Draw = Callable[..., Mapping[str, ArrayLike]]
_drawing: dict[str, float] = {}


class Control(NamedTuple):
    """One control of an interactive figure: what it offers and how it reads."""

    kind: str
    label: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    default: int


def slider(
    values: Sequence[float], label: str, *, default: float, spec: str = "g"
) -> Control:
    """Offer numbers in order.

    Parameters
    ----------
    values : sequence of float
        At least two, increasing.
    label : str
        Shown beside the slider.
    default : float
        One of the values.
    spec : str
        Format of the number beside the slider, as for `format`.

    Returns
    -------
    Control

    Raises
    ------
    ValueError
        If there are fewer than two values, they do not increase, or the default
        is not among them.

    Examples
    --------
    >>> slider([0.0, 0.1], "Exploration", default=0.1).texts
    ('0', '0.1')
    """
    chosen = tuple(values)
    if any(b <= a for a, b in itertools.pairwise(chosen)):
        raise ValueError(
            f"control {label!r}: the values {list(chosen)} do not increase"
        )
    texts = tuple(
        format(value, spec).replace("-", "\N{MINUS SIGN}") for value in chosen
    )
    return _control("slider", label, chosen, texts, default)


def choice(values: Sequence[str], label: str, *, default: str) -> Control:
    """Offer names in a drop-down list.

    Parameters
    ----------
    values : sequence of str
        At least two.
    label : str
    default : str
        One of the values.

    Returns
    -------
    Control

    Raises
    ------
    ValueError
        As `slider`, or if a value is no string.

    Examples
    --------
    >>> choice(["UCB", "greedy"], "Policy", default="UCB").default
    0
    """
    chosen = tuple(values)
    if numbers := [value for value in chosen if not isinstance(value, str)]:
        raise ValueError(f"choice {label!r} has {numbers[0]!r}: names are strings")
    return _control("choice", label, chosen, chosen, default)


def switch(label: str, *, default: bool = False) -> Control:
    """Offer a check box.

    Parameters
    ----------
    label : str
    default : bool

    Returns
    -------
    Control

    Examples
    --------
    >>> switch("With baseline").values
    (False, True)
    """
    return _control("switch", label, (False, True), ("off", "on"), default)


def _control(
    kind: str, label: str, values: tuple[Any, ...], texts: tuple[str, ...], default: Any
) -> Control:
    if not label.strip():
        raise ValueError(f"a {kind} needs a label")
    if len(values) < 2:
        raise ValueError(
            f"control {label!r} has {len(values)} values: it needs at least 2"
        )
    if len(set(texts)) != len(texts):
        raise ValueError(
            f"control {label!r}: two values read the same in {list(texts)}"
        )
    if default not in values:
        raise ValueError(
            f"control {label!r}: the default {default!r} is none of {list(values)}"
        )
    return Control(kind, label, values, texts, values.index(default))


@dataclass(frozen=True)
class Interactive:
    """A finished interactive figure: the value of a cell's last expression."""

    name: str
    alt: str
    data: Mapping[str, Any]

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[Mapping[str, Any], dict[str, Any]]:
        record = {"kind": "figure", "name": self.name, "alt": self.alt, "live": "yes"}
        return self.data, {"rlbook": record}


def interactive(
    draw: Draw,
    *,
    name: str,
    alt: str,
    prompt: str,
    describe: Callable[..., str],
    n: int | None = None,
    **controls: Control,
) -> Interactive:
    """Make a figure that moves with one or two controls.

    Parameters
    ----------
    draw : callable
        ``draw(fig, **values)`` draws one setting on the figure it is given, on
        `plotting.axes`, and returns the data that it drew, as `plotting.figure`
        takes them. It must be a pure function of the values.
    name, alt : str
        As for `plotting.figure`.
    prompt : str
        What the reader should find out by moving it.
    describe : callable
        ``describe(**values)`` says in a sentence what this setting shows.
    n : int, optional
        Count of replications behind the data.
    **controls : Control
        One or two, from `slider`, `choice` and `switch`, by argument name.

    Returns
    -------
    Interactive

    Raises
    ------
    ValueError
        If there are no controls or more than two, more than 121 frames, no
        prompt or sentence, or more than 300 KB of HTML; if `draw` returns
        nothing.
    RuntimeError
        If `draw` or `describe` fails on a value, or drawing takes more than 15
        seconds in this chapter.

    Examples
    --------
    >>> def draw(fig, slope):
    ...     ax = plotting.axes(fig, x="t", y="y", xlim=(0, 1), ylim=(0, 2))
    ...     plotting.line(ax, [0, 1], [0, slope], series=1)
    ...     return {"line": [0, slope]}
    >>> shown = interactive(
    ...     draw, name="slope", alt="A line that rises with the slope.",
    ...     prompt="Make it steep.", describe=lambda slope: f"It ends at {slope}.",
    ...     slope=slider([1.0, 2.0], "Slope", default=1.0))
    >>> shown.data["text/plain"]
    'slope: 1 curve x 2, mean 0.5000, last 1.000'
    """
    plotting.check_name(name, alt)
    _check_controls(name, controls, prompt)
    scene = _Scene(draw, describe, name, controls)
    values = {key: c.values[c.default] for key, c in controls.items()}
    wide = plotting.canvas()
    shown = scene.draw(wide, values)
    plotting.export(wide, name, shown)
    data: dict[str, Any] = {
        "text/plain": plotting.digest(name, shown, x=None, n=n),
        "image/png": base64.b64encode(plotting.png(wide)).decode(),
    }
    if os.environ.get("RLBOOK_STATIC") == "1":
        data["text/html"] = _page(scene, alt, prompt)
        del data["image/png"]
    else:
        data["image/svg+xml"] = plotting.svg(wide, name)
        data["application/vnd.jupyter.widget-view+json"] = _live(scene, wide, prompt)
    return Interactive(name, alt, data)


def _check_controls(name: str, controls: Mapping[str, Control], prompt: str) -> None:
    if not 1 <= len(controls) <= 2:
        raise ValueError(
            f"interactive figure {name!r} has {len(controls)} controls: one or two"
        )
    for key, control in controls.items():
        if not isinstance(control, Control):
            raise ValueError(
                f"interactive figure {name!r}: {key}={control!r} is no control: "
                "use slider, choice or switch"
            )
    frames = 1
    for control in controls.values():
        frames *= len(control.values)
    if frames > MOST_FRAMES:
        raise ValueError(
            f"interactive figure {name!r} has {frames} frames: at most {MOST_FRAMES}"
        )
    if not prompt.strip():
        raise ValueError(f"interactive figure {name!r} has no prompt")


class _Scene:
    """What is drawn, and how it is said, at each setting."""

    def __init__(
        self,
        draw: Draw,
        describe: Callable[..., str],
        name: str,
        controls: Mapping[str, Control],
    ) -> None:
        self._draw, self._describe = draw, describe
        self.name, self.controls = name, controls

    def settings(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of values, the last control fastest."""
        for combination in itertools.product(
            *(c.values for c in self.controls.values())
        ):
            yield dict(zip(self.controls, combination, strict=True))

    def draw(self, fig: Figure, values: dict[str, Any]) -> Mapping[str, ArrayLike]:
        """Draw one setting; refuse what fails or returns nothing."""
        where = self._where(values)
        try:
            data = self._draw(fig, **values)
        except Exception as error:
            raise RuntimeError(f"{where}: draw failed: {error!r}") from error
        if not isinstance(data, Mapping):
            raise ValueError(
                f"{where}: draw returned {data!r}: it must return the data that it "
                "drew, a dict of arrays"
            )
        return data

    def say(self, values: dict[str, Any]) -> str:
        """Describe one setting; refuse what fails or says nothing."""
        where = self._where(values)
        try:
            sentence = self._describe(**values)
        except Exception as error:
            raise RuntimeError(f"{where}: describe failed: {error!r}") from error
        if not isinstance(sentence, str) or not sentence.strip():
            raise ValueError(f"{where}: describe returned {sentence!r}, no sentence")
        return sentence

    def _where(self, values: dict[str, Any]) -> str:
        setting = ", ".join(f"{key}={value!r}" for key, value in values.items())
        return f"interactive figure {self.name!r} at {setting}"


def _frames(scene: _Scene) -> dict[str, list[str]]:
    started = time.process_time()
    wide, narrow = plotting.canvas(), plotting.canvas(*plotting.NARROW)
    frames: dict[str, list[str]] = {"wide": [], "narrow": [], "say": []}
    for values in scene.settings():
        for key, fig in (("wide", wide), ("narrow", narrow)):
            scene.draw(fig, values)
            frames[key].append(plotting.svg(fig, f"{scene.name}-{key}"))
        frames["say"].append(scene.say(values))
    chapter = claims.chapter()
    spent = _drawing.get(chapter, 0.0) + time.process_time() - started
    _drawing[chapter] = spent
    if spent > MOST_SECONDS:
        raise RuntimeError(
            f"interactive figure {scene.name!r}: chapter {chapter!r} has drawn for "
            f"{spent:.0f} s: at most {MOST_SECONDS:.0f} s"
        )
    return frames


def _page(scene: _Scene, alt: str, prompt: str) -> str:
    frames = _frames(scene)
    first = 0
    for control in scene.controls.values():
        first = first * len(control.values) + control.default
    packed = zlib.compress(json.dumps(frames, ensure_ascii=False).encode(), 9)
    controls = "".join(
        _control_html(scene.name, key, control)
        for key, control in scene.controls.items()
    )
    page = (
        f'<div class="rl-live" role="group" aria-label="{html.escape(alt)}" '
        f'data-name="{scene.name}" style="max-width:664px">'
        f'<p class="rl-prompt"><b>{html.escape(prompt)}</b></p>'
        f'<div class="rl-frame" id="live-{scene.name}" aria-hidden="true">'
        f'<div class="rl-wide">{frames["wide"][first]}</div>'
        f'<div class="rl-narrow" style="display:none">{frames["narrow"][first]}</div>'
        f'</div><div class="rl-controls" hidden>{controls}</div>'
        f'<p class="rl-say" aria-live="polite">{html.escape(frames["say"][first])}</p>'
        '<p class="rl-offline"><i>Run this cell to move it.</i></p>'
        '<script type="text/plain" class="rl-frames">'
        f"{base64.b64encode(packed).decode()}</script></div>"
    )
    if len(page) > MOST_BYTES:
        raise ValueError(
            f"interactive figure {scene.name!r} takes {len(page):,} bytes: at most "
            f"{MOST_BYTES:,}. Draw fewer points or frames."
        )
    return page


def _control_html(name: str, key: str, control: Control) -> str:
    attributes = f'id="{name}-{key}" aria-controls="live-{name}" data-key="{key}"'
    label = f'<span class="rl-name">{html.escape(control.label)}</span>'
    shown = html.escape(control.texts[control.default])
    if control.kind == "slider":
        texts = html.escape(json.dumps(control.texts, ensure_ascii=False))
        field = (
            f'<input type="range" {attributes} min="0" max="{len(control.values) - 1}" '
            f'step="1" value="{control.default}" aria-valuetext="{shown}" '
            f'data-texts="{texts}"><output class="rl-value">{shown}</output>'
        )
    elif control.kind == "choice":
        options = "".join(
            f'<option value="{k}"{" selected" * (k == control.default)}>'
            f"{html.escape(text)}</option>"
            for k, text in enumerate(control.texts)
        )
        field = f"<select {attributes}>{options}</select>"
    else:
        checked = " checked" * bool(control.default)
        field = f'<input type="checkbox" {attributes}{checked}>'
    return f'<label class="rl-control rl-{control.kind}">{label}{field}</label>'


def _live(scene: _Scene, fig: Figure, prompt: str) -> dict[str, Any]:
    frame, sentence = ipywidgets.HTML(), ipywidgets.HTML()
    fields = {key: _widget(control) for key, control in scene.controls.items()}

    def show(change: Any = None) -> None:
        values = {key: field.value for key, field in fields.items()}
        scene.draw(fig, values)
        picture = plotting.svg(fig, scene.name)
        frame.value = f'<div style="max-width:664px">{picture}</div>'
        sentence.value = html.escape(scene.say(values))

    for field in fields.values():
        field.observe(show, names="value")
    show()
    heading = ipywidgets.HTML(f"<b>{html.escape(prompt)}</b>")
    box = ipywidgets.VBox([heading, frame, *fields.values(), sentence])
    return {"version_major": 2, "version_minor": 0, "model_id": box.model_id}


def _widget(control: Control) -> Any:
    options = list(zip(control.texts, control.values, strict=True))
    common = {
        "description": control.label,
        "style": {"description_width": "initial"},
        "layout": ipywidgets.Layout(width="100%", max_width="664px"),
    }
    value = control.values[control.default]
    if control.kind == "slider":
        return ipywidgets.SelectionSlider(options=options, value=value, **common)
    if control.kind == "choice":
        return ipywidgets.Dropdown(options=options, value=value, **common)
    return ipywidgets.Checkbox(value=value, **common)
