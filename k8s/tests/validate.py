"""Validates rendered manifests against the API schemas of the newest Kubernetes versions that the validator knows.

validate.py FILE...
"""

import sys
from pathlib import Path

import kubernetes_validate
import yaml

NEWEST = 3
# Custom resources, which no Kubernetes version brings a schema for.
CUSTOM = {"monitoring.coreos.com/v1"}


def newest_versions():
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    found = {tuple(map(int, path.name[1:].split("-")[0].split("."))) for path in folder.glob("v*-local")}
    return [f"{major}.{minor}" for major, minor, _ in sorted(found)[-NEWEST:]]


def main(files):
    failed = 0
    versions = newest_versions()
    for file in files:
        objects = [each for each in yaml.safe_load_all(Path(file).read_text(encoding="utf-8")) if each]
        known = [each for each in objects if each["apiVersion"] not in CUSTOM]
        for version in versions:
            for item in known:
                try:
                    kubernetes_validate.validate(item, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    failed += 1
                    path = ".".join(map(str, error.path))
                    print(f"{file}: {item['kind']}/{item['metadata']['name']} on {version}: {path}: {error.message}")
        print(f"{Path(file).stem}: {len(known)} of {len(objects)} objects checked against {', '.join(versions)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
