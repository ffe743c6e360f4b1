"""MyST to plain Markdown: what a reader in Colab sees, and what is refused."""

import convert
import pytest
from pybtex.database import parse_string

BIB = parse_string(
    """@article{lai1985, author={Lai, T. L. and Robbins, Herbert}, title={Rules},
    journal={Adv}, year={1985}, doi={10.1/x}}
    @book{three, author={\\'Alvarez, B and C, D and E, F}, title={Book}, publisher={P},
    year={2000}, url={https://example.org/b}}
    @article{lai1985b, author={Lai, T. L. and Robbins, Herbert}, title={More},
    journal={Adv}, year={1985}, doi={10.1/y}}""",
    "bibtex",
)
HEAD = (
    "---\nkernelspec:\n  name: python3\n  display_name: P\n  language: python\n---\n\n"
)
SET_UP = "```{code-cell} ipython3\n# set up: numpy\n```\n"


def book(tmp_path, body, front=HEAD):
    folder = tmp_path / "book" / "chapters"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.md").write_text(f"{front}# Toy\n\n{SET_UP}\n{body}\n")
    text = convert.read_text(tmp_path, "toy")
    labels = convert.index_labels([text], "https://s", first=3)
    return convert.Book(
        tmp_path,
        "https://r",
        "https://s",
        ["a", "b", "toy"],
        BIB.entries,
        {"toy": text},
        labels,
    )


def render(tmp_path, body, values=None):
    return "\n".join(convert.markdown(book(tmp_path, body), "toy", values or {}))


def test_a_theorem_becomes_a_quote_with_its_number(tmp_path):
    out = render(tmp_path, "```{prf:theorem} Name\n:label: thm-x\n\nBody $x$.\n```")
    assert "> **Theorem 3.1 (Name)**\n>\n> Body $x$." in out


def test_a_proof_is_a_quote_that_ends_in_a_square(tmp_path):
    out = render(tmp_path, "```{prf:proof}\nClear.\n```")
    assert "> *Proof.*\n>\n> Clear.\n>\n> \u25a1" in out


def test_equations_get_tags_and_references_become_links(tmp_path):
    out = render(tmp_path, "$$\na = b\n$$ (eq-a)\n\nBy {eq}`eq-a`.\n\n$$\nc\n$$")
    assert "$$\na = b \\tag{3.1}\n$$" in out
    assert "By [Eq. 3.1](https://s/chapters/toy.html#equation-eq-a)." in out
    assert "$$\nc\n$$" in out


def test_counters_of_each_kind_run_on_their_own(tmp_path):
    body = (
        "```{prf:lemma}\n:label: l\nx\n```\n\n```{prf:theorem}\n:label: t\nx\n```\n\n"
        "````{prf:theorem}\n:label: u\n\n$$\ny\n$$ (eq-in)\n````\n\n"
        "```{exercise} E\n:label: e\nDo.\n```\n\n"
        "See {prf:ref}`l`, {prf:ref}`t`, {prf:ref}`u`, {ref}`e`, {eq}`eq-in`."
    )
    out = render(tmp_path, body)
    for shown in ("Lemma 3.1", "Theorem 3.1", "Theorem 3.2", "E]", "Eq. 3.1"):
        assert f"[{shown.rstrip(']')}](" in out


def test_sections_are_numbered_and_linked(tmp_path):
    out = render(
        tmp_path, "## One\n\n(sec-b)=\n## Two\n\nIn {numref}`sec-b` {ref}`sec-b`."
    )
    assert "[Section 3.2](https://s/chapters/toy.html#sec-b)" in out
    assert "[Two](https://s/chapters/toy.html#sec-b)" in out
    assert "(sec-b)=" not in out


def test_solutions_hints_and_strip_are_folded(tmp_path):
    body = (
        "```{exercise} Sum\n:label: e\nDo.\n```\n\n"
        "```{solution} e\n:class: dropdown\n\nDone.\n```\n\n"
        "```{hint}\nThink.\n```\n\n```{strip}\nYou will learn\n: - to add\n```"
    )
    out = render(tmp_path, body)
    assert "<details><summary>Solution to Exercise 3.1 (Sum)</summary>\n\nDone." in out
    assert "<details><summary>Hint</summary>\n\nThink." in out
    assert "<details open><summary>At a glance</summary>\n\n**You will learn**" in out
    assert "- to add" in out and "**-" not in out


def test_citations_become_author_year_links(tmp_path):
    out = render(tmp_path, "{cite:t}`lai1985` and {cite:p}`three, lai1985`.")
    assert "[Lai and Robbins (1985)](https://doi.org/10.1/x)" in out
    assert (
        "([\u00c1lvarez et al., 2000](https://example.org/b); [Lai and Robbins, 1985]("
        in out
    )


def test_the_bibliography_lists_what_was_cited(tmp_path):
    out = render(tmp_path, "{cite:p}`lai1985`\n\n```{bibliography}\n```")
    assert (
        "- Lai, T. L.; Robbins, Herbert. [Rules](https://doi.org/10.1/x). Adv, 1985."
        in out
    )
    assert "Book" not in out


def test_the_bibliography_keeps_one_order_where_author_and_year_agree(tmp_path):
    # A set's order changes from run to run.
    out = render(tmp_path, "{cite:p}`lai1985b,lai1985`\n\n```{bibliography}\n```")
    assert out.rindex("[Rules]") < out.rindex("[More]")


def test_numbers_of_the_run_stand_in_the_prose(tmp_path):
    assert "lost 9.7 coins" in render(tmp_path, "lost {val}`x` coins", {"x": "9.7"})


def test_a_quiz_folds_each_choice_with_its_reason(tmp_path):
    body = "```{quiz} Which?\n- [x] Left.\n  It is.\n- [ ] Right.\n  It is not.\n```"
    out = render(tmp_path, body)
    assert "**Check yourself.** Which?" in out
    assert "<summary>Left.</summary>\n\n**Yes.** It is." in out
    assert "<summary>Right.</summary>\n\n**Not quite.** It is not." in out


def test_code_spans_fences_and_comments_are_left_alone(tmp_path):
    body = "% gone\n`{eq}` and ``a`b``\n\n```python\n{eq}`nothing`\n(x)=\n```\n"
    out = render(tmp_path, body)
    assert "`{eq}` and ``a`b``" in out
    assert "```python\n{eq}`nothing`\n(x)=\n```" in out
    assert "gone" not in out


def test_a_figure_caption_heads_the_next_text(tmp_path):
    body = (
        "```{code-cell} ipython3\n---\nmystnb:\n  figure:\n    name: fig-a\n"
        "    caption: Two of {val}`n`.\n---\nx = 1\n```\n\nSee {numref}`fig-a`."
    )
    out = render(tmp_path, body, {"n": "7"})
    assert (
        "**Figure 3.1.** Two of 7.\n\nSee [Figure 3.1](https://s/chapters/toy.html#fig-a)."
        in out
    )


def test_the_first_cell_links_to_the_page(tmp_path):
    cells = convert.markdown(book(tmp_path, "Text."), "toy", {})
    assert "https://s/chapters/toy.html" in cells[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("```{nonsense}\nx\n```", r"toy\.md:14: unknown directive \{nonsense\}"),
        ("a\n\nb {nonsense}`x`", r"toy\.md:16: unknown role \{nonsense\}"),
        ("{cite:p}`nobody1900`", r"toy\.md:14: citation key 'nobody1900'"),
        ("{eq}`eq-none`", r"toy\.md:14: reference to 'eq-none'"),
        ("[text](#none)", r"toy\.md:14: reference to 'none'"),
        ("{val}`none`", r"toy\.md:14: \{val\}`none`: no cell calls"),
        ("```{prf:theorem}\nx", r"toy\.md:14: the block .* never ends"),
        ("$$\nx", r"toy\.md:14: the equation that begins here never ends"),
        ("```{quiz} Q?\n- [x] A.\n  R.\n```", r"toy\.md:14: a quiz needs at least two"),
        (
            "```{quiz} Q?\n- [x] A.\n- [ ] B.\n  R.\n```",
            r"choice 'A\.' gives no reason",
        ),
        ("```{pitfall}\nx\n```", r"a pitfall needs a name"),
        ("```{pitfall} P\n**Wrong:** x\n```", r"lacks \*\*Right:\*\*, \*\*Damage"),
        ("{doc}`/book/none`", r"toy\.md:14: no page '/book/none'"),
    ],
)
def test_errors_name_file_and_line(tmp_path, body, message):
    with pytest.raises(convert.TextError, match=message):
        render(tmp_path, body)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (":tags: [shiny]\nx = 1", r"unknown tag 'shiny'"),
        ("---\nother: 1\n---\nx = 1", r"unknown cell metadata 'other'"),
        ("# set up: numpy", r"the first code cell is"),
    ],
)
def test_bad_cells_are_refused(tmp_path, cell, message):
    with pytest.raises(convert.TextError, match=message):
        book(tmp_path, f"```{{code-cell}} ipython3\n{cell}\n```")


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("", r"toy\.md:1: it lacks the front matter"),
        ("---\na: [1\n---\n", r"toy\.md:\d: broken front matter"),
        ("---\njust text\n---\n", r"must be a mapping"),
        (HEAD.replace("---\n\n", "rlbook:\n  drafty: 1\n---\n\n"), r"rlbook\.drafty"),
    ],
)
def test_broken_front_matter_is_refused(tmp_path, front, message):
    with pytest.raises(convert.TextError, match=message):
        book(tmp_path, "x", front=front)


def test_a_label_used_twice_is_refused(tmp_path):
    body = "```{prf:lemma}\n:label: l\nx\n```\n\n```{prf:lemma}\n:label: l\nx\n```"
    with pytest.raises(convert.TextError, match=r"toy\.md:19: label 'l' is used twice"):
        book(tmp_path, body)
