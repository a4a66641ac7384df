"""What was measured, for people and for programs, and as a chart."""

import json
import sys
from pathlib import Path


class Report:
    def __init__(self, as_json):
        self.as_json = as_json

    def say(self, name, value, unit, n, goal=None, at_most=False, spread=None, note=""):
        holds = None if goal is None else (value <= goal if at_most else value >= goal)
        if self.as_json:
            line = {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "holds": holds, "n": n}
            print(json.dumps(line | ({"spread": [round(s, 4) for s in spread]} if spread else {})), flush=True)
            return
        shown = f" [{spread[0]:.2f}, {spread[1]:.2f}]" if spread else ""
        against = "" if goal is None else f"   goal {'≤' if at_most else '≥'} {goal}: {'holds' if holds else 'MISSED'}"
        print(f"{name:<46} {value:>10.2f} {unit}{shown}{against}{note}", flush=True)


COLOURS = ["#2f6f4f", "#8fbf9f", "#b5532a", "#e0a880", "#54708c", "#a9bccf", "#8a8a8a"]


def chart(file, title, subtitle, names, groups, values, unit="{:.1f}"):
    """Bars of each of `names`, side by side, for each of `groups`; `values` by (name, group), what lacks is left out."""
    bar, gap, base, top = 26, 42, 330, 70
    width = max(860, 60 + len(groups) * (len(names) * bar + gap))
    tallest = max(values.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 420" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="420" fill="#ffffff"/>',
        f'<text x="20" y="28" font-size="17" font-weight="bold">{title}</text>',
        f'<text x="20" y="48" fill="#555">{subtitle}</text>',
    ]
    left = 30
    for group in groups:
        for i, name in enumerate(names):
            if (name, group) not in values:
                continue
            height = (base - top) * values[name, group] / tallest
            x, y = left + i * bar, base - height
            parts.append(
                f'<rect x="{x}" y="{y:.1f}" width="{bar - 3}" height="{height:.1f}" fill="{COLOURS[i % len(COLOURS)]}"/>'
                f'<text x="{x + bar / 2 - 1}" y="{y - 4:.1f}" font-size="9.5" text-anchor="middle">'
                f"{unit.format(values[name, group])}</text>"
            )
        middle = left + len(names) * bar / 2
        parts.append(f'<text x="{middle}" y="{base + 18}" text-anchor="middle">{group}</text>')
        left += len(names) * bar + gap
    across = 4
    for i, name in enumerate(names):
        x, y = 30 + (i % across) * (width - 60) // across, 368 + 20 * (i // across)
        parts.append(
            f'<rect x="{x}" y="{y}" width="12" height="12" fill="{COLOURS[i % len(COLOURS)]}"/>'
            f'<text x="{x + 17}" y="{y + 11}">{name}</text>'
        )
    Path(file).write_text("\n".join(parts) + "\n</svg>\n")
    print(f"    chart in {file}", file=sys.stderr)
