"""Asks a Prometheus every query of a dashboard and draws its rows, one picture each. Imitates Grafana's layout, not its looks."""

import json
import math
import re
import urllib.parse
import urllib.request
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import dashboard  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator  # noqa: E402

DOCS = Path(__file__).parents[3] / "helm/refract/docs"
# Panels side by side, as in the dashboard.
WIDE = 4
TROUBLE, CALM = "#d9534f", "#9aa5b1"


def amount(unit: str):
    def text(value: float, _=None) -> str:
        if unit == "percentunit":
            return f"{100 * value:g} %"
        if unit == "s":
            return "0" if value == 0 else f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms" if value >= 0.001 else f"{1e6 * value:g} µs"
        if unit == "bytes":
            return f"{value / 2**20:g} MiB"
        return f"{value / 1000:g} k" if abs(value) >= 10000 else f"{value:g}"

    return FuncFormatter(text)


def ask(prometheus: str, query: str, begin: float, end: float, step: int) -> list[tuple[dict, list[float], list[float]]]:
    asked = urllib.parse.urlencode({"query": query, "start": begin, "end": end, "step": step})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{asked}", timeout=30) as answer:
        result = json.load(answer)["data"]["result"]
    found = []
    for series in result:
        points = [(float(at) - begin, float(value)) for at, value in series["values"]]
        found.append((series["metric"], [at for at, _ in points], [value if math.isfinite(value) else math.nan for _, value in points]))
    return found


def named(legend: str, labels: dict) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda m: labels.get(m[1], ""), legend).strip()


def dashboards(prometheus: str, acts: list[tuple[str, float, float]], scrape: int) -> None:
    begin, end = acts[0][1], acts[-1][2]
    rows: list[tuple[str, list[dict]]] = []
    for panel in dashboard.dashboard()["panels"]:
        if panel["type"] == "row":
            rows.append((panel["title"], []))
        else:
            rows[-1][1].append(panel)
    for title, panels in rows:
        high = -(-len(panels) // WIDE)
        figure, axes = plt.subplots(high, WIDE, figsize=(4.6 * WIDE, 2.9 * high), squeeze=False, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for ax, panel in zip(axes.flat, panels):
            draw(ax, panel, prometheus, begin, end, acts, scrape)
        name = re.sub(r"[^a-z]+", "-", title.lower()).strip("-")
        # A date in the file would make every run another file.
        figure.savefig(DOCS / f"dashboard-{name}.png", dpi=72, metadata={"Software": None})
        plt.close(figure)
        print(f"  helm/refract/docs/dashboard-{name}.png")


def draw(ax, panel: dict, prometheus: str, begin: float, end: float, acts: list, scrape: int) -> None:
    drawn = 0
    for target in panel["targets"]:
        query = target["expr"].replace("$namespace", "refract").replace("$release", "refract").replace("$__rate_interval", f"{4 * scrape}s")
        for labels, at, values in ask(prometheus, query, begin, end, scrape):
            ax.plot(at, values, linewidth=1.1, label=named(target["legendFormat"], labels))
            drawn += 1
    for name, since, until in acts:
        calm = name in ("usual", "remembered")
        if not calm:
            ax.axvspan(since - begin, until - begin, color=TROUBLE if name.startswith("no ") else CALM, alpha=0.13, linewidth=0)
            ax.text((since + until) / 2 - begin, 1.0, name, transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=6, color="#555555")
    ax.set_title(panel["title"], loc="left", fontsize=9, pad=11)
    ax.set_xlim(0, end - begin)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(amount(panel["fieldConfig"]["defaults"]["unit"]))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at // 60:.0f}:{at % 60:02.0f}"))
    ax.xaxis.set_major_locator(MultipleLocator(60))
    ax.tick_params(labelsize=7)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if drawn:
        ax.legend(fontsize=6, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    else:
        ax.text(0.5, 0.5, "nothing happened", transform=ax.transAxes, ha="center", fontsize=8, color="#999999")
