import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from rlbook_utils.page import plotting

ALT = "Two lines that rise over a hundred pulls."


def drawn(**changes):
    fig = plotting.canvas()
    ax = plotting.axes(fig, x="pulls", y="Regret", xlim=(0, 99), ylim=(0, 20))
    t = np.arange(100)
    plotting.line(ax, t, np.sqrt(t), series=1, name="one", low=t * 0, high=t * 0.1)
    plotting.line(ax, t, np.sqrt(t) + 0.1, series=2, name="two")
    plotting.name_lines(ax)
    call = dict(name="demo", alt=ALT, data={"one": np.sqrt(t), "two": t}, n=7)
    return plotting.figure(fig, **(call | changes))


def test_the_digest_sums_up_the_data():
    assert (
        drawn().digest
        == "demo: 2 curves x 100, mean 6.615 49.50, last 9.950 99.00 (n=7)"
    )


def test_the_abscissa_is_left_out_of_the_digest():
    shown = drawn(data={"t": [1, 2], "y": [3.0, 5.0]}, x="t", n=None)
    assert shown.digest == "demo: 1 curve x 2, mean 4.000, last 5.000"


def test_the_notebook_gets_svg_png_text_and_alt():
    data, metadata = drawn()._repr_mimebundle_()
    assert set(data) == {"image/svg+xml", "image/png", "text/plain"}
    record = metadata["rlbook"]
    assert (record["kind"], record["name"], record["alt"]) == ("figure", "demo", ALT)


def test_the_phone_gets_a_drawing_of_its_own_and_the_figure_stays_as_it_was():
    fig = plotting.canvas()
    ax = plotting.axes(fig, x="pulls", y="Regret", xlim=(0, 1), ylim=(0, 1))
    plotting.line(ax, [0, 1], [0, 1], series=1, name="REINFORCE")
    plotting.name_lines(ax)
    before = plotting.svg(fig, "demo")
    shown = plotting.figure(fig, name="demo", alt=ALT, data={"y": [0, 1]})
    assert 'viewBox="0 0 340 300"' in shown.narrow and "REINFORCE" in shown.narrow
    assert shown.narrow.count("REINFORCE") == 1
    assert shown.svg == before == plotting.svg(fig, "demo")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(alt=""), r"'demo' has the alt text ''"),
        (dict(alt="a figure"), r"at least 20 characters"),
        (dict(name="Bad name"), r"figure name 'Bad name'"),
        (dict(data={}), r"'demo' has no data"),
        (dict(data={"a": []}), r"curve 'a' is empty"),
        (dict(data={"a": [1.0, np.nan]}), r"curve 'a' is empty or has values"),
        (dict(x="t"), r"x='t' is no key"),
    ],
)
def test_bad_figures_are_refused_with_the_reason(changes, message):
    with pytest.raises(ValueError, match=message):
        drawn(**changes)


def test_the_svg_is_well_formed_and_the_same_each_time():
    first, second = drawn().svg, drawn().svg
    ElementTree.fromstring(first)
    assert first == second
    assert first.startswith("<svg")


def test_the_svg_follows_the_theme_and_shows_without_it():
    svg = drawn().svg
    for role in ("fig-1", "fig-2", "fig-soft", "fig-rule", "fig-paper"):
        assert f"var(--{role},{plotting.ROLES[role]})" in svg
    without = re.sub(r"var\(--[\w-]+,#[0-9a-f]{6}\)", "", svg)
    assert set(re.findall(r"#[0-9a-f]{6}\b", without)) == set()


def test_what_is_drawn_in_black_becomes_ink():
    fig = plotting.canvas()
    ax = plotting.axes(fig, x="pulls", y="Regret")
    ax.text(0.5, 0.5, "plain")
    ax.plot([0, 1], [0, 1], color="black")
    drawn = plotting.svg(fig, "demo")
    ink = f"var(--fig-ink,{plotting.ROLES['fig-ink']})"
    assert f"fill: {ink}" in drawn.split(">")[0]
    assert f"stroke: {ink}" in drawn and "#000000" not in drawn


def test_the_svg_is_compact():
    svg = drawn().svg
    assert not re.search(r"\d\.\d{3,}", svg)
    assert "metadata" not in svg and "DejaVu" not in svg and "<!--" not in svg
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert all(id.startswith("demo-") for id in ids)
    assert all(f"#{id}" in svg for id in ids)


def test_no_text_is_rotated_so_that_css_may_enlarge_it():
    assert "rotate" not in drawn().svg


def test_axes_are_handed_back_without_data():
    fig = plotting.canvas()
    first = plotting.axes(fig, x="pulls", y="Regret")
    plotting.line(first, [0, 1], [0, 1], series=1, name="a")
    plotting.reference(first, 0.5, "half")
    plotting.name_lines(first)
    again = plotting.axes(fig, x="pulls", y="Regret")
    assert again is first
    assert not again.lines and not again.texts
    assert again.get_title(loc="left") == "Regret"


def test_names_stand_apart_and_in_order():
    fig = plotting.canvas()
    ax = plotting.axes(fig, x="pulls", y="Regret", xlim=(0, 1), ylim=(0, 1))
    for series, end in enumerate((0.50, 0.51, 0.52), start=1):
        plotting.line(ax, [0, 1], [0, end], series=series, name=str(series))
    plotting.name_lines(ax)
    heights = [ax.transAxes.transform(text.get_position())[1] for text in ax.texts]
    gaps = np.diff(heights)
    assert (gaps > plotting.GAP - 1e-6).all()


def test_names_stay_inside_the_figure():
    fig = plotting.canvas()
    ax = plotting.axes(fig, x="pulls", y="Regret", xlim=(0, 1), ylim=(0, 1))
    for series in (1, 2, 3, 4):
        plotting.line(ax, [0, 1], [0, 1.0], series=series, name=str(series))
    plotting.name_lines(ax)
    top = ax.transAxes.transform((0, 1))[1]
    heights = [ax.transAxes.transform(text.get_position())[1] for text in ax.texts]
    assert max(heights) <= top + 8 + 1e-6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ax: plotting.line(ax, [0], [0], series=5), "series 5 does not exist"),
        (
            lambda ax: plotting.line(ax, [0], [0], series=1, low=[0]),
            "both low and high",
        ),
        (lambda ax: plotting.axes(ax.figure, x="", y="y"), "axes need names"),
        (
            lambda ax: plotting.axes(ax.figure, x="x", y="y", panel=(2, 2)),
            "panel 2 of 2",
        ),
        (lambda ax: plotting.canvas(0, 10), "0 x 10 units"),
    ],
)
def test_bad_calls_are_refused(call, message):
    ax = plotting.axes(plotting.canvas(), x="pulls", y="Regret")
    with pytest.raises(ValueError, match=message):
        call(ax)


def _luminance(color):
    channels = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", plotting.SERIES)
def test_series_stand_out_from_the_paper(color):
    paper = _luminance(plotting.ROLES["fig-paper"])
    assert (paper + 0.05) / (_luminance(color) + 0.05) >= 4.5
