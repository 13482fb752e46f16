"""The Kubernetes manifests: valid, restricted, complete, and their configurations are ones that our programs take."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from telemetryx.api.metrics import Metric
from tests.harness import commands
from tests.harness.processes import PATIENCE
from tests.harness.stack import AGENT, ROOT
from tests.packaging import kustomize
from tests.packaging.kustomize import Manifest

FOLDER = ROOT / "packaging/kubernetes"
OVERLAYS = ("single-node", "production")
RENDERED = {name: kustomize.build(FOLDER / "overlays" / name) for name in OVERLAYS}
#: An older release that people still run, and the newest that the validator knows.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
Workload = tuple[str, Manifest]

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def named(overlay: str, kind: str, name: str) -> Manifest:
    """Return one manifest of an overlay."""
    found = [one for one in RENDERED[overlay] if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind} {name}"
    return found[0]


def workloads(overlay: str) -> Iterator[tuple[Manifest, Manifest]]:
    """Give what runs pods, with its pods' spec."""
    for manifest in RENDERED[overlay]:
        if manifest["kind"] in {"Deployment", "DaemonSet"}:
            yield manifest, manifest["spec"]["template"]["spec"]


@every_overlay
@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_what_kubernetes_takes(overlay: str, version: str) -> None:
    """By the schemas of an older and of the newest release; a key that there isn't is an error."""
    kinds = set()
    for manifest in RENDERED[overlay]:
        kubernetes_validate.validate(manifest, version, strict=True)
        kinds.add(manifest["kind"])
    assert {"Deployment", "DaemonSet", "Service", "NetworkPolicy", "ConfigMap", "Namespace"} <= kinds


@every_overlay
def test_the_overlays_mean_the_same_to_kustomize(overlay: str) -> None:
    """Our small renderer, which the other tests use, gives what the tool of everybody gives."""
    tool = shutil.which("kustomize")
    if tool is None:
        pytest.skip("kustomize isn't installed (go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.1)")
    said = subprocess.run(
        [tool, "build", FOLDER / "overlays" / overlay],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    ).stdout
    for full, name in set(re.findall(r"\b((telemetryx-(?:agent|collector))-[bcdfghkmt2456789]{10})\b", said)):
        said = said.replace(full, f"{name}-hash")
    theirs = list(yaml.safe_load_all(said))

    def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
        return {(one["kind"], one["metadata"]["name"]): _sorted(one) for one in manifests}

    assert by_name(theirs) == by_name(RENDERED[overlay])


def _sorted(value: Any) -> Any:
    """Order lists of named things: where in its list a patch adds one says nothing."""
    if isinstance(value, dict):
        return {key: _sorted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
    return value


@every_overlay
def test_every_container_is_restricted(overlay: str) -> None:
    """No root, no capability, no way to more rights, nothing to write but volumes; one step before an agent may give away a folder."""
    for manifest, pod in workloads(overlay):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert "cpu" not in container["resources"]["limits"], "a throttled intake is a slow one"
        first, second = pod.get("initContainers", (None, None))
        assert (first is None) == (manifest["kind"] == "Deployment")
        if first is not None:
            assert first["command"][0] == "/bin/chown"
            assert first["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
            assert second["securityContext"] == pod["containers"][0]["securityContext"]


@every_overlay
def test_what_a_host_shows_is_read_only(overlay: str) -> None:
    """Of the node's folders an agent may write its own alone; the collector sees none."""
    for manifest, pod in workloads(overlay):
        host = {
            volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume
        }
        if manifest["kind"] == "Deployment":
            assert host == {}
            continue
        mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        writable = {path for name, path in host.items() if not mounts[name].get("readOnly")}
        assert writable == {"/var/lib/telemetryx/agent"}
        assert {"/proc", "/sys", "/"} <= set(host.values())


@every_overlay
def test_every_reference_leads_somewhere(overlay: str) -> None:
    """Selectors meet their pods, mounts their volumes, ports their names, ConfigMaps and claims are there; Secrets are the documented ones."""
    made = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in RENDERED[overlay]
    }
    page = (ROOT / "docs/how-to/kubernetes.md").read_text()
    ports: dict[str, set[str]] = {}
    for manifest, pod in workloads(overlay):
        namespace = manifest["metadata"]["namespace"]
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()
        ports[labels["app.kubernetes.io/name"]] = {
            port["name"] for container in pod["containers"] for port in container.get("ports", ())
        }
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", namespace, volume["configMap"]["name"]) in made
            if "persistentVolumeClaim" in volume:
                assert (
                    "PersistentVolumeClaim",
                    namespace,
                    volume["persistentVolumeClaim"]["claimName"],
                ) in made
            if "secret" in volume:
                assert f"secret generic {volume['secret']['secretName']} " in page
                assert volume["secret"]["defaultMode"] == 0o400
        assert ("ServiceAccount", namespace, pod["serviceAccountName"]) in made
    for manifest in RENDERED[overlay]:
        if manifest["kind"] == "Service":
            selected = manifest["spec"]["selector"]["app.kubernetes.io/name"]
            assert {port["targetPort"] for port in manifest["spec"]["ports"]} <= ports[selected]


@every_overlay
def test_the_configurations_are_ones_that_the_programs_take(overlay: str, tmp_path: Path) -> None:
    """Each key is known, TLS and tokens are set where others can connect, and the files named are mounted."""
    for manifest, pod in workloads(overlay):
        container = pod["containers"][0]
        env = {one["name"]: one.get("value") for one in container["env"]}
        config = next(value for name, value in env.items() if name.endswith("_CONFIG"))
        folder, _, file = str(config).rpartition("/")
        assert folder in {mount["mountPath"] for mount in container["volumeMounts"]}
        text = next(
            one["data"][file]
            for one in RENDERED[overlay]
            if one["kind"] == "ConfigMap"
            and one["metadata"]["namespace"] == manifest["metadata"]["namespace"]
        )
        (tmp_path / file).write_text(text)
        if file == "collector.toml":
            command = [sys.executable, "-m", "telemetryx", "config", "check", "--alone", str(tmp_path / file)]
        else:
            # The files that it names are only in the cluster; that they are missing is all that it may find.
            command = [str(AGENT), "check", "--config", str(tmp_path / file)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        problems = [line for line in checked.stderr.splitlines() if "/etc/telemetryx/secret/" not in line]
        assert checked.returncode == 0 or not [line for line in problems if line.startswith(str(tmp_path))], (
            checked.stderr
        )
        for path in re.findall(r'(?:"|sslrootcert=)(/(?:etc|var|host)/[^"&]+)"', text):
            assert any(path.startswith(mount["mountPath"]) for mount in container["volumeMounts"]), path


def test_the_collector_is_ready_when_its_store_is_and_alive_while_it_answers() -> None:
    """A database that is away takes a pod out of the service, and restarts none."""
    (container,) = named("production", "Deployment", "telemetryx-collector")["spec"]["template"]["spec"][
        "containers"
    ]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def test_the_autoscaler_asks_for_a_metric_that_the_collector_exposes() -> None:
    """And the adapter's rule makes it of the same name."""
    scaler = named("production", "HorizontalPodAutoscaler", "telemetryx-collector")
    (metric,) = [one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"]]
    assert metric == Metric.INGEST_LAG.value.full_name
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["matches"] == metric
    assert rule["seriesQuery"].startswith(f"{metric}{{")
    assert "replicas" not in named("production", "Deployment", "telemetryx-collector")["spec"]


def test_a_network_policy_closes_what_no_other_opens() -> None:
    """The collector's namespace denies by default; agents get in where they send and where they join, and nowhere else."""
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in RENDERED["single-node"]
        if one["kind"] == "NetworkPolicy" and one["metadata"]["namespace"] == "telemetryx"
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    doors = {
        port["port"]
        for rule in policies["telemetryx-collector"]["ingress"]
        for port in rule["ports"]
        if "telemetryx-agents" in str(rule["from"])
    }
    assert doors == {"grpc", "https"}


@every_overlay
def test_a_node_joins_before_its_agent_runs_and_keeps_what_it_got(overlay: str) -> None:
    """By a token from a Secret that it needs once, under the node's name, into the folder that outlives the pod."""
    pod = named(overlay, "DaemonSet", "telemetryx-agent")["spec"]["template"]["spec"]
    (agent,), enrol = pod["containers"], pod["initContainers"][-1]
    word, address, *options = enrol["args"]
    assert commands.agent().commands[word].options >= {option.partition("=")[0] for option in options}
    assert "--if-needed" in options
    config = next(
        one["data"]["collector.toml"]
        for one in RENDERED[overlay]
        if one["kind"] == "ConfigMap" and "collector.toml" in one["data"]
    )
    host = address.removeprefix("https://").removesuffix(":8420")
    assert f'"{host}"' in config
    assert named(overlay, "Service", "telemetryx-collector")
    assert enrol["env"] == agent["env"]
    (secret,) = [volume for volume in pod["volumes"] if "secret" in volume]
    assert secret["secret"]["optional"] is True
    assert secret["name"] not in {mount["name"] for mount in agent["volumeMounts"]}
    mounts = {mount["name"]: mount for mount in enrol["volumeMounts"]}
    assert f"--token-file={mounts[secret['name']]['mountPath']}/token" in options
    assert mounts["data"] in agent["volumeMounts"]


@every_overlay
def test_every_collector_signs_with_the_authority_of_one_secret(overlay: str) -> None:
    """It lies where the configuration looks for it, in a folder that a collector may write its own certificate to."""
    pod = named(overlay, "Deployment", "telemetryx-collector")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    folder = "/var/lib/telemetryx/ca"
    assert "emptyDir" in volumes[mounts[folder]["name"]]
    for file in ("ca.key", "ca.pem"):
        mount = mounts[f"{folder}/{file}"]
        assert (mount["subPath"], mount["readOnly"]) == (file, True)
        assert volumes[mount["name"]]["secret"]["secretName"] == "telemetryx-authority"


def test_the_renderer_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    """An overlay that used more than is rendered would be tested for less than it means."""
    (tmp_path / "kustomization.yaml").write_text("resources: []\nnamePrefix: x-\n")
    with pytest.raises(kustomize.KustomizeError, match="namePrefix"):
        kustomize.build(tmp_path)
