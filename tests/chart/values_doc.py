"""From the annotated values.yaml to values.schema.json and the README's table.

Each key's comment is its manual. A line `# @…` says what may be written; without one, the default's own type holds:

  @integer >= N | @one of a, b | @duration | @quantity | @url | @digest | @sha256 | @resource name | @count or percent or null
  @strings | @labels | @objects | @overrides | @k8s NAME (K8S below) | @config SECTION (read from the Rust sources)

Every object of the schema is closed. The one thing that anybody may shape is an entry of `extraObjects`.
"""

import json
import re
from pathlib import Path

import rust_config
import yaml_by_helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/refract"

# The same keys thrice; a manual may be written at the first that has one.
ROLES = ("ranker", "oracle", "prism")

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
FLAG = {"type": "boolean"}
STRINGS = {"type": "array", "items": TEXT}
LABELS = {"type": "object", "additionalProperties": TEXT}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d) ?)+$"}
URL = {"type": "string", "pattern": "^(https?://[^/]+.*)?$"}
QUANTITY = {"type": ["string", "integer"], "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}


def closed(required=(), /, **keys):
    schema = {"type": "object", "additionalProperties": False, "properties": keys}
    return schema | ({"required": list(required)} if required else {})


def listed(items):
    return {"type": "array", "items": items}


EXPRESSION = closed(
    ["key", "operator"],
    key=TEXT,
    operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]},
    values=STRINGS,
)
SELECTOR = closed(matchLabels=LABELS, matchExpressions=listed(EXPRESSION))
NODE_TERM = closed(matchExpressions=listed(EXPRESSION), matchFields=listed(EXPRESSION))
POD_TERM = closed(
    ["topologyKey"],
    topologyKey=TEXT,
    labelSelector=SELECTOR,
    matchLabelKeys=STRINGS,
    mismatchLabelKeys=STRINGS,
    namespaces=STRINGS,
    namespaceSelector=SELECTOR,
)
WEIGHT = {"type": "integer", "minimum": 1, "maximum": 100}
POD_TERMS = closed(
    requiredDuringSchedulingIgnoredDuringExecution=listed(POD_TERM),
    preferredDuringSchedulingIgnoredDuringExecution=listed(closed(["weight"], weight=WEIGHT, podAffinityTerm=POD_TERM)),
)
AMOUNTS = {"type": "object", "additionalProperties": QUANTITY}
KEY_OF = closed(["name", "key"], name=TEXT, key=TEXT, optional=FLAG)
PEERS = listed(
    closed(
        podSelector=SELECTOR,
        namespaceSelector=SELECTOR,
        ipBlock=closed(["cidr"], cidr=TEXT, **{"except": STRINGS}),
    )
    | {"minProperties": 1}
)
PORTS = listed(
    closed(
        port={"type": ["integer", "string"]},
        endPort=WHOLE,
        protocol={"enum": ["TCP", "UDP", "SCTP"]},
    )
)
K8S = {
    "resources": closed(
        requests=AMOUNTS, limits=AMOUNTS, claims=listed(closed(["name"], name=TEXT, request=TEXT))
    ),
    "affinity": closed(
        nodeAffinity=closed(
            requiredDuringSchedulingIgnoredDuringExecution=closed(["nodeSelectorTerms"], nodeSelectorTerms=listed(NODE_TERM)),
            preferredDuringSchedulingIgnoredDuringExecution=listed(closed(["weight"], weight=WEIGHT, preference=NODE_TERM)),
        ),
        podAffinity=POD_TERMS,
        podAntiAffinity=POD_TERMS,
    ),
    "tolerations": listed(
        closed(
            key=TEXT,
            operator={"enum": ["Exists", "Equal"]},
            value=TEXT,
            effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            tolerationSeconds=WHOLE,
        )
    ),
    "env": listed(
        closed(
            ["name"],
            name=TEXT,
            value=TEXT,
            valueFrom=closed(
                secretKeyRef=KEY_OF,
                configMapKeyRef=KEY_OF,
                fieldRef=closed(["fieldPath"], fieldPath=TEXT, apiVersion=TEXT),
                resourceFieldRef=closed(["resource"], resource=TEXT, containerName=TEXT, divisor=QUANTITY),
            ),
        )
    ),
    "peers": PEERS,
    "ingress rules": listed(closed(**{"from": PEERS}, ports=PORTS)),
    "egress rules": listed(closed(to=PEERS, ports=PORTS)),
    "relabelings": listed(
        closed(
            sourceLabels=STRINGS,
            separator=TEXT,
            targetLabel=TEXT,
            regex=TEXT,
            modulus=WHOLE,
            replacement=TEXT,
            action=TEXT,
        )
    ),
}
# Decided by the chart from other values: not to be set twice.
OWNED = {
    "ranker.listen.address", "ranker.process.admin.address", "ranker.process.drain", "ranker.process.warm_up_max",
    "oracle.listen.address", "oracle.process.admin.address", "oracle.process.drain", "oracle.process.warm_up_max",
    "prism.listen.address", "prism.process.admin.address", "prism.process.drain", "prism.process.warm_up_max",
    "ranker.listen.tls", "oracle.listen.tls", "prism.listen.tls", "ranker.callers.file", "oracle.callers.file", "prism.callers.file",
    "ranker.knowledge.redis.ca_file", "ranker.knowledge.redis.cert_file", "ranker.knowledge.redis.key_file",
    "ranker.data", "ranker.model", "ranker.knowledge.store", "ranker.knowledge.secret", "ranker.knowledge.secret_file",
    "ranker.knowledge.redis.url", "ranker.knowledge.redis.url_file", "oracle.worker.bundle", "prism.worker.bundle",
    "ranker.knowledge.redis.mode", "ranker.knowledge.redis.seeds", "ranker.knowledge.redis.sentinel_master",
    "ranker.knowledge.redis.sentinel_credential", "ranker.knowledge.redis.sentinel_credential_file",
    "oracle.worker.devices", "oracle.worker.tensor_parallel", "prism.worker.devices", "prism.worker.tensor_parallel",
}  # fmt: skip


def from_rust(path: str, key: rust_config.Key) -> dict:
    schema = {
        "string": TEXT,
        "duration": DURATION,
        "boolean": FLAG,
        "number": {"type": "number"},
        "integer": {"type": "integer", "minimum": 0},
        "choice": {"enum": key.choices},
    }.get(key.kind)
    if path == "telemetry.otlp_endpoint":
        schema = URL
    if key.kind == "list":
        schema = listed(from_rust(f"{path}[]", key.keys["[]"]))
    if schema is None:
        keys = {name: from_rust(f"{path}.{name}", sub) for name, sub in key.keys.items() if f"{path}.{name}" not in OWNED}
        schema = closed(**keys)
    return schema | ({"description": key.doc} if key.doc else {})


def from_annotation(text: str, rust: dict) -> dict:
    word, _, rest = text.partition(" ")
    simple = {
        "duration": DURATION,
        "quantity": QUANTITY,
        "strings": STRINGS,
        "labels": LABELS,
        "url": URL,
        "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
        "sha256": {"type": "string", "pattern": "^([0-9a-f]{64})?$"},
        "objects": listed({"type": "object", "required": ["apiVersion", "kind"]}),
        "resource name": {"type": "string", "pattern": "^[a-z0-9.-]+/[A-Za-z0-9._-]+$"},
        "count or percent or null": {
            "oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+%$"}, {"type": "null"}]
        },
        "overrides": {
            "type": "object",
            "additionalProperties": closed(
                **{"for": DURATION, "severity": {"enum": ["critical", "warning", "info"]}}
            ),
        },
    }
    if text in simple:
        return simple[text]
    if text.startswith("one of "):
        return {"enum": [choice.strip() for choice in text[len("one of ") :].split(",")]}
    if bound := re.fullmatch(r"integer >= (\d+)", text):
        return {"type": "integer", "minimum": int(bound[1])}
    if word == "k8s" and rest in K8S:
        return K8S[rest]
    if word == "config" and rest in rust:
        return from_rust(rest, rust[rest])
    raise SystemExit(f"values.yaml: nobody knows what `@{text}` means (tests/chart/values_doc.py)")


def comments(text: str) -> dict[str, tuple[str, str]]:
    """For each key's path: its manual and its annotation."""
    found, stack, manual, annotation = {}, [], [], ""
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            manual, annotation = [], ""
        elif stripped.startswith("# @"):
            annotation = stripped[3:]
        elif stripped.startswith("#"):
            manual.append(stripped[1:].strip())
        elif key := re.match(r"( *)([\w-]+):", line):
            depth = len(key[1]) // 2
            stack = stack[:depth] + [key[2]]
            found[".".join(stack)] = (" ".join(manual), annotation)
            manual, annotation = [], ""
        else:
            manual, annotation = [], ""
    return found


class Documented:
    """values.yaml, read."""

    def __init__(self, text: str = ""):
        text = text or (CHART / "values.yaml").read_text()
        self.defaults = yaml_by_helm.load([text])[0]
        self.comments = comments(text)
        self.rust = rust_config.read(ROOT)
        self.rows = []

    def schema(self) -> dict:
        top = self._of("", self.defaults)
        # Helm puts these two there by itself when the chart is a dependency of another.
        top["properties"]["global"] = {"type": "object", "description": "Helm's own; Refract reads nothing of it."}
        return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of Refract's chart"} | top

    def _of(self, path: str, value) -> dict:
        manual, annotation = self.comments.get(path, ("", ""))
        if annotation:
            schema = from_annotation(annotation, self.rust)
        elif isinstance(value, dict) and value:
            keys = {name: self._of(f"{path}.{name}".lstrip("."), sub) for name, sub in value.items()}
            return closed(**keys) | ({"description": manual} if manual and path else {})
        elif isinstance(value, bool):
            schema = FLAG
        elif isinstance(value, int):
            schema = WHOLE
        elif isinstance(value, str):
            schema = TEXT
        else:
            raise SystemExit(f"values.yaml: {path} has no type of its own: put `# @…` above it")
        manual = manual or self._of_another_role(path)
        if not manual:
            raise SystemExit(f"values.yaml: {path} has no comment; only below a role may one be left out, where another role has that key and a comment")
        self.rows.append((path, value, manual))
        return schema | ({"description": manual} if manual else {})

    def _of_another_role(self, path: str) -> str:
        """What the same key of another role says. A key of the same name elsewhere is another thing, and says nothing of this one."""
        role, _, key = path.partition(".")
        others = [self.comments.get(f"{other}.{key}", ("", ""))[0] for other in ROLES] if role in ROLES else []
        return next(filter(None, others), "")

    def table(self) -> str:
        self.rows.clear()
        self.schema()
        lines = ["| key | default | meaning |", "|---|---|---|"]
        order = list(self.comments)
        for path, value, manual in sorted(self.rows, key=lambda row: order.index(row[0])):
            lines.append(f"| `{path}` | `{json.dumps(value, ensure_ascii=False)}` | {manual.replace('|', chr(92) + '|')} |")
        return "\n".join(lines)


def generated() -> dict[Path, str]:
    """Each file that is made here, and what should be in it."""
    documented = Documented()
    readme = (CHART / "README.md").read_text()
    begin, end = "<!-- values: made by tests/chart/run --update -->", "<!-- end of values -->"
    head, _, rest = readme.partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise SystemExit(f"helm/refract/README.md needs the lines {begin} and {end}")
    return {
        CHART / "values.schema.json": json.dumps(documented.schema(), indent=1, ensure_ascii=False) + "\n",
        CHART / "README.md": f"{head}{begin}\n{documented.table()}\n{end}{tail}",
    }
