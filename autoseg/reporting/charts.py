"""What all figures share: colours, text that is drawn as it is, axes, and the way to a PNG."""

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AxisName = Literal["x", "y"]

# Okabe and Ito's palette, which colour-blind readers tell apart; black and grey are left out.
COLOURS = ("#D55E00", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#F0E442", "#0072B2")
GREY = "#8a8a8a"
LIGHT_GREY = "#d9d9d9"
DPI = 130
WIDTH_IN = 11.5
LOG_FROM_RATIO = 8.0  # values further apart than this are drawn on a log scale


def colour_of(order: int) -> str:
    """The colour of a class by its place among the classes; colours repeat."""
    return COLOURS[order % len(COLOURS)]


def new_figure(width_in: float, height_in: float) -> "Figure":
    """A figure that is laid out on its own, and that no window knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in))
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: "Figure", dpi: int = DPI) -> bytes:
    """Render a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png")
    return buffer.getvalue()


def drawable(text: str, otherwise: str, limit: int = 28) -> str:
    """A user's text as one short line for matplotlib, dollar signs included.

    `otherwise` stands in for text in a script that the font lacks, such as Chinese.
    """
    from matplotlib.font_manager import findfont, get_font

    line = " ".join(text.split())
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    if not line or any(ord(character) not in known for character in line):
        line = otherwise
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    return line.replace("$", r"\$")  # a pair of them would be read as a formula


def tidy(axes: "Axes", grid: Literal["x", "y", "both"]) -> None:
    """Take away what carries no information, and lay a faint grid below the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color=GREY)


def scale_axis(axes: "Axes", name: AxisName, low: float, high: float) -> None:
    """A linear axis from 0, or a log one where positive values lie far apart."""
    if low > 0 and high / low > LOG_FROM_RATIO:
        use_log(axes, name, low / 1.4, high * 1.4)
    else:
        axes.set(**{f"{name}lim": (0, 1.15 * high or 1)})


def use_log(axes: "Axes", name: AxisName, low: float, high: float) -> None:
    """A log axis with plain numbers; over few decades there are ticks at 2 and 5 too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,), numticks=9))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def plain_number(value: float) -> str:
    """Three significant digits; thousands are grouped, and millions shortened."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"
