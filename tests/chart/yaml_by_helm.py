"""YAML in, Python out, by way of helm: no other parser need be installed, and it is the one that will be used."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

_TEMPLATE = """{{- range $path, $_ := .Files.Glob "docs/*" }}
---
doc: {{ $.Files.Get $path | fromYaml | toJson }}
{{- end }}
"""


def documents(text: str) -> list[str]:
    """The documents of a YAML stream, as texts, without empty ones."""
    found = re.split(r"^---[^\n]*\n", text, flags=re.M)
    return [doc for doc in found if any(line.strip() and not line.lstrip().startswith("#") for line in doc.splitlines())]


def load(texts: list[str]) -> list[dict]:
    """Each text is one document with a mapping at its top."""
    if not texts:
        return []
    with tempfile.TemporaryDirectory() as scratch:
        chart = Path(scratch)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: scratch\nversion: 0.0.0\n")
        for folder in ("docs", "templates"):
            (chart / folder).mkdir()
        (chart / "templates" / "docs.yaml").write_text(_TEMPLATE)
        for number, text in enumerate(texts):
            (chart / "docs" / f"{number:05}").write_text(text)
        done = subprocess.run(["helm", "template", "scratch", scratch], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"helm cannot read YAML: {done.stderr}")
    found = [json.loads(line[len("doc: ") :]) for line in done.stdout.splitlines() if line.startswith("doc: ")]
    if len(found) != len(texts):
        raise SystemExit(f"{len(texts)} documents went into helm and {len(found)} came out")
    for text, doc in zip(texts, found):
        if "Error" in doc and len(doc) == 1:
            raise SystemExit(f"not YAML: {doc['Error']}\n{text[:200]}")
    return found
