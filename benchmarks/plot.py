"""Draws series over minutes as an SVG, one below the other, each from zero."""

import numpy as np

_LEFT, _WIDTH, _HEIGHT, _GAP, _TOP = 90, 780, 110, 60, 90


def draw(lines, minutes, series, warm_up):
    """Gives the SVG's text.

    Args:
      lines: of text above the panels.
      minutes: when each value was measured, from the start; the last is the axis's end.
      series: title to values, as many as `minutes`.
      warm_up: minutes to grey out.
    """
    height = _TOP + len(series) * (_HEIGHT + _GAP)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 900 {height}'>",
        "<style>text {font: 14px sans-serif; fill: #222}</style>",
        f"<rect width='900' height='{height}' fill='white'/>",
    ]
    parts += [_text(20, 24 + 20 * index, line) for index, line in enumerate(lines)]
    for index, (title, values) in enumerate(series.items()):
        base = _TOP + index * (_HEIGHT + _GAP) + _HEIGHT
        parts += _panel(base, title, minutes, values, warm_up)
    parts.append(_text(_LEFT + _WIDTH, height - 6, "minutes (grey: warming up)", "end"))
    return "\n".join([*parts, "</svg>", ""])


def _panel(base, title, minutes, values, warm_up):
    """Draws one series above the height `base`."""
    most = _round_up(max(values))

    def x(minute):
        return round(_LEFT + _WIDTH * minute / minutes[-1], 1)

    def y(value):
        return round(base - _HEIGHT * value / most, 1)

    yield f"<rect x='{_LEFT}' y='{y(most)}' width='{x(warm_up) - _LEFT:.1f}' height='{_HEIGHT}' fill='#eee'/>"
    yield _text(_LEFT, y(most) - 8, title)
    for value in (0, most / 2, most):
        yield f"<path d='M{_LEFT} {y(value)}h{_WIDTH}' stroke='#ccc'/>"
        yield _text(_LEFT - 8, y(value) + 5, f"{value:g}", "end")
    for minute in np.linspace(0, minutes[-1], 7):
        yield _text(x(minute), base + 18, f"{minute:.3g}", "middle")
    points = " ".join(f"{x(m)},{y(v)}" for m, v in zip(minutes, values, strict=True))
    yield f"<polyline points='{points}' fill='none' stroke='#0b62a4' stroke-width='1.5'/>"


def _text(x, y, text, anchor="start"):
    return f"<text x='{x}' y='{y}' text-anchor='{anchor}'>{text}</text>"


def _round_up(value):
    """Gives an even number above a value, of two leading digits, for the axis."""
    unit = 10 ** max(0, len(str(int(value))) - 2)
    return (int(value / unit / 2) + 1) * unit * 2
