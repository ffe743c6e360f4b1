import pytest
from nbval_rules import Tolerant, same, tolerance


def test_untagged_output_is_compared_to_the_letter():
    assert same("mean 1.234", "mean 1.234", None)
    assert not same("mean 1.234", "mean 1.235", None)
    assert not same("a\nb", "a", None)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["nbval-tol=0.03"], (0.03, 0.0)),
        (["hide-input", "nbval-tol=1e-3:0.5"], (1e-3, 0.5)),
        (["hide-input"], None),
    ],
)
def test_tolerance_is_read_from_the_tags(tags, expected):
    assert tolerance(tags) == expected


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        ("mean 1.26 of 2,000", True),
        ("mean 1.40 of 2,000", False),
        ("mean \u22121.26 of 2,000", False),
        ("median 1.26 of 2,000", False),
        ("mean 1.26 of 2,000 x", False),
    ],
)
def test_tagged_output_is_compared_by_its_numbers_and_words(other, equal):
    assert same("mean 1.25 of 2,000", other, (0.03, 0.0)) is equal


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        ("claim td/x: 2.9 in [1, 3]", True),
        ("claim td/x: 3.2 in [1, 3]", False),
        ("claim td/x: 2.9 in [1, 4]", False),
        ("claim td/x: 2.9 in [0, 3]", False),
        ("claim td/y: 2.9 in [1, 3]", False),
    ],
)
def test_a_claim_is_compared_by_its_range(other, equal):
    assert same("claim td/x: 1.1 in [1, 3]", other, None) is equal


def test_a_stored_claim_outside_its_range_fails():
    assert not same("claim td/x: 9.9 in [1, 3]", "claim td/x: 1.1 in [1, 3]", None)


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        ("fig: 2 curves x 500, mean 1.001 2.000, last 3.000 4.000", True),
        ("fig: 2 curves x 500, mean 1.004 2.000, last 3.000 4.000", False),
        ("fig: 2 curves x 501, mean 1.000 2.000, last 3.000 4.000", False),
        ("fig: 3 curves x 500, mean 1.000 2.000, last 3.000 4.000", False),
        ("gif: 2 curves x 500, mean 1.000 2.000, last 3.000 4.000", False),
    ],
)
def test_a_digest_has_a_tolerance_of_its_own(other, equal):
    stored = "fig: 2 curves x 500, mean 1.000 2.000, last 3.000 4.000"
    assert same(stored, other, None) is equal


def test_counts_in_a_digest_are_exact_even_with_a_wide_tag():
    stored = "fig: 2 curves x 500, mean 1.000 2.000, last 3.000 4.000 (n=200)"
    assert not same(stored, stored.replace("n=200", "n=201"), (0.5, 0.0))
    assert same(stored, stored.replace("3.000", "3.900"), (0.5, 0.0))


def test_the_text_type_compares_with_its_tolerance():
    a, b = Tolerant("x = 1.00"), Tolerant("x = 1.01")
    assert a != b
    a.tol = b.tol = (0.02, 0.0)
    assert a == b
    assert a == "x = 1.01"
