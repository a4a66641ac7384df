"""One rendering of the chart, and what must be true of it whatever the values were."""

import json
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import rust_config

PORTS = {"ranker": (7001, 7101), "oracle": (7002, 7102), "prism": (7003, 7103), "store": (6379, None)}
COMPONENT = "app.kubernetes.io/component"
OURS = ("app.kubernetes.io/name", "app.kubernetes.io/instance", COMPONENT)


@dataclass
class Rendered:
    name: str
    values: dict
    objects: list[dict]

    def of(self, kind: str) -> list[dict]:
        return [o for o in self.objects if o["kind"] == kind]

    def component(self, kind: str, component: str) -> list[dict]:
        return [o for o in self.of(kind) if o["metadata"].get("labels", {}).get(COMPONENT) == component]

    @cached_property
    def roles(self) -> list[str]:
        return ["ranker"] + [role for role in ("oracle", "prism") if self.values[role]["enabled"]]

    @cached_property
    def pods(self) -> list[tuple[str, dict, dict]]:
        """Name, labels and spec of every pod."""
        made = [(o["metadata"]["name"], o["spec"]["template"]) for o in self.of("Deployment") + self.of("Job")]
        made += [(o["metadata"]["name"], o) for o in self.of("Pod")]
        return [(name, pod["metadata"]["labels"], pod["spec"]) for name, pod in made]

    def config(self, role: str) -> dict:
        (found,) = self.component("ConfigMap", role)
        return tomllib.loads(found["data"]["refract.toml"])

    def complaints(self, rust: dict[str, rust_config.Key]) -> list[str]:
        # What the others read out of the configuration must be there at all.
        found = configuration_is_known(self, rust)
        if found:
            return [f"{self.name}: {complaint}" for complaint in found]
        for check in (every_hop_is_secured_or_none, pods_are_restricted, ports_and_probes_agree, times_agree, downloads_have_room, names_lead_somewhere, calls_are_the_tables, devices_are_those_asked_for, shards_are_disjoint_and_go_on):
            found += check(self)
        return [f"{self.name}: {complaint}" for complaint in found]


def pods_are_restricted(r: Rendered) -> list[str]:
    """Pod Security Standard `restricted`, and a little more. A GPU pod may be let off the read-only root."""
    wrong = []
    for name, labels, spec in r.pods:
        pod = spec["securityContext"]
        gpu = r.values.get(labels[COMPONENT], {}).get("gpu", {})
        for holds, what in [
            (pod.get("runAsNonRoot") is True and pod.get("runAsUser", 0) > 0, "runs as root"),
            (pod.get("seccompProfile", {}).get("type") == "RuntimeDefault", "has no seccomp profile"),
            (spec.get("automountServiceAccountToken") is False, "is given a service-account token"),
            (spec.get("enableServiceLinks") is False, "is given service links"),
            (not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), "shares the host's namespaces"),
        ]:
            if not holds:
                wrong.append(f"pod {name} {what}")
        for container in spec["containers"] + spec.get("initContainers", []):
            security = container["securityContext"]
            read_only = security.get("readOnlyRootFilesystem") is True
            for holds, what in [
                (security.get("allowPrivilegeEscalation") is False, "may escalate privileges"),
                (security.get("capabilities", {}).get("drop") == ["ALL"], "keeps capabilities"),
                (read_only or (gpu.get("enabled") and not gpu["readOnlyRootFilesystem"]), "has a writable root"),
                (container.get("resources", {}).get("limits", {}).get("memory"), "has no memory limit"),
                (not security.get("privileged"), "is privileged"),
            ]:
                if not holds:
                    wrong.append(f"pod {name}: container {container['name']} {what}")
        kinds = {key for volume in spec.get("volumes", []) for key in volume if key != "name"}
        if odd := kinds - {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "image"}:
            wrong.append(f"pod {name} mounts {odd}")
    return wrong


def ports_and_probes_agree(r: Rendered) -> list[str]:
    """What the program is told to listen on, what the container declares, what is probed, what Services forward to."""
    wrong = []
    for role in r.roles:
        data, admin = PORTS[role]
        told = r.config(role)[role]
        for what, address, port in [("data", told["listen"]["address"], data), ("admin", told["process"]["admin"]["address"], admin)]:
            if not re.fullmatch(rf"(0\.0\.0\.0|\[::\]):{port}", address):
                wrong.append(f"{role} listens for {what} on {address}, not on {port}")
        (deployment,) = r.component("Deployment", role)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        if {port["name"]: port["containerPort"] for port in container["ports"]} != {"grpc": data, "admin": admin}:
            wrong.append(f"{role} declares the ports {container['ports']}")
        for probe, service in [("startupProbe", "ready"), ("readinessProbe", "ready"), ("livenessProbe", "live")]:
            if container[probe].get("grpc") != {"port": admin, "service": service}:
                wrong.append(f"{role}: the {probe} asks {container[probe]}")
        for probe in ("readinessProbe", "livenessProbe"):
            if container[probe].get("initialDelaySeconds"):
                wrong.append(f"{role}: the {probe} has a delay; start-up belongs to the startup probe")
        services = {o["metadata"]["name"].endswith("-headless"): o["spec"] for o in r.component("Service", role)}
        if services.keys() != {True, False}:
            wrong.append(f"{role} has not one ClusterIP and one headless Service")
            continue
        if services[True].get("clusterIP") != "None" or services[True].get("publishNotReadyAddresses", False):
            wrong.append(f"{role}: the headless Service must have no address and ready pods only")
        for spec in services.values():
            for port in spec["ports"]:
                if (port["name"], port["port"], port["targetPort"]) not in {("grpc", data, "grpc"), ("admin", admin, "admin")}:
                    wrong.append(f"{role}: a Service forwards {port}")
    return wrong


def seconds(text: str) -> float:
    unit = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(n) * unit[u] for n, u in re.findall(r"(\d+)\s*([a-z]+)", text))


def port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


def times_agree(r: Rendered) -> list[str]:
    """preStop, lameduck and finish fit into the grace; the startup probe is no less patient than the program."""
    wrong = []
    for role in r.roles:
        process = r.config(role)[role]["process"]
        (deployment,) = r.component("Deployment", role)
        spec = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        leaving = pre_stop + seconds(process["drain"]["lameduck"]) + seconds(process["drain"]["finish_max"])
        if leaving + 5 > spec["terminationGracePeriodSeconds"]:
            wrong.append(f"{role} needs {leaving} s to leave and has {spec['terminationGracePeriodSeconds']}")
        startup = container["startupProbe"]
        patience = startup["periodSeconds"] * startup["failureThreshold"]
        if patience < seconds(process["warm_up_max"]):
            wrong.append(f"{role} may warm up for {process['warm_up_max']} and is killed after {patience} s")
        source = r.values[role]["data" if role == "ranker" else "bundle"]["source"]
        arrival = {"download": r.values["download"]["timeoutSeconds"], "imageVolume": r.values["imageVolumes"]["pullSeconds"]}.get(source, 0)
        if deployment["spec"]["progressDeadlineSeconds"] <= arrival + patience + deployment["spec"].get("minReadySeconds", 0):
            wrong.append(f"{role}: a slow start would be called a failed rollout")
        surge = deployment["spec"]["strategy"]["rollingUpdate"]
        gpu = r.values[role].get("gpu", {})
        spare = gpu["surge"] if role == "prism" and gpu["enabled"] else int(role != "oracle")
        if (surge["maxSurge"], surge["maxUnavailable"]) != (spare, int(spare == 0)):
            wrong.append(f"{role} rolls out with {surge}")
    return wrong


def downloads_have_room(r: Rendered) -> list[str]:
    """An archive and what is unpacked out of it each have a volume of that size."""
    wrong = []
    for name, _, spec in r.pods:
        limits = {volume["name"]: volume.get("emptyDir", {}).get("sizeLimit") for volume in spec.get("volumes", [])}
        for container in spec.get("initContainers", []):
            told = {variable["name"]: variable["value"] for variable in container["env"]}
            volumes = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            room = [limits.get(volumes.get(told[place])) for place in ("TO", "ARCHIVE")]
            if told["TO"] == told["ARCHIVE"] or None in room or room[0] != room[1]:
                wrong.append(f"pod {name}: {container['name']} has the rooms {room} for {told}")
    return wrong


def names_lead_somewhere(r: Rendered) -> list[str]:
    """Selectors find pods, references find objects, scalers find their Deployment."""
    wrong = []
    every = [labels for _, labels, _ in r.pods]
    for kind, where in [("Service", ["selector"]), ("PodDisruptionBudget", ["selector", "matchLabels"]), ("NetworkPolicy", ["podSelector", "matchLabels"])]:
        for o in r.of(kind):
            wanted = o["spec"]
            for step in where:
                wanted = wanted[step]
            if not any(wanted.items() <= labels.items() for labels in every) and o["metadata"].get("labels", {}).get("app.kubernetes.io/part-of"):
                wrong.append(f"{kind} {o['metadata']['name']} selects no pod")
    for o in r.of("Deployment"):
        if not o["spec"]["selector"]["matchLabels"].keys() <= set(OURS):
            wrong.append(f"Deployment {o['metadata']['name']} selects by labels that may change")
    there = {(o["kind"], o["metadata"]["name"]) for o in r.objects}
    # What cert-manager will make, and what the values say is there.
    made = {("Secret", o["spec"]["secretName"]) for o in r.of("Certificate")}
    yours = {r.values["knowledge"]["existingSecret"], r.values["callers"]["existingSecret"], r.values["tests"]["tokenSecret"]}
    yours |= set(r.values["tls"]["existingSecrets"].values()) | {r.values["distillation"]["endpoint"]["existingSecret"]}
    for name, _, spec in r.pods:
        for volume in spec.get("volumes", []):
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in there:
                wrong.append(f"pod {name} mounts the ConfigMap {volume['configMap']['name']}, which is not there")
            secret = volume.get("secret", {}).get("secretName")
            if secret and ("Secret", secret) not in there | made and secret not in yours:
                wrong.append(f"pod {name} mounts the Secret {secret}, which nobody makes")
        if r.values["serviceAccount"]["create"] and ("ServiceAccount", spec["serviceAccountName"]) not in there:
            wrong.append(f"pod {name} runs as {spec['serviceAccountName']}, which is not there")
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        mounts = {m["name"] for c in spec["containers"] + spec.get("initContainers", []) for m in c.get("volumeMounts", [])}
        if volumes != mounts:
            wrong.append(f"pod {name} has the volumes {volumes} and mounts {mounts}")
    for o in r.of("Pod"):
        if "hook-succeeded" in o["metadata"]["annotations"]["helm.sh/hook-delete-policy"]:
            wrong.append(f"pod {o['metadata']['name']} is gone before `helm test --logs` of Helm 3 reads its log")
    for o in r.of("HorizontalPodAutoscaler") + r.of("ScaledObject"):
        target = o["spec"]["scaleTargetRef"]["name"]
        if ("Deployment", target) not in there:
            wrong.append(f"{o['kind']} scales {target}, which is not there")
        (deployment,) = [d for d in r.of("Deployment") if d["metadata"]["name"] == target]
        if "replicas" in deployment["spec"]:
            wrong.append(f"Deployment {target} is scaled, and sets its replicas too")
    hosts = {f"{o['metadata']['name']}.{o['metadata'].get('namespace', 'refract')}.svc" for o in r.of("Service")}
    config = r.config("ranker")["ranker"]
    for role in ("oracle", "prism"):
        target = config.get(role, {}).get("target", "")
        if role in r.roles and not any(target.startswith(f"dns:{host}.") and target.endswith(f":{PORTS[role][0]}") for host in hosts):
            wrong.append(f"the ranker dials {target} for the {role}, and no Service is there")
    return wrong


def calls_are_the_tables(r: Rendered) -> list[str]:
    """The network policies as a graph, against who may call whom; both ends of every call must agree."""
    v = r.values
    if not v["networkPolicy"]["enabled"]:
        return [] if not [o for o in r.of("NetworkPolicy") if COMPONENT in o["metadata"].get("labels", {})] else ["policies, though disabled"]
    dns = {("dns", 53)}
    may: dict[str, tuple[set, set]] = {"test": (set(), {("ranker", 7001)} | dns)}
    store = v["knowledge"]["store"]
    otlp = v["telemetry"].get("otlp_endpoint")
    for role in r.roles:
        data, admin = PORTS[role]
        callers = {("clients", data), ("test", data)} if role == "ranker" else {("ranker", data)}
        calls = set(dns) | {(other, PORTS[other][0]) for other in r.roles if other != "ranker"} if role == "ranker" else set()
        if role == "ranker" and store != "memory":
            external = v["knowledge"]["external"]
            ports = {external["port"]} | {int(seed.rpartition(":")[2]) for seed in external["seeds"] if ":" in seed}
            ports |= {external["sentinelPort"]} if external["mode"] == "sentinel" else set()
            calls |= {("store", 6379)} if store == "dev" else {("externalStore", port) for port in ports}
        for other in ("oracle", "prism", "outside") if role == "ranker" else ():
            target = v["ranker"]["config"].get(other, {}).get("target", "")
            calls |= {(f"elsewhere.{other}", int(place.rpartition(":")[2])) for place in target.split(",") if ":" in place}
        files = v[role]["data" if role == "ranker" else "bundle"]
        if files["source"] == "download":
            calls |= dns | {("downloads", port_of(files["download"]["url"]))}
        if otlp:
            calls |= dns | {("collector", port_of(otlp))}
        may[role] = (callers | {("monitoring", admin)}, calls)
    if store == "dev":
        may["store"] = ({("ranker", 6379)}, set())
    job = v["distillation"]
    if job["enabled"]:
        files = [v["ranker"]["data"]] + ([job["bundle"]] if job["teacher"] == "bundle" else [])
        calls = {("downloads", port_of(f["download"]["url"])) for f in files if f["source"] == "download"}
        if job["teacher"] == "oracle":
            calls |= {("oracle", 7002)}
            may["oracle"][0].add(("distillation", 7002))
        if job["teacher"] == "endpoint":
            calls |= {("endpoint", port_of(job["endpoint"]["url"]))}
        may["distillation"] = (set(), calls | (dns if calls else set()))

    # An empty list of peers is nobody.
    elsewhere = {f"elsewhere.{other}": peers for other, peers in v["networkPolicy"]["elsewhere"].items()}
    lists = v["networkPolicy"] | elsewhere | {"externalStore": v["knowledge"]["external"]["peers"], "endpoint": job["endpoint"]["peers"]}
    may = {who: tuple({call for call in calls if lists.get(call[0], True)} for calls in both) for who, both in may.items()}
    groups = {json.dumps(v["networkPolicy"][g], sort_keys=True): g for g in ("downloads", "clients")}
    groups[json.dumps(v["knowledge"]["external"]["peers"], sort_keys=True)] = "externalStore"
    groups |= {json.dumps(peers, sort_keys=True): name for name, peers in elsewhere.items() if peers}
    if job["enabled"]:
        groups[json.dumps(job["endpoint"]["peers"], sort_keys=True)] = "endpoint"

    def who(peers, direction):
        if peers is None:
            return "dns"
        labels = peers[0].get("podSelector", {}).get("matchLabels", {})
        if COMPONENT in labels and len(peers) == 1 and set(OURS) <= labels.keys():
            return labels[COMPONENT]
        text = json.dumps(peers, sort_keys=True)
        if text in groups:
            return groups[text]
        # The same peers by default: who scrapes, and where traces go.
        if peers == v["networkPolicy"]["monitoring"] and direction == "from":
            return "monitoring"
        return "collector" if peers == v["networkPolicy"]["collector"] else text

    wrong = []
    policies = {o["metadata"]["labels"][COMPONENT]: o["spec"] for o in r.of("NetworkPolicy") if COMPONENT in o["metadata"].get("labels", {})}
    for component in may.keys() | policies.keys():
        if component not in policies or component not in may:
            wrong.append(f"network policy: {component} is in one table only")
            continue
        spec = policies[component]
        if sorted(spec["policyTypes"]) != ["Egress", "Ingress"]:
            wrong.append(f"network policy of {component} leaves a direction open")
        for rules, key, wanted in [(spec.get("ingress"), "from", may[component][0]), (spec.get("egress"), "to", may[component][1])]:
            extra = v["networkPolicy"]["extraIngress" if key == "from" else "extraEgress"]
            extra = extra["all"] + extra.get(component, [])
            if rules[len(rules) - len(extra) :] != extra:
                wrong.append(f"network policy of {component}, {key}: it does not end with {extra}, but {rules}")
            got = {(who(rule.get(key), key), port["port"]) for rule in rules[: len(rules) - len(extra)] for port in rule["ports"]}
            if key == "from" and ("dns", 53) in got:
                wrong.append(f"network policy of {component} lets anybody in")
            if got != wanted:
                wrong.append(f"network policy of {component}, {key}: unexpected {sorted(got - wanted)}, missing {sorted(wanted - got)}")
    return wrong


def devices_are_those_asked_for(r: Rendered) -> list[str]:
    """With GPUs: the program is told as many as the pod gets; without, none. What one device cannot hold has room to meet. The cuda
    image runs where there is a driver, and nowhere else."""
    wrong = []
    image = r.values["image"]
    cuda = f"@{image['cuda']['digest']}" if image["cuda"]["digest"] else f":{image['cuda']['tag'] or '0.1.0-cuda'}"
    plain = f"@{image['digest']}" if image["digest"] else f":{image['tag'] or '0.1.0'}"
    for name, labels, spec in r.pods:
        component = labels[COMPONENT]
        if component != "store":
            wanted = image["repository"] + (cuda if r.values.get(component, {}).get("gpu", {}).get("enabled") else plain)
            if spec["containers"][0]["image"] != wanted:
                wrong.append(f"pod {name} runs {spec['containers'][0]['image']}, not {wanted}")
    for role in r.roles[1:]:
        gpu, worker = r.values[role]["gpu"], r.config(role)[role]["worker"]
        wanted = [f"cuda:{n}" for n in range(gpu["count"])] if gpu["enabled"] else []
        (deployment,) = r.component("Deployment", role)
        pod = deployment["spec"]["template"]["spec"]
        limits = pod["containers"][0]["resources"].get("limits", {})
        if worker.get("devices", []) != wanted:
            wrong.append(f"{role} is told the devices {worker.get('devices')}")
        if limits.get(gpu["resource"], 0) != len(wanted):
            wrong.append(f"{role} asks for {limits} and is told {wanted}")
        if wanted and not any(volume.get("emptyDir", {}).get("medium") == "Memory" for volume in pod["volumes"]):
            wrong.append(f"{role} has no shared memory for its GPUs")
    return wrong


def shards_are_disjoint_and_go_on(r: Rendered) -> list[str]:
    """The distillation Job: an index for each shard, a file for each index on a claim, no second writer, no blame for evictions."""
    wrong = []
    jobs = r.of("Job")
    if len(jobs) != r.values["distillation"]["enabled"]:
        wrong.append(f"{len(jobs)} Jobs")
    for spec in (job["spec"] for job in jobs):
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        told = dict(zip(container["args"][1::2], container["args"][2::2]))
        claims = {volume["name"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume and not volume["persistentVolumeClaim"].get("readOnly")}
        (labels,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in claims]
        for holds, what in [
            (spec["completionMode"] == "Indexed" and told["--shard"] == f"job/{spec['completions']}", "has other shards than indexes"),
            (told["--out"].startswith(labels + "/") and "$(JOB_COMPLETION_INDEX)" in told["--out"], f"writes to {told['--out']}"),
            (spec["podReplacementPolicy"] == "Failed", "may have two writers of one file"),
            (any(rule["action"] == "Ignore" for rule in spec["podFailurePolicy"]["rules"]), "counts evictions as failures"),
            (pod["restartPolicy"] == "Never", "restarts its containers itself"),
        ]:
            if not holds:
                wrong.append(f"the distillation Job {what}")
    return wrong


def every_hop_is_secured_or_none(r: Rendered) -> list[str]:
    """With TLS: each port, each call between services, both certificates, and the names that each side expects."""
    secured = r.values["tls"]["source"] != "none"
    wrong = []
    names = {o["metadata"]["labels"][COMPONENT]: o["spec"]["dnsNames"] for o in r.of("Certificate")}
    for role in r.roles:
        told = r.config(role)[role]
        if ("tls" in told["listen"]) != secured:
            wrong.append(f"{role}: TLS on the port is {told['listen'].get('tls')}")
        if role != "ranker" and secured:
            (found,) = r.component("ConfigMap", role)
            callers = [c["name"] for c in tomllib.loads(found["data"]["callers.toml"])["certificate"]]
            dial = r.config("ranker")["ranker"][role]["dial"]["tls"]
            if not told["listen"]["tls"].get("client_ca_file") or not dial.get("cert_file"):
                wrong.append(f"{role} is called without a certificate of the ranker")
            if names and (dial["server_name"] not in names[role] or not set(callers) <= set(names["ranker"])):
                wrong.append(f"{role} and the ranker expect other names than their certificates hold")
        for spec in (o["spec"] for o in r.component("Service", role)):
            grpc = [port for port in spec["ports"] if port["name"] == "grpc"]
            if any((port["appProtocol"] == "https") != secured for port in grpc):
                wrong.append(f"{role}: a Service announces another protocol than the port speaks")
    return wrong


def configuration_is_known(r: Rendered, rust: dict[str, rust_config.Key]) -> list[str]:
    """Every key that the chart writes is a key of the Rust structs, of a fitting type."""
    fits = {"string": str, "duration": str, "choice": str, "boolean": bool, "number": (int, float), "integer": int, "table": dict, "list": list}
    wrong = []

    def walk(path: str, value) -> None:
        key = rust.get(path)
        if key is None:
            wrong.append(f"refract.toml: the programs know no key {path}")
        elif not isinstance(value, fits[key.kind]) or (key.kind == "choice" and value not in key.choices):
            wrong.append(f"refract.toml: {path} = {value!r} is no {key.kind} {key.choices or ''}")
        elif isinstance(value, dict):
            for name, sub in value.items():
                walk(f"{path}.{name}", sub)

    for role in r.roles:
        for section, value in r.config(role).items():
            walk(section, value)
    return wrong
