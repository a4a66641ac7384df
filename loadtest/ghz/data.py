"""Call data for the scenarios, drawn by a seed from a data set in Refract's format: the same bytes every time.

| kind | who asks |
|---|---|
| uniform | users of the data set, each as likely |
| zipf | the same, the n-th most frequent one with weight 1/n^1.1 |
| warm | sixteen users, in turn |
| cold | nobody twice: histories made up of catalogue items, so that no answer can be remembered |
"""

import bisect
import csv
import itertools
import json
import random
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "services/refract/demo/data"
CALLS = 2000
KINDS = ("uniform", "zipf", "warm", "cold")
ZIPF_EXPONENT = 1.1
# A fixed day, so that the bytes do not depend on today.
NEWEST_UNIX_S = 1_735_689_600


def users(data: Path) -> list[str]:
    with (data / "interactions.csv").open(newline="", encoding="utf-8") as file:
        return sorted({row["user_id"] for row in csv.DictReader(file)})


def items(data: Path) -> list[str]:
    with (data / "items.jsonl").open(encoding="utf-8") as file:
        return sorted(json.loads(line)["id"] for line in file if line.strip())


def calls(kind: str, data: Path = DEMO, seed: int = 42, limit: int = 3) -> list[dict]:
    draw = random.Random(f"{kind}-{seed}")
    if kind == "cold":
        subjects = list(_strangers(draw, items(data)))
    else:
        people = users(data)
        draw.shuffle(people)
        if kind == "zipf":
            upto = list(itertools.accumulate(1 / n**ZIPF_EXPONENT for n in range(1, len(people) + 1)))
            chosen = [people[bisect.bisect(upto, draw.random() * upto[-1], hi=len(people) - 1)] for _ in range(CALLS)]
        elif kind == "warm":
            chosen = people[:16]
        else:
            chosen = [draw.choice(people) for _ in range(CALLS)]
        subjects = [{"user_id": user} for user in chosen]
    return [{"rank": {"subject": subject, "limit": limit}} for subject in subjects]


def _strangers(draw: random.Random, catalogue: list[str]):
    for _ in range(CALLS):
        had = draw.sample(catalogue, min(draw.randint(5, 20), len(catalogue)))
        yield {
            "history": {
                "interactions": [
                    # 64-bit numbers are text in protobuf's JSON.
                    {"item": {"id": item}, "time_unix_s": str(NEWEST_UNIX_S - draw.randrange(86_400 * 365)), "signal": "SIGNAL_LIKED"}
                    for item in had
                ]
            }
        }


def write(kind: str, path: Path, **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(calls(kind, **how)))
