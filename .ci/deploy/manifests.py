"""The manifests of Kubernetes: valid by the schemas of several versions, locked down, and with settings that the sidecar
takes."""

import copy
import os
import subprocess
import tempfile

import kubernetes_validate
import yaml
from common import DEPLOY, ROOT, check

# The first version with native sidecars, the one in which they are stable, and the newest that is known.
VERSIONS = ["1.29.0", "1.33.0", kubernetes_validate.latest_version()]
KINDS = {
    "deployment": ["ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"],
    "sidecar": ["ConfigMap", "Deployment", "PersistentVolumeClaim"],
}


def check_overlay(name):
    """Returns the sidecar's container."""
    built = subprocess.run(
        ["kubectl", "kustomize", f"{DEPLOY}/kubernetes/{name}"], check=True, capture_output=True, text=True
    )
    documents = list(yaml.safe_load_all(built.stdout))
    check(sorted(it["kind"] for it in documents) == KINDS[name], f"{name} is not made of {KINDS[name]}")
    for document in documents:
        for version in VERSIONS:
            check_schema(name, document, version)
    by_kind = {it["kind"]: it for it in documents}
    deployment = by_kind["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    place = "containers" if name == "deployment" else "initContainers"
    (container,) = (it for it in pod[place] if it["name"] == "kling-balancer")
    check((container.get("restartPolicy") == "Always") == (name == "sidecar"), f"{name}: it is no sidecar")
    check_rules(name, deployment, pod, container)
    settings = by_kind["ConfigMap"]
    check(container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}], f"{name}: other settings")
    check_mounts(name, pod, container, settings["data"], by_kind["PersistentVolumeClaim"]["metadata"]["name"])
    check_settings(name, settings["data"])
    if name == "deployment":
        check_service(by_kind["Service"], deployment, container)
    return container


def check_schema(name, document, version):
    """Members that the schema does not know are mistakes, too."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = "".join(f"[{it}]" if isinstance(it, int) else f".{it}" for it in error.path)
        check(False, f"{name}, {document['kind']}{place}, Kubernetes {version}: {error.message}")


def check_rules(name, deployment, pod, container):
    """Pod Security Standards, "restricted", and what the sidecar needs."""
    locked = container["securityContext"]
    check(locked["runAsNonRoot"] and locked["runAsUser"] == 65532, f"{name} runs as root")
    check(locked["allowPrivilegeEscalation"] is False, f"{name} may get more rights")
    check(locked["capabilities"] == {"drop": ["ALL"]}, f"{name} has capabilities")
    check(locked["seccompProfile"] == {"type": "RuntimeDefault"}, f"{name} may make any system call")
    check(locked["readOnlyRootFilesystem"], f"{name} may change its image")
    check(deployment["replicas"] == 1 and deployment["strategy"] == {"type": "Recreate"}, f"{name}: two use one state")
    check(pod["securityContext"]["fsGroup"] == locked["runAsUser"], f"{name} cannot write to its volume")
    check("readinessProbe" not in container and "lifecycle" not in container, f"{name} is taken away from its clients")
    check(container["startupProbe"]["httpGet"]["path"] == "/readyz", f"{name} starts before it is ready")
    check(container["livenessProbe"]["httpGet"]["path"] == "/livez", f"{name} restarts when the upstream is away")
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe"):
        check(container[probe]["httpGet"]["port"] in ports, f"{name}: the {probe} asks a port that is not there")
    check("memory" in container["resources"]["limits"], f"{name} may take all memory")
    check("registry" in container["image"] and ":" in container["image"], f"{name}: the image is not pinned")
    if name == "deployment":
        check(pod["automountServiceAccountToken"] is False, f"{name} has a token of the cluster")


def check_mounts(name, pod, container, settings, claim):
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    state = os.path.dirname(settings["KLB_STATE__PATH"])
    check(mounts[state]["persistentVolumeClaim"]["claimName"] == claim, f"{name}: the leases are lost with the pod")
    for key, value in settings.items():
        if key.endswith("_FILE"):
            check("secret" in mounts[os.path.dirname(value)], f"{name}: {key} is in no Secret")
    metrics = settings["KLB_METRICS__LISTEN"].rpartition(":")[2]
    check(int(metrics) in [port["containerPort"] for port in container["ports"]], f"{name}: no port of metrics")
    grace = int(settings["KLB_SHUTDOWN__GRACE"].removesuffix("s"))
    check(pod["terminationGracePeriodSeconds"] > grace, f"{name} is killed while it drains")


def check_settings(name, settings):
    """The sidecar takes them, with the Secret in place, whatever a Service called klb injects."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {"KLB_SERVICE_HOST": "10.0.0.1", "KLB_PORT": "tcp://10.0.0.1:8080", **settings}
        for key, value in settings.items():
            if key.endswith("_FILE"):
                environment[key] = f"{directory}/{os.path.basename(value)}"
                open(environment[key], "w").write("user:1-check-of-deploy\n")
        command = [f"{ROOT}/target/debug/kling-balancer", "check-config"]
        checked = subprocess.run(command, env=environment, capture_output=True, text=True)
        said = checked.stdout + checked.stderr
        check(checked.returncode == 0 and "warning" not in said, f"the settings of {name}: {said}")


def check_service(service, deployment, container):
    spec = service["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    check(spec["selector"].items() <= labels.items(), "the Service finds no pod")
    check(spec["publishNotReadyAddresses"], "the Service refuses calls while the upstream is away at the start")
    ports = {port["name"] for port in container["ports"]}
    check(all(port["targetPort"] in ports for port in spec["ports"]), "the Service calls a port that is not there")


def check_all():
    containers = [copy.deepcopy(check_overlay(name)) for name in KINDS]
    for container in containers:
        container.pop("restartPolicy", None)
        container.pop("ports")
        container.pop("envFrom")
        for probe in ("startupProbe", "livenessProbe"):
            container[probe]["httpGet"].pop("port")
    one, other = containers
    check(one == other, "the containers of deployment and sidecar differ")
    print(f"kubernetes: {', '.join(KINDS)} are valid for {', '.join(VERSIONS)}")
