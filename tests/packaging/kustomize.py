"""Renders our overlays as `kustomize build` does, for machines without it: what they use of Kustomize, and nothing else.

A key that isn't known here is refused, so that an overlay can't mean more than what is tested. Where `kustomize` is installed
a test compares both, but for the hash in a ConfigMap's name.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

#: By which key Kubernetes tells the entries of a list apart, where a patch names one.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
_CLUSTER_WIDE = {"Namespace"}
_KNOWN = {
    *("apiVersion", "kind", "namespace", "labels", "resources", "configMapGenerator", "patches", "images"),
}


class KustomizeError(Exception):
    """The overlay uses what this renderer doesn't know, or names what isn't there."""


def build(folder: Path) -> list[Manifest]:
    """Render the kustomization in a folder."""
    made = _Build(folder).made
    names = {config["metadata"]["name"]: _hashed(config) for config in made if config["kind"] == "ConfigMap"}
    for manifest in made:
        for pod in _pod_specs(manifest):
            for volume in pod.get("volumes", ()):
                name = volume.get("configMap", {}).get("name")
                if name is not None:
                    volume["configMap"]["name"] = names[name]
        if manifest["kind"] == "ConfigMap":
            manifest["metadata"]["name"] = names[manifest["metadata"]["name"]]
    return made


def _hashed(config: Manifest) -> str:
    return f"{config['metadata']['name']}-hash"


def _pod_specs(manifest: Manifest) -> Iterator[Manifest]:
    template = manifest.get("spec", {}).get("template")
    if template is not None:
        yield template["spec"]


class _Build:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Manifest] = []
        said = yaml.safe_load((folder / "kustomization.yaml").read_text())
        if unknown := set(said) - _KNOWN:
            raise KustomizeError(f"{folder}: {sorted(unknown)} aren't known to this renderer")
        for resource in said.get("resources", ()):
            path = folder / resource
            self.made += _Build(path).made if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
        for generator in said.get("configMapGenerator", ()):
            self._generate(**generator)
        for patch in said.get("patches", ()):
            self._patch(**patch)
        for manifest in self.made:
            self._transform(manifest, said)

    def _generate(
        self, name: str, files: list[str], namespace: str | None = None, behavior: str = "create"
    ) -> None:
        data = {file: (self.folder / file).read_text() for file in files}
        if behavior == "create":
            metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
            self.made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        elif behavior == "replace":
            self._find("ConfigMap", name, namespace)["data"] = data
        else:
            raise KustomizeError(f"behavior {behavior} isn't known to this renderer")

    def _find(self, kind: str, name: str, namespace: str | None) -> Manifest:
        for manifest in self.made:
            metadata = manifest["metadata"]
            if (manifest["kind"], metadata["name"], metadata.get("namespace")) == (kind, name, namespace):
                return manifest
        raise KustomizeError(f"{self.folder}: there is no {kind} {name} in {namespace}")

    def _patch(self, path: str) -> None:
        patch = yaml.safe_load((self.folder / path).read_text())
        metadata = patch["metadata"]
        _merge(self._find(patch["kind"], metadata["name"], metadata.get("namespace")), patch)

    @staticmethod
    def _transform(manifest: Manifest, said: Manifest) -> None:
        metadata = manifest["metadata"]
        if "namespace" in said and manifest["kind"] not in _CLUSTER_WIDE:
            metadata["namespace"] = said["namespace"]
        for labels in said.get("labels", ()):
            metadata.setdefault("labels", {}).update(labels["pairs"])
        for pod in _pod_specs(manifest):
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                for image in said.get("images", ()):
                    if container["image"] == image["name"]:
                        container["image"] = f"{image['newName']}:{image['newTag']}"


def _merge(into: Manifest, patch: Manifest) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, list) and key in _MERGE_KEYS and key in into:
            _merge_list(into[key], value, _MERGE_KEYS[key])
        else:
            into[key] = deepcopy(value)


def _merge_list(into: list[Manifest], patch: list[Manifest], by: str) -> None:
    added: list[Manifest] = []
    for entry in patch:
        met = [one for one in into if one[by] == entry[by]]
        if met:
            _merge(met[0], entry)
        else:
            added.append(deepcopy(entry))
    into[:0] = added
