"""Holds the chart to its promises. Run it through tests/chart/run, which brings the tools."""

import copy
import hashlib
import http.server
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alerts
import dashboard
import rust_config
import schemas
import values_doc
import yaml_by_helm
from rendered import PORTS, Rendered

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CHART = ROOT / "helm/refract"
CI = sorted((CHART / "ci").glob("*.yaml"))
# What k8s/ holds, and the values it is made with.
GOLDENS = {"local": "cpu-demo", "production": "production-gpu"}
UPDATE = "--update" in sys.argv
ANY = re.compile(r"refract_[a-z_]+")

failures: list[str] = []
skipped: list[str] = []


def step(name: str):
    def run(check):
        begin = time.monotonic()
        wrong = check() or []
        took = time.monotonic() - begin
        print(f"  {'FAILED' if wrong else 'ok':6} {name} ({took:.1f}s)", flush=True)
        for complaint in wrong:
            print(f"         {complaint}")
        failures.extend(wrong)

    return run


def skip(name: str, why: str) -> None:
    skipped.append(name)
    print(f"  SKIPPED, LOUDLY: {name}: {why}")


def helm(*args: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(["helm", *map(str, args)], capture_output=True, text=True, check=False)


def template(*args: str | Path) -> subprocess.CompletedProcess:
    return helm("template", "refract", CHART, "--namespace", "refract", *args)


def merged(under: dict, over: dict) -> dict:
    """As helm merges values: maps by key, everything else whole."""
    result = copy.deepcopy(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def in_parallel(work, items):
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(work, items))


def same(files: dict[Path, str]) -> list[str]:
    """Compares with what is there, or writes it."""
    wrong = []
    for path, text in files.items():
        if UPDATE:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            wrong.append(f"{path.relative_to(ROOT)} is not what it is made from: tests/chart/run --update, and look at the difference")
    return wrong


rust = rust_config.paths(rust_config.read(ROOT))
documented = values_doc.Documented()
schema = documented.schema()


@step("schema, values table and dashboards are what they are made from")
def _():
    return same(values_doc.generated() | dashboard.generated())


@step("a key is explained by its own comment, or by another role's")
def _():
    def refused(text):
        try:
            values_doc.Documented(text).schema()
        except SystemExit as said:
            return "has no comment" in str(said)
        return False

    wrong = []
    if not refused("image:\n  # Where Refract's image is.\n  repository: a\ndownload:\n  image:\n    repository: b\n"):
        wrong.append("the comment of image.repository speaks for download.image.repository")
    if refused("ranker:\n  # Pods.\n  replicas: 1\nprism:\n  replicas: 2\n"):
        wrong.append("prism.replicas is not explained by ranker.replicas")
    return wrong + [f"{path} speaks of gpu, which {path.partition('.')[0]} has not" for path, _, manual in documented.rows if "`gpu`" in manual and not path.startswith(("oracle.", "prism."))]


@step("every object of the schema is closed")
def _():
    wrong = []

    def walk(path, node):
        if node.get("type") == "object" and "additionalProperties" not in node and path not in ("global", "extraObjects[]"):
            wrong.append(f"values.schema.json: {path} lets anything in")
        for name, sub in node.get("properties", {}).items():
            walk(f"{path}.{name}".lstrip("."), sub)
        if "items" in node:
            walk(f"{path}[]", node["items"])
        if isinstance(node.get("additionalProperties"), dict):
            walk(f"{path}.*", node["additionalProperties"])

    walk("", schema)
    return wrong


@step(f"helm lint holds for the defaults and {len(CI)} files of ci/")
def _():
    def lint(path):
        done = helm("lint", "--strict", CHART, *(["--values", path] if path else []))
        return [f"{path}: {done.stdout}{done.stderr}"] if done.returncode else []

    return sum(in_parallel(lint, [None, *CI]), [])


renderings: list[Rendered] = []
texts: dict[str, str] = {}


@step("every file of ci/ renders, the same twice, and holds what every rendering must")
def _():
    def render(path):
        args = ["--values", path] if path else []
        return template(*args), template(*args)

    wrong, docs = [], []
    names = ["defaults", *(path.stem for path in CI)]
    for name, (done, again) in zip(names, in_parallel(render, [None, *CI])):
        if done.returncode:
            wrong.append(f"{name}: {done.stderr}")
            continue
        if done.stdout != again.stdout and name != "defaults" and "kind: Secret" not in done.stdout:
            wrong.append(f"{name} renders differently each time")
        texts[name] = done.stdout
        docs += [(name, text) for text in yaml_by_helm.documents(done.stdout)]
    if wrong:
        return wrong
    overrides = dict(zip(names, [{}, *yaml_by_helm.load([path.read_text() for path in CI])]))
    objects = yaml_by_helm.load([text for _, text in docs])
    for name in names:
        mine = [o for (owner, _), o in zip(docs, objects) if owner == name]
        renderings.append(Rendered(name, merged(documented.defaults, overrides[name]), mine))
    return sum((r.complaints(rust) for r in renderings), [])


@step("what the values say arrives: placement, shared memory, budgets of zero, switches")
def _():
    by_name = {r.name: r for r in renderings}
    wrong = []

    def expect(name, what, got, wanted):
        if got != wanted:
            wrong.append(f"{name}: {what} is {got!r}, not {wanted!r}")

    def deployment(name, role):
        return by_name[name].component("Deployment", role)[0]["spec"]["template"]["spec"]

    oracle = deployment("production-gpu", "oracle")
    (term,) = oracle["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    demands = {e["key"]: (e["operator"], e["values"]) for e in term["matchExpressions"]}
    expect("production-gpu", "the demand for products", demands["nvidia.com/gpu.product"], ("In", ["NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB"]))
    expect("production-gpu", "the demand for GPUs on the node", demands["nvidia.com/gpu.count"], ("Gt", ["3"]))
    expect("production-gpu", "the demand for memory", demands["nvidia.com/gpu.memory"], ("Gt", ["79999"]))
    expect("production-gpu", "the Oracle's GPUs", oracle["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], 4)
    expect("production-gpu", "the toleration", oracle["tolerations"], [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}])
    shm = [v["emptyDir"] for v in oracle["volumes"] if v["name"] == "shm"]
    expect("production-gpu", "shared memory", shm, [{"medium": "Memory", "sizeLimit": "16Gi"}])
    prism = deployment("production-gpu", "prism")
    expect("production-gpu", "the Prism's MIG slice", prism["containers"][0]["resources"]["limits"]["nvidia.com/mig-1g.10gb"], 1)
    terms = deployment("everything", "oracle")["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    expect("everything", "terms with all demands", [len(t["matchExpressions"]) for t in terms], [4, 4])
    expect("everything", "the writable root", deployment("everything", "oracle")["containers"][0]["securityContext"]["readOnlyRootFilesystem"], False)
    (budget,) = by_name["everything"].component("PodDisruptionBudget", "oracle")
    expect("everything", "a budget of 0", budget["spec"]["maxUnavailable"], 0)
    (budget,) = by_name["everything"].component("PodDisruptionBudget", "prism")
    expect("everything", "a budget of a share", budget["spec"]["maxUnavailable"], "25%")
    rules = {rule["alert"]: rule for rule in by_name["everything"].of("PrometheusRule")[0]["spec"]["groups"][0]["rules"]}
    expect("everything", "a disabled alert", "RefractKnowledgeRarelyRemembered" in rules, False)
    expect("everything", "whose an alert is", {(rule["labels"]["namespace"], rule["labels"]["release"]) for rule in rules.values()}, {("refract", "refract")})
    expect("everything", "an overridden alert", (rules["RefractStoreDown"]["for"], rules["RefractStoreDown"]["labels"]["severity"]), ("15m", "info"))
    def alerts_of(name):
        return {rule["alert"].removeprefix("Refract") for rule in by_name[name].of("PrometheusRule")[0]["spec"]["groups"][0]["rules"]}

    memory = {"OracleFailing", "KnowledgeNotWritten", "KnowledgeRarelyRemembered", "StoreDown", "StoreSlow", "KnowledgeCorrupt"}
    of_oracle, of_prism, of_engines = {"OracleDown", "OracleShedding"}, {"PrismDown", "PrismShedding", "TruthRefusing"}, {"QueueSlow", "ModelFaults"}
    every = alerts_of("production-gpu")
    expect("no-oracle", "what no alert is about", every - alerts_of("no-oracle"), memory | of_oracle)
    expect("no-prism", "what no alert is about", every - alerts_of("no-prism"), of_prism)
    expect("oracle-elsewhere", "what no alert is about", every - alerts_of("oracle-elsewhere"), of_oracle)
    expect("all-elsewhere", "what no alert is about", every - alerts_of("all-elsewhere"), of_oracle | of_prism | of_engines)
    gated = template("--values", CHART / "ci/production-gpu.yaml", "--kube-version", "1.34.0", "--set", "imageVolumes.gateIsOn=true")
    expect("production-gpu", "what Kubernetes 1.34 is told about its gate", (gated.returncode, gated.stderr), (0, ""))
    dotted = helm("template", "shop.v2", CHART, "--values", CHART / "ci/minimal.yaml").stdout
    expect("a release called shop.v2", "the names of Services", set(re.findall(r"kind: Service\nmetadata:\n  name: (\S+)", dotted)), {"shop-v2-refract-ranker", "shop-v2-refract-ranker-headless"})
    expect("minimal", "deployments", sorted(o["metadata"]["name"] for o in by_name["minimal"].of("Deployment")), ["refract-ranker"])
    return wrong


@step("alerts, dashboards and scalers use metrics that the programs have, and every alert has a runbook")
def _():
    # Names made by our own `metrics` calls; a histogram is read through its three series.
    source = "".join(path.read_text() for path in (ROOT / "services").rglob("*.rs") if "/tests" not in str(path))
    known = set(re.findall(r'"(refract_[a-z0-9_]+)"', source))
    series = known | {f"{name}{end}" for name in known if name.endswith("_seconds") for end in ("_bucket", "_count", "_sum")}
    used = {"dashboard": set(ANY.findall(json.dumps([t["expr"] for p in dashboard.dashboard()["panels"] for t in p.get("targets", [])])))}
    runbooks = set(re.findall(r"^## (Refract\w+)$", (CHART / "docs/runbooks.md").read_text(), re.M))
    named = set()
    for r in renderings:
        for o in r.of("PrometheusRule"):
            rules = o["spec"]["groups"][0]["rules"]
            named |= {rule["alert"] for rule in rules}
            used[f"{r.name}: alerts"] = {name for rule in rules for name in ANY.findall(rule["expr"])}
        for o in r.of("ScaledObject"):
            used[f"{r.name}: ScaledObject"] = {n for t in o["spec"]["triggers"] for n in ANY.findall(t["metadata"]["query"])}
        for o in r.of("HorizontalPodAutoscaler"):
            used[f"{r.name}: HPA"] = {m["pods"]["metric"]["name"] for m in o["spec"]["metrics"]}
    ours = 'namespace="refract",release="refract"'
    queries = [rule["expr"] for r in renderings for o in r.of("PrometheusRule") for rule in o["spec"]["groups"][0]["rules"]]
    queries += [t["metadata"]["query"] for r in renderings for o in r.of("ScaledObject") for t in o["spec"]["triggers"]]
    strange = {q for q in queries for of in re.findall(r"\b(?:refract_[a-z_]+|up)\b(\{[^}]*\})?", q) if ours not in of}
    wrong = [f"other releases are counted, too: {q}" for q in sorted(strange)]
    for r in renderings:
        for monitor, endpoints in [("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")]:
            told = [{relabeling["targetLabel"] for relabeling in e["relabelings"]} for o in r.of(monitor) for e in o["spec"][endpoints]]
            wrong += [f"{r.name}: the {monitor} sets {sorted(labels)}" for labels in told if not labels >= {"component", "release"}]
    wrong += [f"{where} uses {name}, which no program has" for where, names in used.items() for name in sorted(names - series)]
    wrong += [f"docs/runbooks.md has no section {name}" for name in sorted(named - runbooks)]
    wrong += [f"docs/runbooks.md has a section {name}, and there is no such alert" for name in sorted(runbooks - named)]
    unseen = {m for m in known if m.startswith(("refract_engine", "refract_knowledge", "refract_ranker", "refract_oracle", "refract_prism"))}
    unseen -= {name.removesuffix("_bucket").removesuffix("_count") for name in used["dashboard"]} | {"refract_engine_kv_bytes"}
    return wrong + [f"no panel of the dashboard shows {name}" for name in sorted(unseen)]


@step("every file that the comparison names is there, and every check has that name")
def _():
    page = (CHART / "docs/comparison.md").read_text()
    named = re.findall(r"`((?:helm|tests|services|proto|loadtest)/[^`]+)`", page)
    wrong = [f"docs/comparison.md names {path}, which is not there" for path in named if not (ROOT / path).exists()]
    checks = (HERE / "rendered.py").read_text()
    wrong += [f"docs/comparison.md names the check {name}, which is not there" for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", page) if f"def {name}(" not in checks]
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")][1:]
    return wrong + [f"docs/comparison.md: {row[1].strip()} is not y" for row in rows if not row[11].strip().startswith("**y")]


BAD = sorted((HERE / "bad").glob("*.yaml"))


@step(f"{len(BAD)} files of bad values are refused in readable words")
def _():
    def refuse(path):
        wanted = re.findall(r"^# expect: (.+)$", path.read_text(), re.M)
        # A number from the command line is of another type than one from a file.
        flags = {"set": "--set", "kube": "--kube-version"}
        more = re.findall(r"^# (set|kube): (.+)$", path.read_text(), re.M)
        done = template("--values", path, *(word for name, text in more for word in (flags[name], text)))
        if done.returncode == 0 or not wanted:
            return [f"bad/{path.name} is not refused" if wanted else f"bad/{path.name} expects nothing"]
        said = done.stderr
        wrong = [f"bad/{path.name}: it does not say {w!r}, but: {said.strip()}" for w in wanted if not re.search(w if "." in w and ".rankers." in w else re.escape(w), said)]
        return wrong + ([f"bad/{path.name} breaks a template: {said}"] if "nil pointer" in said or "wrong type" in said else [])

    return sum(in_parallel(refuse, BAD), [])


def paths_of(node: dict, path=()):
    for name, sub in node.get("properties", {}).items():
        yield (*path, name), sub
        yield from paths_of(sub, (*path, name))


@step("60 misspelt keys, drawn by seed, are refused by the schema")
def _():
    draw = random.Random(20)
    every = [path for path, _ in paths_of(schema) if path[0] != "global"]

    def refuse(path):
        at = draw.randrange(len(path[-1]) + 1)
        misspelt = path[-1][:at] + "z" + path[-1][at:]
        values: dict | int = 1
        for name in reversed((*path[:-1], misspelt)):
            values = {name: values}
        done = template("--set-json", f"{path[0] if len(path) > 1 else misspelt}={json.dumps(next(iter(values.values())))}")
        return [] if done.returncode and f"'{misspelt}' not allowed" in done.stderr else [f"{'.'.join(path)} misspelt as {misspelt} is not refused: {done.stderr[:300]}"]

    return sum(in_parallel(refuse, draw.sample(every, 60)), [])


def drawn(node: dict, draw: random.Random):
    """Some value that the schema allows."""
    if "enum" in node:
        return draw.choice(node["enum"])
    if "oneOf" in node:
        return drawn(draw.choice(node["oneOf"]), draw)
    kind = node["type"][0] if isinstance(node.get("type"), list) else node.get("type")
    if kind == "object":
        names = node.get("properties", {})
        if not names:
            return {f"k{n}": "v" for n in range(draw.randrange(3))} if node.get("additionalProperties", {}).get("type") == "string" else {}
        must = set(node.get("required", [])) or set(draw.sample(sorted(names), node.get("minProperties", 0)))
        return {name: drawn(sub, draw) for name, sub in names.items() if name in must or draw.random() < 0.3}
    if kind == "array":
        return [drawn(node["items"], draw) for _ in range(draw.randrange(3))]
    if kind == "string":
        pattern = node.get("pattern", "")
        if "https?" in pattern:
            return draw.choice(["http://a", "https://b.c/d", "http://e:4317"])
        if "ms|s|m" in pattern:
            return f"{draw.randint(1, 10)}{draw.choice(['ms', 's'])}"
        if "sha256:" in pattern or "64" in pattern:
            return ""
        if "Mi|Gi" in pattern:
            return f"{draw.randint(1, 64)}Gi"
        if "%" in pattern:
            return f"{draw.randint(1, 99)}%"
        if "/" in pattern:
            return "nvidia.com/gpu"
        return draw.choice(["a", "name-1", "x.y"])
    return {"integer": lambda: node.get("minimum", 0) + draw.randint(0, 50), "number": lambda: draw.random(), "boolean": lambda: draw.random() < 0.5, "null": lambda: None}[kind]()


@step("60 drawn sets of allowed values render soundly or are refused with the list of reasons")
def _():
    draw = random.Random(7)
    cases = []
    for _ in range(60):
        values = {name: drawn(sub, draw) for name, sub in schema["properties"].items() if name not in ("global", "extraObjects") and draw.random() < 0.5}
        cases.append(values)

    def render(values):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(values, file)
            file.flush()
            return template("--values", file.name)

    wrong, docs, fine = [], [], 0
    for number, (values, done) in enumerate(zip(cases, in_parallel(render, cases))):
        if done.returncode == 0:
            fine += 1
            docs += [(number, text) for text in yaml_by_helm.documents(done.stdout)]
        elif "do not fit together:\n  - " not in done.stderr:
            wrong.append(f"{done.stderr.strip()[:400]} with {json.dumps(values)[:600]}")
    objects = yaml_by_helm.load([text for _, text in docs])
    for number in sorted({number for number, _ in docs}):
        mine = [o for (owner, _), o in zip(docs, objects) if owner == number]
        r = Rendered(f"drawn {number}", merged(documented.defaults, cases[number]), mine)
        wrong += [c for c in r.complaints(rust) if "has no memory limit" not in c]
    if fine < 5:
        wrong.append(f"only {fine} of 60 drawn sets rendered: the draw says little")
    return wrong


@step("k8s/ is the chart")
def _():
    wanted = {}
    for place, values in GOLDENS.items():
        done = template("--no-hooks", "--values", CHART / "ci" / f"{values}.yaml")
        if done.returncode:
            return [done.stderr]
        head = f"# The chart with helm/refract/ci/{values}.yaml, rendered by tests/chart/run --update.\n"
        wanted[ROOT / "k8s" / place / "refract.yaml"] = head + re.sub(r"\n\n+", "\n", done.stdout).replace("\n---\n", "\n---\n")
    stray = {p for p in (ROOT / "k8s").glob("*/refract.yaml")} - wanted.keys()
    return same(wanted) + [f"{path.relative_to(ROOT)} is no rendering of the chart" for path in stray]


cache = Path(os.environ["REFRACT_TOOLS"])
if not shutil.which("kubeconform"):
    skip("kubeconform", "it could not be installed (needs go and the Go module proxy)")
elif (folder := schemas.folder(cache)) is None:
    skip("kubeconform", "the Go modules with Kubernetes' OpenAPI document and the CRDs cannot be had")
else:

    @step(f"kubeconform accepts all renderings (Kubernetes {schemas.KUBERNETES}, Prometheus Operator, KEDA, cert-manager)")
    def _():
        wrong, checked = [], 0
        with tempfile.TemporaryDirectory() as scratch:
            for name, text in texts.items():
                Path(scratch, f"{name}.yaml").write_text(text)
            for path in (ROOT / "k8s").glob("*/*.yaml"):
                if path.name != "kustomization.yaml":
                    shutil.copy(path, Path(scratch, f"k8s-{path.parent.name}-{path.name}"))
            where = f"{folder}/{schemas.LOCATION}"
            done = subprocess.run(
                ["kubeconform", "-strict", "-output", "json", "-verbose", "-schema-location", where, scratch],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        for found in json.loads(done.stdout or "{}").get("resources", []):
            if not found["kind"] and not found["msg"]:
                continue  # a document of comments
            checked += 1
            if found["status"] != "statusValid":
                wrong.append(f"{Path(found['filename']).name}: {found['kind']} {found['name']}: {found['msg'][:300]}")
        return wrong or ([] if checked > 100 else [f"only {checked} objects were checked: {done.stderr}"])


admission = os.environ.get("REFRACT_ADMISSION")
if not admission:
    skip("Kubernetes' own validation", "tests/chart/admission could not be built (needs go and the Go module proxy)")
else:

    @step("Kubernetes' own validation and Pod Security admission (restricted) take every object")
    def _():
        named = [(r.name, o) for r in renderings for o in r.objects]
        for path in sorted((ROOT / "k8s").glob("*/*.yaml")):
            if path.name != "kustomization.yaml":
                named += [(f"k8s/{path.parent.name}", o) for o in yaml_by_helm.load(yaml_by_helm.documents(path.read_text()))]
        done = subprocess.run([admission], input=json.dumps([o for _, o in named]), capture_output=True, text=True, check=False)
        if done.returncode:
            return [f"tests/chart/admission: {done.stdout}{done.stderr}"]
        wrong = []
        for line in done.stdout.splitlines():
            number, _, complaint = line.partition("\t")
            owner, o = named[int(number)]
            wrong.append(f"{owner}: {o['metadata']['name']}: {complaint}")
        return wrong or ([] if int(done.stderr) > 100 else [f"only {done.stderr.strip()} objects were validated"])


if not shutil.which("promtool"):
    skip("promtool", "it could not be installed (the Debian package prometheus has it)")
else:

    @step("promtool: the rules are sound, each alert fires on its symptom and is silent otherwise")
    def _():
        (rule,) = [o for r in renderings if r.name == "production-gpu" for o in r.of("PrometheusRule")]
        tests, untested = alerts.tests(rule["spec"]["groups"][0]["rules"])
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch, "rules.yaml").write_text(json.dumps({"groups": rule["spec"]["groups"]}))
            Path(scratch, "test.yaml").write_text(tests)
            for args in (["check", "rules", "rules.yaml"], ["test", "rules", "test.yaml"]):
                done = subprocess.run(["promtool", *args], cwd=scratch, capture_output=True, text=True, check=False)
                if done.returncode:
                    return [f"promtool {' '.join(args)}: {done.stdout}{done.stderr}"]
        return [f"alerts.py: {name} has no case" for name in untested]

    @step("promtool: every query of the dashboard and the scalers is PromQL")
    def _():
        queries = [t["expr"] for p in dashboard.dashboard()["panels"] for t in p.get("targets", [])]
        queries += [t["metadata"]["query"] for r in renderings for o in r.of("ScaledObject") for t in o["spec"]["triggers"]]
        filled = [q.replace("$namespace", "refract").replace("$release", ".*").replace("$__rate_interval", "1m") for q in queries]
        rules = [{"record": f"query:{n}", "expr": q} for n, q in enumerate(filled)]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump({"groups": [{"name": "queries", "rules": rules}]}, file)
            file.flush()
            done = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
        return [f"{done.stdout}{done.stderr}"] if done.returncode or not queries else []


@step("a download is unpacked once it is whole, kept, refused with another sum, and given up in time")
def _():
    if not shutil.which("curl"):
        return ["curl is needed to try files/download.sh"]
    with tempfile.TemporaryDirectory() as scratch:
        served, to, archives = Path(scratch, "served"), Path(scratch, "to"), Path(scratch, "archive")
        served.mkdir(), to.mkdir(), archives.mkdir()
        (served / "config.json").write_text("{}")
        with tarfile.open(served / "bundle.tar.gz", "w:gz") as archive:
            archive.add(served / "config.json", "config.json")
        digest = hashlib.sha256((served / "bundle.tar.gz").read_bytes()).hexdigest()

        class Quiet(http.server.SimpleHTTPRequestHandler):
            asked = 0

            def __init__(self, *args):
                super().__init__(*args, directory=served)

            def do_GET(self):
                type(self).asked += 1
                if self.path == "/never.tar":
                    over.wait()
                else:
                    super().do_GET()

            def log_message(self, *_):
                pass

        over = threading.Event()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def fetch(sum_, name="bundle.tar.gz", longest=10):
            url = f"http://127.0.0.1:{server.server_port}/{name}"
            env = {"PATH": os.environ["PATH"], "URL": url, "SHA256": sum_, "TO": str(to), "ARCHIVE": str(archives), "TIMEOUT_SECONDS": str(longest)}
            return subprocess.run(["sh", "-c", (CHART / "files/download.sh").read_text()], env=env, capture_output=True, text=True, check=False)

        wrong = []
        (to / "half").write_text("of an earlier try")
        done = fetch(digest, "never.tar", longest=1)
        if done.returncode == 0 or "download.timeoutSeconds, 1" not in done.stderr or Quiet.asked != 1:
            wrong.append(f"a server that never answers was asked {Quiet.asked} times: {done}")
        over.set()
        (archives / "half").write_text("of an earlier try")
        done = fetch("0" * 64)
        if done.returncode == 0 or "not " + "0" * 64 not in done.stderr or list(to.iterdir()):
            wrong.append(f"a wrong sum: {done} {list(to.iterdir())}")
        if fetch(digest).returncode or sorted(p.name for p in to.iterdir()) != [".complete", "config.json"]:
            wrong.append(f"the right sum: {sorted(p.name for p in to.iterdir())}")
        asked = Quiet.asked
        if fetch(digest).returncode or Quiet.asked != asked:
            wrong.append("what is there and whole is fetched again")
        if list(archives.iterdir()):
            wrong.append(f"the archive is kept: {list(archives.iterdir())}")
        server.shutdown()
        return wrong


@step("the image serves the ports, the user and the demo that the chart counts on, and its manifests stand alone")
def _():
    images = ROOT / "services/refract/images"
    wrong = []
    for recipe in sorted(images.glob("Containerfile.c*")):
        if recipe.suffix == ".dockerignore":
            if recipe.read_text() != (images / "Containerfile.cpu.dockerignore").read_text():
                wrong.append(f"{recipe.name} lets other files in than Containerfile.cpu.dockerignore")
            continue
        text = recipe.read_text()
        exposed = set(map(int, re.search(r"^EXPOSE (.+)$", text, re.M)[1].split()))
        if exposed != {port for role, ports in PORTS.items() if role != "store" for port in ports}:
            wrong.append(f"{recipe.name} exposes {sorted(exposed)}")
        for line in ("USER 65532:65532", 'ENTRYPOINT ["/usr/bin/refract"]', "COPY --from=manifests /demo /usr/share/refract/demo"):
            if line not in text:
                wrong.append(f"{recipe.name} has not the line {line}")
        features = {name for names in re.findall(r"--features (\S+)", text) for name in names.split(",")}
        manifest = (ROOT / "services/refract/Cargo.toml").read_text()
        wrong += [f"{recipe.name} wants the feature {name}, which services/refract has not" for name in features if not re.search(rf"^{name} = ", manifest, re.M)]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(["sh", images / "stub-sources.sh", ROOT, scratch], capture_output=True, text=True, check=False)
        if done.returncode == 0 and shutil.which("cargo"):
            done = subprocess.run(["cargo", "metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"], cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            wrong.append(f"stub-sources.sh: {done.stderr.strip()[-400:]}")
    return wrong


binary = os.environ.get("REFRACT_BIN")
if not binary:
    skip("the program accepts every rendered refract.toml", "REFRACT_BIN names no built `refract`; the keys were compared with the Rust sources instead")
else:

    @step("the program accepts every rendered refract.toml")
    def _():
        wrong = []
        with tempfile.TemporaryDirectory() as scratch:
            for r in renderings:
                for role in r.roles:
                    (found,) = r.component("ConfigMap", role)
                    file = Path(scratch, "refract.toml")
                    file.write_text(found["data"]["refract.toml"])
                    done = subprocess.run([binary, "serve", role, "--config", str(file), "--print-config"], capture_output=True, text=True, check=False)
                    if done.returncode:
                        wrong.append(f"{r.name}: {role}: {done.stderr.strip()}")
        return wrong


print(f"  chart: {len(failures)} complaints, {len(skipped)} skipped")
sys.exit(1 if failures else 0)
