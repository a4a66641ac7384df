"""Uniqueness of XRec's published predictions (HKUDS/XRec, Apache-2.0, data/*/tst_pred.pkl; not in this repository), against the
values of an independent count.

    python3 xrec.py DIRECTORY_OF_XREC path/to/refract
"""

import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

WANTED = {"amazon": 1.0000, "google": 0.9993, "yelp": 1.0000}


class TextsOnly(pickle.Unpickler):
    """The files are lists of strings; anything else that a pickle could hold is refused."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"{module}.{name} is no text")


def lines(path):
    with open(path, "rb") as file:
        texts = TextsOnly(file).load()
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def main(directory, refract):
    missed = 0
    for name, wanted in WANTED.items():
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for kind in ("pred", "ref"):
                file = Path(folder, f"{kind}.jsonl")
                file.write_text(lines(Path(directory, "data", name, f"tst_{kind}.pkl")))
                files.append(str(file))
            command = [refract, "eval", "texts", "--json", "--predictions", files[0], "--references", files[1]]
            rows = map(json.loads, subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines())
        found = {row["name"]: row["value"] for row in rows}
        usr = next(value for key, value in found.items() if key.endswith("/usr"))
        holds = round(usr, 4) == wanted
        missed += not holds
        others = ", ".join(f"{key} {value:.4f}" for key, value in found.items() if not key.endswith("/usr"))
        print(f"{name}: USR {usr:.4f}, wanted {wanted:.4f}: {'holds' if holds else 'MISSED'} ({others})")
    sys.exit(bool(missed))


main(*sys.argv[1:])
