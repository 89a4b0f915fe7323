"""What every rendered set of manifests has to keep, beyond what the API server checks.

`findings(objects)` returns one sentence for each thing that is wrong; nothing here reads a file or a clock.
"""

RICHARDSTORE_PORTS = {"namenode": 9000, "datanode": 9001, "gateway": 8080}
WORKLOADS = {"Deployment", "StatefulSet", "CronJob"}
# Who has to reach whom, by component. Everyone has to reach the gateway; nobody else may reach the rest.
NEEDED = {
    ("gateway", "namenode"),
    ("datanode", "namenode"),
    ("gateway", "datanode"),
    ("datanode", "datanode"),
    ("gateway", "gateway"),
    ("datanode", "gateway"),
    ("namenode", "gateway"),
    ("stranger", "gateway"),
}
COMPONENTS = ("namenode", "datanode", "gateway")


def findings(objects):
    """Everything that is wrong with `objects`, as sentences."""
    found = []
    for item in objects:
        found += [f"{name_of(item)}: {finding}" for finding in object_findings(item)]
    found += whole_findings(objects)
    return found


def name_of(item):
    return f"{item['kind']}/{item['metadata']['name']}"


def object_findings(item):
    kind = item["kind"]
    found = []
    if kind != "Namespace" and item["metadata"].get("namespace") != "richardstore":
        found.append("is not in the namespace richardstore")
    if kind == "Namespace":
        labels = item["metadata"].get("labels", {})
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            found.append("does not enforce the restricted level")
    if kind in WORKLOADS:
        found += pod_findings(pod_of(item)["spec"], kind)
    if kind in {"StatefulSet", "Deployment"}:
        selector = item["spec"]["selector"]["matchLabels"]
        if not matches(selector, labels_of(item)):
            found.append("does not select its own pods")
    if kind == "StatefulSet":
        found += volume_findings(item)
    if kind == "CronJob":
        found += job_findings(item["spec"])
    return found


def pod_of(workload):
    spec = workload["spec"]
    return spec["jobTemplate"]["spec"]["template"] if workload["kind"] == "CronJob" else spec["template"]


def labels_of(workload):
    return pod_of(workload)["metadata"].get("labels", {})


def matches(selector, labels):
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def pod_findings(pod, kind):
    found = []
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        found.append("may run as root")
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("has no seccomp profile")
    if kind != "CronJob" and pod.get("automountServiceAccountToken") is not False:
        found.append("is given a token of the API server that it has no use for")
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(shared):
            found.append(f"has {shared}")
    for volume in pod.get("volumes", []):
        if "hostPath" in volume:
            found.append(f"mounts the host's {volume['hostPath'].get('path')}")
    for container in pod.get("initContainers", []) + pod["containers"]:
        prefix = f"container {container['name']} "
        found += [prefix + finding for finding in container_findings(container, kind)]
    return found


def container_findings(container, kind):
    found = []
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        found.append("may gain privileges")
    if security.get("readOnlyRootFilesystem") is not True:
        found.append("may write to its root filesystem")
    if security.get("capabilities", {}).get("drop") != ["ALL"] or security["capabilities"].get("add"):
        found.append("keeps capabilities")
    if security.get("privileged") or security.get("runAsUser") == 0:
        found.append("is privileged")
    resources = container.get("resources", {})
    for amount in ("cpu", "memory"):
        if amount not in resources.get("requests", {}):
            found.append(f"requests no {amount}")
    if "memory" not in resources.get("limits", {}):
        found.append("has no limit of memory")
    tag = container["image"].rsplit("/", 1)[-1].partition(":")[2]
    if tag in ("", "latest"):
        found.append(f"runs {container['image']}, which is not one version")
    if kind != "CronJob":
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            found += probe_findings(container, probe)
    return found


def probe_findings(container, name):
    probe = container.get(name)
    if not probe:
        return [f"has no {name}"]
    known = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    for how in ("httpGet", "tcpSocket", "grpc"):
        port = probe.get(how, {}).get("port")
        if port is not None and port not in known and port not in known.values():
            return [f"has a {name} on port {port}, which it does not open"]
    return []


def volume_findings(stateful_set):
    found = []
    spec = stateful_set["spec"]
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    if "data" not in claims:
        found.append("has no claim `data`")
    for claim in spec.get("volumeClaimTemplates", []):
        if not claim["spec"].get("resources", {}).get("requests", {}).get("storage"):
            found.append(f"claim {claim['metadata']['name']} asks for no storage")
    retention = spec.get("persistentVolumeClaimRetentionPolicy", {})
    if (retention.get("whenDeleted"), retention.get("whenScaled")) != ("Retain", "Retain"):
        found.append("does not keep its claims")
    for volume in spec["template"]["spec"].get("volumes", []):
        if "emptyDir" in volume:
            found.append(f"keeps {volume['name']} in an emptyDir")
    for container in spec["template"]["spec"]["containers"]:
        mounted = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
        if mounted.get("/data") not in claims:
            found.append("has no claim at /data")
    return found


def job_findings(spec):
    found = []
    if spec.get("concurrencyPolicy") != "Forbid":
        found.append("may run beside itself")
    if "activeDeadlineSeconds" not in spec["jobTemplate"]["spec"]:
        found.append("may run for ever")
    if spec["jobTemplate"]["spec"].get("backoffLimit") != 0:
        found.append("is tried again after it failed, which hides the failure")
    return found


def whole_findings(objects):
    workloads = [item for item in objects if item["kind"] in WORKLOADS]
    present = {labels_of(item).get("app.kubernetes.io/component") for item in workloads}
    found = [f"there is no {component}" for component in COMPONENTS if component not in present]
    for item in objects:
        if item["kind"] == "Service":
            found += service_findings(item, workloads)
        if item["kind"] in {"PodDisruptionBudget", "NetworkPolicy"}:
            key = "selector" if item["kind"] == "PodDisruptionBudget" else "podSelector"
            selector = item["spec"][key].get("matchLabels", {})
            if selector and not any(matches(selector, labels_of(each)) for each in workloads):
                found.append(f"{name_of(item)}: selects nothing")
        if item["kind"] == "StatefulSet":
            found += headless_findings(item, objects)
        if item["kind"] == "ServiceMonitor":
            found += monitor_findings(item, objects)
    budgets = [item["spec"]["selector"]["matchLabels"] for item in objects if item["kind"] == "PodDisruptionBudget"]
    for item in workloads:
        if item["kind"] != "CronJob" and not any(matches(budget, labels_of(item)) for budget in budgets):
            found.append(f"{name_of(item)}: has no disruption budget")
    if all(component in present for component in COMPONENTS):
        found += network_findings(objects, workloads)
    return found


def service_findings(service, workloads):
    selected = [item for item in workloads if matches(service["spec"]["selector"], labels_of(item))]
    if not selected:
        return [f"{name_of(service)}: selects nothing"]
    found = []
    for port in service["spec"]["ports"]:
        target = port.get("targetPort", port["port"])
        for item in selected:
            containers = pod_of(item)["spec"]["containers"]
            opened = [each for container in containers for each in container.get("ports", [])]
            if not any(target in (each["name"], each["containerPort"]) for each in opened):
                found.append(f"{name_of(service)}: port {target} is opened by no container of {name_of(item)}")
    return found


def headless_findings(stateful_set, objects):
    name = stateful_set["spec"]["serviceName"]
    services = [item for item in objects if item["kind"] == "Service" and item["metadata"]["name"] == name]
    if not services or services[0]["spec"].get("clusterIP") != "None":
        return [f"{name_of(stateful_set)}: {name} is not a headless service"]
    if services[0]["spec"].get("publishNotReadyAddresses") is not True:
        return [f"{name_of(stateful_set)}: {name} hides pods that are not ready yet"]
    return []


def monitor_findings(monitor, objects):
    selector = monitor["spec"]["selector"].get("matchLabels", {})
    services = [
        item
        for item in objects
        if item["kind"] == "Service" and matches(selector, item["metadata"].get("labels", {}))
    ]
    if not services:
        return [f"{name_of(monitor)}: selects no service"]
    asked = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
    return [
        f"{name_of(monitor)}: asks {name_of(service)} nothing"
        for service in services
        if not asked & {port["name"] for port in service["spec"]["ports"]}
    ]


def network_findings(objects, workloads):
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    pods = {labels_of(item)["app.kubernetes.io/component"]: item for item in workloads}
    labels = {component: labels_of(item) for component, item in pods.items()}
    labels["stranger"] = {"app": "stranger"}
    needed = set(NEEDED)
    if "drill" in pods:
        needed |= {("drill", "gateway")}
    found = []
    for source in labels:
        if not leaves(policies, labels[source], 53):
            found.append(f"{source} cannot ask for names")
        for target in COMPONENTS:
            port = RICHARDSTORE_PORTS[target]
            open_now = enters(policies, labels[source], labels[target], port, named_ports(pods[target]))
            open_now = open_now and leaves(policies, labels[source], port, labels[target])
            allowed = (source, target) in needed
            if open_now and not allowed and source != "drill":
                found.append(f"{source} reaches {target}")
            if allowed and not open_now:
                found.append(f"{source} does not reach {target}")
    return found


def named_ports(workload):
    containers = pod_of(workload)["spec"]["containers"]
    return {port["name"]: port["containerPort"] for container in containers for port in container.get("ports", [])}


def applying(policies, labels, direction):
    return [
        policy
        for policy in policies
        if direction in policy["policyTypes"] and covers(policy["podSelector"], labels)
    ]


def covers(selector, labels):
    """An empty selector covers every pod. Expressions are not used here, and would be a finding."""
    assert set(selector) <= {"matchLabels"}, f"not understood: {selector}"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def enters(policies, source, target, port, names):
    chosen = applying(policies, target, "Ingress")
    rules = [rule for policy in chosen for rule in policy.get("ingress", [])]
    return not chosen or any(rule_allows(rule, "from", source, port, names) for rule in rules)


def leaves(policies, source, port, target=None):
    chosen = applying(policies, source, "Egress")
    rules = [rule for policy in chosen for rule in policy.get("egress", [])]
    return not chosen or any(rule_allows(rule, "to", target, port, {}) for rule in rules)


def rule_allows(rule, side, peer, port, names):
    ports = [names.get(each["port"], each["port"]) for each in rule.get("ports", [])]
    if ports and port not in ports:
        return False
    peers = rule.get(side)
    if not peers:
        return True
    return peer is not None and any(
        set(each) == {"podSelector"} and covers(each["podSelector"], peer) for each in peers
    )
