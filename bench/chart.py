"""Line and bar charts as SVG text, with nothing but the standard library; the same figures give the same text."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 40, 50
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")


def short(value):
    """1000000 as 1M, 0.5 as 0.5."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


class Axis:
    """Values to pixels; log: decades, with 0 standing one decade below the smallest value above it."""

    def __init__(self, values, low, high, log=False):
        self.low, self.high, self.log = low, high, log
        above = [v for v in values if v > 0]
        self.zero = min(above, default=1) / 10
        ends = [self.position(v) for v in values] or [0]
        self.first, self.last = min(ends), max(ends)
        if self.first == self.last:
            self.last += 1

    def position(self, value):
        return math.log10(max(value, self.zero)) if self.log else value

    def pixel(self, value):
        return self.low + (self.position(value) - self.first) / (self.last - self.first) * (self.high - self.low)


def text(x, y, words, anchor="middle", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def ticks_of(top, count=5):
    """Round numbers from 0 to about top."""
    step = 10 ** math.floor(math.log10(top / count or 1))
    step *= next(m for m in (1, 2, 5, 10) if top / (step * m) <= count)
    return [i * step for i in range(int(top / step + 1e-9) + 1)]


def line(points, x, y, color):
    path = " ".join(f"{x.pixel(a):.1f},{y.pixel(b):.1f}" for a, b in points)
    dots = "".join(f'<circle cx="{x.pixel(a):.1f}" cy="{y.pixel(b):.1f}" r="3" fill="{color}"/>' for a, b in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>{dots}'


def chart(title, x_label, y_label, series, band=None, log_x=True):
    """series: {name: [(x, y)]}; band: (low, high), shaded. The y axis begins at 0."""
    xs = sorted({a for points in series.values() for a, _ in points})
    top = max([b for points in series.values() for _, b in points] + list(band or [])) * 1.1 or 1
    x, y = Axis(xs, LEFT, WIDTH - RIGHT, log_x), Axis([0, top], HEIGHT - BOTTOM, TOP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', text(WIDTH / 2, 22, title, extra=' font-size="15"')]
    if band:
        low, high = y.pixel(band[0]), y.pixel(band[1])
        out.append(f'<rect x="{LEFT}" y="{high:.1f}" width="{WIDTH - LEFT - RIGHT}" height="{low - high:.1f}" fill="#e8f4e8"/>')
    for value in ticks_of(top):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.pixel(value):.1f}" y2="{y.pixel(value):.1f}" stroke="#dddddd"/>')
        out.append(text(LEFT - 6, y.pixel(value) + 4, short(value), "end"))
    out += [text(x.pixel(value), HEIGHT - BOTTOM + 18, short(value)) for value in xs]
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label))
    out.append(text(16, HEIGHT / 2, y_label, extra=f' transform="rotate(-90 16 {HEIGHT / 2:.0f})"'))
    for number, (name, points) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        out.append(line(sorted(points), x, y, color))
        out.append(text(WIDTH - RIGHT + 12, TOP + 14 + 18 * number, name, "start", f' fill="{color}"'))
    return "\n".join([*out, "</svg>", ""])


def bar(x, width, y, spread, color):
    """From 0 to the median, with a whisker from minimum to maximum."""
    low, median, high = (y.pixel(value) for value in spread)
    middle = x + width / 2
    return (f'<rect x="{x:.1f}" y="{median:.1f}" width="{width:.1f}" height="{HEIGHT - BOTTOM - median:.1f}" fill="{color}"/>'
            f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="black"/>')


def decades_of(axis):
    return [10.0 ** n for n in range(math.ceil(axis.first), math.floor(axis.last) + 1)]


def bars(title, y_label, series, goal=None, log_y=False):
    """series: {name: {group: (min, median, max)}}; groups stand side by side in the order they are first met. goal: a dashed line."""
    groups = list(dict.fromkeys(group for found in series.values() for group in found))
    values = [value for found in series.values() for spread in found.values() for value in spread]
    y = Axis([0, max([*values, goal or 0]) * 1.1 or 1] + (values if log_y else []), HEIGHT - BOTTOM, TOP, log_y)
    room = (WIDTH - LEFT - RIGHT) / len(groups)
    width = room * 0.8 / len(series)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', text(WIDTH / 2, 22, title, extra=' font-size="15"')]
    for value in decades_of(y) if log_y else ticks_of(y.last):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.pixel(value):.1f}" y2="{y.pixel(value):.1f}" stroke="#dddddd"/>')
        out.append(text(LEFT - 6, y.pixel(value) + 4, short(round(value, 6)), "end"))
    for number, (name, found) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        for group, spread in found.items():
            out.append(bar(LEFT + room * (groups.index(group) + 0.1) + number * width, width * 0.95, y, spread, color))
        out.append(text(WIDTH - RIGHT + 12, TOP + 14 + 18 * number, name, "start", f' fill="{color}"'))
    if goal:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.pixel(goal):.1f}" y2="{y.pixel(goal):.1f}" stroke="black" '
                   'stroke-dasharray="6 4"/>')
        out.append(text(WIDTH - RIGHT + 12, y.pixel(goal) + 4, f"goal {goal:g}", "start"))
    out += [text(LEFT + room * (number + 0.5), HEIGHT - BOTTOM + 18, group, extra=' font-size="11"') for number, group in enumerate(groups)]
    out.append(text(16, HEIGHT / 2, y_label, extra=f' transform="rotate(-90 16 {HEIGHT / 2:.0f})"'))
    return "\n".join([*out, "</svg>", ""])
