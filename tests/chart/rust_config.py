"""Reads the programs' configuration out of the Rust sources: every key, its type and its manual.

The structs are plain (`pub field: Type` with doc comments above), so a few lines read them without a compiler. A type that
is not known here is an error, not a guess.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOTS = {
    "ranker": ("services/ranker/src/config.rs", "Config"),
    "oracle": ("services/oracle/src/config.rs", "Config"),
    "prism": ("services/prism/src/config.rs", "Config"),
    "telemetry": ("services/shared/chassis/src/telemetry.rs", "Config"),
}
# How a type is spelt where it is used, and where it is defined. `None` in the first place: in whatever file.
DEFINED = {
    "refract_net::ListenConfig": ("services/shared/net/src/config.rs", "ListenConfig"),
    "refract_station::callers::Config": ("services/shared/station/src/callers.rs", "Config"),
    "ServerTls": ("services/shared/net/src/tls.rs", "ServerTls"),
    "ClientTls": ("services/shared/net/src/tls.rs", "ClientTls"),
    "refract_net::DialConfig": ("services/shared/net/src/config.rs", "DialConfig"),
    "EjectConfig": ("services/shared/net/src/eject.rs", "EjectConfig"),
    "admission::Config": ("services/shared/resilience/src/admission.rs", "Config"),
    "breaker::Config": ("services/shared/resilience/src/breaker.rs", "Config"),
    "backoff::Config": ("services/shared/resilience/src/backoff.rs", "Config"),
    "refract_chassis::process::Config": ("services/shared/chassis/src/process.rs", "Config"),
    "admin::Config": ("services/shared/chassis/src/admin.rs", "Config"),
    "drain::Config": ("services/shared/resilience/src/drain.rs", "Config"),
    "refract_worker::Config": ("services/shared/worker/src/config.rs", "Config"),
    "refract_knowledge::Config": ("services/shared/knowledge/src/config.rs", "Config"),
}
SCALARS = {
    "String": "string",
    "PathBuf": "string",
    "Secret": "string",
    "refract_net::Target": "string",
    # A newtype that is written as text.
    "Device": "string",
    "Duration": "duration",
    "bool": "boolean",
    "f32": "number",
    "f64": "number",
} | {name: "integer" for name in ("u8", "u16", "u32", "u64", "usize")}


@dataclass
class Key:
    """A key of the configuration: a scalar, a list of what `keys` has under `[]`, or a table with `keys`."""

    kind: str
    doc: str = ""
    choices: list[str] = field(default_factory=list)
    keys: "dict[str, Key]" = field(default_factory=dict)


def read(root: Path) -> dict[str, Key]:
    return {section: Key("table", keys=_struct(root, *where)) for section, where in ROOTS.items()}


def _struct(root: Path, path: str, name: str) -> dict[str, Key]:
    text = (root / path).read_text()
    found = re.search(rf"pub(?:\(crate\))? struct {name} {{\n(.*?)\n}}", text, re.S)
    if not found:
        raise SystemExit(f"{path}: there is no struct {name}; teach tests/chart/rust_config.py where it went")
    keys, doc = {}, []
    for line in found[1].splitlines():
        line = line.strip()
        if line.startswith("///"):
            doc.append(line[3:].strip())
        elif field_ := re.fullmatch(r"pub(?:\(crate\))? (\w+): (.+),", line):
            keys[field_[1]] = _type(root, path, text, field_[2], " ".join(doc))
            doc = []
        elif line and not line.startswith(("#[", "//")):
            raise SystemExit(f"{path}: struct {name}: cannot read the line {line!r}")
    return keys


def _type(root: Path, path: str, text: str, spelt: str, doc: str) -> Key:
    if inner := re.fullmatch(r"Option<(.+)>", spelt):
        return _type(root, path, text, inner[1], doc)
    if inner := re.fullmatch(r"Vec<(.+)>", spelt):
        return Key("list", doc, keys={"[]": _type(root, path, text, inner[1], "")})
    if spelt in SCALARS:
        return Key(SCALARS[spelt], doc)
    if spelt in DEFINED:
        return Key("table", doc, keys=_struct(root, *DEFINED[spelt]))
    if choices := re.search(rf"((?:#\[[^\n]*\]\n)+)pub(?:\(crate\))? enum {spelt} {{\n(.*?)\n}}", text, re.S):
        rename = re.search(r'rename_all = "([\w-]+)"', choices[1])
        names = re.findall(r"^    (\w+),", choices[2], re.M)
        return Key("choice", doc, choices=[_renamed(name, rename[1] if rename else "") for name in names])
    if re.search(rf"pub(?:\(crate\))? struct {spelt} {{", text):
        return Key("table", doc, keys=_struct(root, path, spelt))
    raise SystemExit(f"{path}: the type {spelt} is unknown; teach tests/chart/rust_config.py about it")


def _renamed(name: str, rule: str) -> str:
    if rule == "lowercase":
        return name.lower()
    words = re.sub(r"(?<!^)([A-Z])", r" \1", name).lower().split()
    return {"kebab-case": "-", "snake_case": "_"}[rule].join(words) if rule else name


def paths(keys: dict[str, Key], prefix: str = "") -> dict[str, Key]:
    """All keys by their whole path, tables included."""
    found = {}
    for name, key in keys.items():
        found[prefix + name] = key
        found |= paths(key.keys, f"{prefix}{name}.")
    return found


if __name__ == "__main__":
    for path, key in paths(read(Path(__file__).parents[2])).items():
        print(f"{path:60} {key.kind:9} {'|'.join(key.choices)}")
