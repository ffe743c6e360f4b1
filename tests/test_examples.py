import numpy as np
import pytest

from rlbook_utils.page.examples import examples, table


def test_a_table_knows_its_inputs_alone():
    known = table([({"x": np.array([1.0, 2.0]), "n": 1}, "one")])
    assert known(x=np.array([1.0, 2.0]), n=1) == "one"
    with pytest.raises(LookupError, match="no value is known for"):
        known(x=np.array([1.0, 2.5]), n=1)


def test_examples_are_a_checker_on_given_values(capsys):
    pairs = [({"x": 1.0}, 2.0), ({"x": 3.0}, 6.0)]
    examples("double", lambda x: 2 * x, pairs)
    examples("double", lambda x: x * x, pairs)

    def stub(x): ...

    examples("double", stub, pairs)
    said = capsys.readouterr().out
    assert "double: right on 2 cases." in said
    assert "wrong on case 1 of 2" in said and "expected  2.0" in said
    assert "double: not attempted yet" in said
