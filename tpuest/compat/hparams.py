"""`tf.contrib.training.HParams`: a program's hyper-parameters, by name and of fixed types.

    hparams = HParams(learning_rate=0.1, num_layers=2, sizes=[128, 64])
    hparams.parse("learning_rate=0.2,sizes[1]=32")
    hparams.learning_rate                                      # 0.2

Behaves as TensorFlow 1.15's, whose `HParamDef` protocol buffer isn't carried.
"""

from __future__ import annotations

import json
import numbers
import re
from collections.abc import Iterable
from typing import Any

_ASSIGNMENT = re.compile(
    r"""
    (?P<name>[a-zA-Z][\w\.]*)      # variable name: 'var' or 'x'
    (\[\s*(?P<index>\d+)\s*\])?    # (optional) index: '1' or None
    \s*=\s*
    ((?P<value>[^,\[]*)            # single value: 'a' or None
     |
     \[(?P<values>[^\]]*)\])       # list of values: None or '1,2,3'
    ($|,\s*)
    """,
    re.VERBOSE,
)
_PLAIN_KINDS = (numbers.Number, str, bytes, type(None))


class HParams:
    """Hyper-parameters as attributes; a parameter keeps the type of its first value."""

    _HAS_DYNAMIC_ATTRIBUTES = True

    def __init__(self, hparam_def: Any = None, model_structure: Any = None, **kwargs: Any):
        """Makes parameters of keyword arguments.

        Args:
          hparam_def: not carried.
          model_structure: any object, kept.
          **kwargs: names and first values: numbers, strings, booleans, or lists of one kind.

        Raises:
          ValueError: `hparam_def` is given, a name is taken, or a list is empty.
        """
        if hparam_def is not None:
            raise ValueError(
                "hparam_def isn't supported by tpuest: pass the values as keyword arguments."
            )
        self._hparam_types: dict[str, tuple[type, bool]] = {}
        self._model_structure = model_structure
        for name, value in kwargs.items():
            self.add_hparam(name, value)

    def add_hparam(self, name: str, value: Any) -> None:
        """Adds a parameter.

        Raises:
          ValueError: the name is taken, or the value an empty list.
        """
        if getattr(self, name, None) is not None:
            raise ValueError(f"Hyperparameter name is reserved: {name}")
        is_list = isinstance(value, (list, tuple))
        if is_list and not value:
            raise ValueError(f"Multi-valued hyperparameters cannot be empty: {name}")
        self._hparam_types[name] = (type(value[0] if is_list else value), is_list)
        setattr(self, name, value)

    def set_hparam(self, name: str, value: Any) -> None:
        """Gives a parameter a value of its type.

        Raises:
          KeyError: there is no such parameter.
          ValueError: the value is a list and the parameter isn't one, or the reverse.
        """
        kind, is_list = self._hparam_types[name]
        if isinstance(value, list):
            if not is_list:
                raise ValueError(f"Must not pass a list for single-valued parameter: {name}")
            setattr(self, name, [_cast(name, kind, one) for one in value])
        elif is_list:
            raise ValueError(f"Must pass a list for multi-valued parameter: {name}.")
        else:
            setattr(self, name, _cast(name, kind, value))

    def del_hparam(self, name: str) -> None:
        """Takes a parameter away, if there is one."""
        if hasattr(self, name):
            delattr(self, name)
            del self._hparam_types[name]

    def parse(self, values: str) -> HParams:
        """Sets parameters from 'name=value,name=[v1,v2],name[1]=v'.

        Raises:
          ValueError: the text can't be read, or a value has the wrong type.
        """
        kinds = {name: kind for name, (kind, _) in self._hparam_types.items()}
        return self.override_from_dict(parse_values(values, kinds))

    def override_from_dict(self, values_dict: dict) -> HParams:
        """Sets parameters; a value `{index: v}` sets items of a list."""
        for name, value in values_dict.items():
            if isinstance(value, dict):
                items = list(getattr(self, name))
                for index, item in value.items():
                    items[index] = item
                value = items
            self.set_hparam(name, value)
        return self

    def set_model_structure(self, model_structure: Any) -> None:
        self._model_structure = model_structure

    def get_model_structure(self) -> Any:
        return self._model_structure

    def to_json(self, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
        """Writes the parameters as JSON, functions left out."""
        plain = {
            name: value if isinstance(value, (list, *_PLAIN_KINDS)) else repr(value)
            for name, value in self.values().items()
            if not callable(value)
        }
        return json.dumps(plain, indent=indent, separators=separators, sort_keys=sort_keys)

    def parse_json(self, values_json: str) -> HParams:
        """Sets parameters from JSON."""
        return self.override_from_dict(json.loads(values_json))

    def values(self) -> dict[str, Any]:
        """Gives names and values."""
        return {name: getattr(self, name) for name in self._hparam_types}

    def get(self, key: str, default: Any = None) -> Any:
        """Gives a parameter, or `default` if there is none.

        Raises:
          ValueError: `default` isn't of the parameter's type.
        """
        if key not in self._hparam_types:
            return default
        kind, is_list = self._hparam_types[key]
        if default is not None:
            if is_list != isinstance(default, list):
                raise ValueError(f"Default value must {'' if is_list else 'not '}be a list: {key}")
            _check_default(key, kind, default)
        return getattr(self, key)

    def __contains__(self, key: str) -> bool:
        return key in self._hparam_types

    def __str__(self) -> str:
        values = self.values()
        return ",".join(f"{name}={values[name]!s}" for name in sorted(values))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self.values().items())})"


def _check_default(key: str, kind: type, default: Any) -> None:
    try:
        for one in default if isinstance(default, list) else [default]:
            _cast(key, kind, one)
    except ValueError as error:
        raise ValueError(f"{error}\nIncompatible default value for {key}.") from error


def parse_values(values: str, type_map: dict[str, type], ignore_unknown: bool = False) -> dict:
    """Reads 'name=value,name=[v1,v2],name[1]=v'.

    Args:
      values: the text.
      type_map: name to the type of its values.
      ignore_unknown: whether names without a type are left out, not an error.

    Returns:
      Name to value, list, or `{index: value}`.

    Raises:
      ValueError: the text can't be read, a name is unknown or set twice, or a value has the wrong type.
    """
    found: dict[str, Any] = {}
    position = 0
    while position < len(values):
        match = _ASSIGNMENT.match(values, position)
        if match is None:
            raise ValueError(f"Malformed hyperparameter value: {values[position:]}")
        position = match.end()
        name = match["name"].strip()
        if name not in type_map:
            if ignore_unknown:
                continue
            raise ValueError(f"Unknown hyperparameter type for {name}")
        _take(found, match, name, type_map[name], values)
    return found


def _take(found: dict, match: re.Match, name: str, kind: type, values: str) -> None:
    if match["index"] is not None:
        if match["values"] is not None:
            raise ValueError(f"Could not parse hparam {name!r} in {values!r}: a list for one item")
        items = found.setdefault(name, {})
        index = int(match["index"])
        if not isinstance(items, dict) or index in items:
            raise ValueError(f"Multiple assignments to variable {name!r} in {values!r}")
        items[index] = _read(name, kind, match["value"], values)
        return
    if name in found:
        raise ValueError(f"Multiple assignments to variable {name!r} in {values!r}")
    if match["value"] is not None:
        found[name] = _read(name, kind, match["value"], values)
    else:
        parts: Iterable[str] = filter(None, re.split("[ ,]", match["values"]))
        found[name] = [_read(name, kind, part, values) for part in parts]


def _read(name: str, kind: type, text: str, values: str) -> Any:
    text = text.strip()
    failure = ValueError(
        f"Could not parse hparam {name!r} of type {kind.__name__!r} with value {text!r} in {values}"
    )
    if kind is bool:
        if text in ("true", "True"):
            return True
        if text in ("false", "False"):
            return False
        try:
            return bool(int(text))
        except ValueError:
            raise failure from None
    try:
        return kind(text)
    except (ValueError, TypeError):
        raise failure from None


def _cast(name: str, kind: type, value: Any) -> Any:
    """Gives a value of a parameter's type.

    Raises:
      ValueError: it would change the value.
    """
    failure = ValueError(f"Could not cast hparam {name!r} of type '{kind}' from value {value!r}")
    if kind is type(None) or value is None:
        return value
    if issubclass(kind, (str, bytes)) != isinstance(value, (str, bytes)):
        raise failure
    if issubclass(kind, bool) != isinstance(value, bool):
        raise failure
    if issubclass(kind, numbers.Integral) and not isinstance(value, numbers.Integral):
        raise failure
    if issubclass(kind, numbers.Number) and not isinstance(value, numbers.Number):
        raise failure
    return kind(value)
