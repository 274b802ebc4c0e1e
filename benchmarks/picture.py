"""The results as one picture: CPU per transaction of every proxy, a panel for each script."""

from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from benchmarks.results import Results

_COLOURS: Final = {
    "direct": "#9e9e9e",
    "PgBouncer": "#4c78a8",
    "Pgpool-II": "#e45756",
    "Odyssey": "#f2b447",
    "pgproxy": "#2f7d4f",
}
_PANELS: Final = {"read-only": "read-only (pgbench -S)", "tpcb": "TPC-B-like"}
_BARS_WIDTH = 0.8  # of the distance between two groups
_HEIGHT = 3.6  # inches, of one panel


def draw(results: Results, path: Path) -> bool:
    """Writes the picture in the format of the path's suffix; False if there is nothing to show."""
    panels = {
        script: [cell for cell in results.cells() if cell.startswith(script + "/")]
        for script in _PANELS
    }
    panels = {script: cells for script, cells in panels.items() if cells}
    proxies = [peer for peer in results.measured() if peer != "direct"]
    if not panels or not proxies:
        return False
    widest = max(map(len, panels.values()))
    figure = Figure(
        layout="constrained", figsize=(max(6.0, 1.25 * widest + 1.5), _HEIGHT * len(panels))
    )
    axes = figure.subplots(len(panels), 1, squeeze=False)
    for axis, (script, cells) in zip(axes[:, 0], panels.items(), strict=True):
        width = _BARS_WIDTH / len(proxies)
        for index, proxy in enumerate(proxies):
            values = [results.value(cell, proxy, "cpu_us") or 0.0 for cell in cells]
            places = [
                group + (index + 0.5) * width - _BARS_WIDTH / 2 for group in range(len(cells))
            ]
            bars = axis.bar(places, values, width, label=proxy, color=_COLOURS.get(proxy))
            axis.bar_label(bars, [f"{value:.0f}" if value else "" for value in values], fontsize=7)
        axis.set_xticks(range(len(cells)), [_label(cell) for cell in cells], fontsize=8)
        axis.set_ylabel("us")
        axis.set_title(_PANELS[script], fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.suptitle("CPU of the proxy's processes per transaction (less is better)")
    figure.legend(handles, labels, loc="outside lower center", ncols=len(proxies), frameon=False)
    figure.savefig(path, dpi=110)
    return True


def _label(cell: str) -> str:
    _, mode, clients = cell.split("/")
    return f"{mode}\n{clients} client{'s' if clients != '1' else ''}"
