"""Schemas for kubeconform without a network of schemas: Kubernetes' own OpenAPI document and the makers' CRDs, all from Go
modules. Every object is closed, so that a misspelt field is found.
"""

import hashlib
import json
import subprocess
from pathlib import Path

import yaml_by_helm

KUBERNETES = "v1.37.2"
MODULES = {
    "k8s.io/kubernetes": KUBERNETES,
    "github.com/prometheus-operator/prometheus-operator": "v0.85.0",
    "github.com/kedacore/keda/v2": "v2.21.0",
    "github.com/cert-manager/cert-manager": "v1.19.1",
}
# Whatever the chart may render; an object of another kind fails the check until it is added here.
KINDS = {
    "Deployment", "Service", "ConfigMap", "Secret", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy",
    "HorizontalPodAutoscaler", "Pod", "Namespace", "Job",
}  # fmt: skip
CRDS = [
    ("github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
    ("github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"),
    ("github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
    ("github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    ("github.com/cert-manager/cert-manager", "deploy/crds/cert-manager.io_certificates.yaml"),
]
# As kubeconform names them.
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"


def folder(cache: Path) -> Path | None:
    """Where the schemas are, made if need be; `None` where the modules cannot be had."""
    asked = hashlib.sha256(repr((sorted(MODULES.items()), sorted(KINDS), CRDS)).encode()).hexdigest()[:12]
    made = cache / f"schemas-{asked}"
    if (made / "complete").exists():
        return made
    where = {}
    for module, version in MODULES.items():
        done = subprocess.run(
            ["go", "mod", "download", "-json", f"{module}@{version}"], capture_output=True, text=True, check=False, cwd="/"
        )
        if done.returncode != 0:
            print(f"    {module}@{version}: {done.stderr.strip()[-200:] or done.stdout.strip()[-200:]}")
            return None
        where[module] = Path(json.loads(done.stdout)["Dir"])
    made.mkdir(parents=True, exist_ok=True)
    _kubernetes(where["k8s.io/kubernetes"] / "api/openapi-spec/swagger.json", made)
    for crd in yaml_by_helm.load([(where[module] / path).read_text() for module, path in CRDS]):
        kind = crd["spec"]["names"]["kind"]
        for version in crd["spec"]["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"], {})
            schema["properties"]["metadata"] = {"type": "object"}
            _write(made, kind, crd["spec"]["group"], version["name"], schema)
    (made / "complete").touch()
    return made


def _kubernetes(swagger: Path, made: Path) -> None:
    definitions = json.loads(swagger.read_text())["definitions"]
    for definition in definitions.values():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if kind["kind"] in KINDS and definition.get("properties", {}).get("kind"):
                _write(made, kind["kind"], kind["group"], kind["version"], _strict(definition, definitions))


def _write(made: Path, kind: str, group: str, version: str, schema: dict) -> None:
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part)
    (made / f"{name}.json").write_text(json.dumps(schema))


def _strict(schema: dict, definitions: dict) -> dict:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name.endswith((".IntOrString", ".Quantity")):
            return {"type": ["string", "number"]}
        return _strict(definitions[name], definitions)
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "number"]}
    kept = {key: schema[key] for key in ("type", "enum", "required", "minimum", "maximum", "pattern", "minItems") if key in schema}
    if "items" in schema:
        kept["items"] = _strict(schema["items"], definitions)
    if "properties" in schema:
        kept["properties"] = {name: _strict(sub, definitions) for name, sub in schema["properties"].items()}
        kept["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = _strict(schema["additionalProperties"], definitions)
    return kept
