import pytest

from rlbook_utils.page import claims


@pytest.fixture(autouse=True)
def chapter():
    claims.start("scratch")


def test_a_true_claim_prints_its_value_and_range(capsys):
    claims.check("half", 0.4999, 0.4, 0.6, says="Heads come up {value}.")
    assert capsys.readouterr().out == "claim scratch/half: 0.500 in [0.4, 0.6]\n"


@pytest.mark.parametrize("value", [0.39, 0.61])
def test_a_false_claim_stops_the_run_and_says_what_it_claimed(value):
    with pytest.raises(claims.ClaimError, match=r"half: 0\.\d+ is outside \[0\.4, 0"):
        claims.check("half", value, 0.4, 0.6, says="Heads come up {value}.")


def test_the_ends_of_the_range_belong_to_it(capsys):
    claims.check("low", 0.4, 0.4, 0.6, says="{value}")
    claims.check("high", 0.6, 0.4, 0.6, says="{value}")
    assert capsys.readouterr().out.count("claim ") == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (dict(value=float("nan")), r"claim scratch/x: value is nan"),
        (dict(high=float("inf")), r"claim scratch/x: high is inf"),
        (dict(low=2.0), r"range \[2\.0, 1\.0\] is empty"),
        (dict(id="Bad Id"), r"identifier 'Bad Id'"),
        (dict(says="no field"), r"does not show \{value\}"),
        (dict(says="{value} {other}"), r"names \['other'\]"),
    ],
)
def test_a_malformed_claim_is_refused_with_what_is_wrong(call, message):
    given = dict(id="x", value=0.5, low=0.0, high=1.0, says="{value}") | call
    with pytest.raises(ValueError, match=message):
        claims.check(**given)


def test_two_claims_with_one_id_are_refused_but_a_rerun_is_not(capsys):
    claims.check("x", 0.5, 0, 1, says="{value}")
    claims.check("x", 0.6, 0, 1, says="{value}")
    with pytest.raises(ValueError, match=r"'x' is used twice in chapter 'scratch'"):
        claims.check("x", 0.5, 0, 2, says="{value}")
    with pytest.raises(ValueError, match="used twice"):
        claims.value("x", 1.0)


def test_a_new_chapter_begins_with_no_claims(capsys):
    claims.check("x", 0.5, 0, 1, says="{value}")
    claims.start("other")
    claims.check("x", 0.5, 0, 2, says="{value}")
    assert "claim other/x: 0.500 in [0, 2]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("x", "spec", "text"),
    [
        (2000, ",d", "2,000"),
        (-0.0, ".1f", "0.0"),
        (-1.5, ".1f", "\u22121.5"),
        (0.1234, ".0%", "12%"),
        (-0.00001, ".2f", "0.00"),
    ],
)
def test_a_value_is_printed_in_its_format(capsys, x, spec, text):
    claims.value("runs", x, spec)
    assert capsys.readouterr().out == f"runs = {text}\n"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="value scratch/runs is (nan|inf)"):
        claims.value("runs", bad)


@pytest.mark.parametrize("bad", ["Bandits", "two words", ""])
def test_a_chapter_needs_a_plain_name(bad):
    with pytest.raises(ValueError, match="use lower-case letters"):
        claims.start(bad)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (12.3456, "12.3"),
        (-0.0, "0.00"),
        (1234567.0, "1.23e+06"),
        (123.0, "123"),
        (0.00012345, "0.000123"),
        (-1e-9, "-1.00e-09"),
    ],
)
def test_significant_digits(x, text):
    assert claims.significant(x) == text
