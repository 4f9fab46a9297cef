"""Hyper-parameters read, check and show values as TensorFlow 1.15's; expectations were recorded from it."""

import pytest

from tpuest.compat.hparams import HParams, parse_values


def make():
    return HParams(a=1, b=2.5, c="x", d=True, e=[1, 2, 3], g=["p", "q"], h=[1.5])


PARSED = [
    ("a=2", "a", 2),
    ("b=3", "b", 3.0),
    ("c=hello world", "c", "hello world"),
    ("d=false", "d", False),
    ("d=0", "d", False),
    ("e=[4,5]", "e", [4, 5]),
    ("g=[x,y z]", "g", ["x", "y", "z"]),
    ("h=[1,2.5]", "h", [1.0, 2.5]),
    ("b=1e-3,c=", "c", ""),
]
REFUSED = ["d=no", "a=1.5", "zz=1", "a=1,a=2", "e=3", "a=[1]", "a=", "b"]


@pytest.mark.parametrize(("text", "name", "expected"), PARSED)
def test_text_sets_a_value_of_the_parameters_type(text, name, expected):
    value = getattr(make().parse(text), name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("text", REFUSED)
def test_text_that_does_not_fit_is_refused(text):
    with pytest.raises(ValueError):
        make().parse(text)


def test_item_of_a_list_is_set_by_index():
    assert make().parse("e[1]=7").e == [1, 7, 3]


@pytest.mark.parametrize(("name", "value"), [("a", 3.0), ("c", 3), ("d", 1), ("a", [1]), ("e", 1)])
def test_value_of_another_type_is_refused(name, value):
    with pytest.raises(ValueError):
        make().set_hparam(name, value)


def test_shown_as_text_and_json():
    assert str(HParams(b="x", a=1)) == "a=1,b=x"
    assert repr(HParams(a=1)) == "HParams([('a', 1)])"
    assert HParams(a=1, f=None, l=[1]).to_json(sort_keys=True) == '{"a": 1, "f": null, "l": [1]}'


def test_taken_names_and_empty_lists_are_refused():
    for arguments in ({"values": 1}, {"x": []}):
        with pytest.raises(ValueError):
            HParams(**arguments)


def test_values_are_parsed_by_types():
    parsed = parse_values("a=1,b[2]=x,q=3", {"a": int, "b": str}, ignore_unknown=True)
    assert parsed == {"a": 1, "b": {2: "x"}}
