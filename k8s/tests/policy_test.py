"""The policy finds what is wrong: each test breaks good manifests in one way and names the finding."""

import copy
import os
import sys
import unittest

import yaml

sys.path.insert(0, os.path.dirname(__file__))
import policy  # noqa: E402

# Rendered overlays, as k8s/tests/run.sh leaves them.
RENDERED = os.environ["RENDERED"]


def overlay(name):
    with open(os.path.join(RENDERED, f"{name}.yaml"), encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))


class Broken(unittest.TestCase):
    def setUp(self):
        self.objects = copy.deepcopy(overlay("production"))

    def item(self, kind, name):
        return next(each for each in self.objects if (each["kind"], each["metadata"]["name"]) == (kind, name))

    def pod(self, kind, name):
        return policy.pod_of(self.item(kind, name))["spec"]

    def finds(self, words):
        found = policy.findings(self.objects)
        self.assertTrue(any(words in finding for finding in found), f"{words!r} is not in {found}")

    def test_good_manifests_have_no_finding(self):
        for name in ("k3d", "production", "everything"):
            self.assertEqual(policy.findings(overlay(name)), [], name)

    def test_root_is_found(self):
        self.pod("StatefulSet", "datanode")["securityContext"]["runAsNonRoot"] = False
        self.finds("may run as root")

    def test_a_missing_probe_is_found(self):
        del self.pod("Deployment", "gateway")["containers"][0]["readinessProbe"]
        self.finds("has no readinessProbe")

    def test_a_probe_on_a_closed_port_is_found(self):
        self.pod("StatefulSet", "namenode")["containers"][0]["startupProbe"]["grpc"]["port"] = 9001
        self.finds("which it does not open")

    def test_missing_resources_are_found(self):
        del self.pod("StatefulSet", "namenode")["containers"][0]["resources"]["limits"]
        self.finds("has no limit of memory")

    def test_a_floating_tag_is_found(self):
        container = self.pod("StatefulSet", "namenode")["containers"][0]
        for image in ("richardstore", "richardstore:latest", "registry:5000/richardstore"):
            container["image"] = image
            self.finds("is not one version")

    def test_data_in_an_empty_dir_is_found(self):
        spec = self.item("StatefulSet", "datanode")["spec"]
        spec["volumeClaimTemplates"] = []
        spec["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
        self.finds("in an emptyDir")
        self.finds("has no claim at /data")

    def test_a_selector_that_selects_nothing_is_found(self):
        self.item("Service", "gateway")["spec"]["selector"]["app.kubernetes.io/component"] = "gatewy"
        self.finds("Service/gateway: selects nothing")

    def test_a_service_port_without_a_container_is_found(self):
        self.item("Service", "datanode")["spec"]["ports"][0]["targetPort"] = "http"
        self.finds("is opened by no container")

    def test_a_path_that_is_needed_and_closed_is_found(self):
        self.item("NetworkPolicy", "namenode")["spec"]["ingress"][0]["ports"][0]["port"] = 9001
        self.finds("gateway does not reach namenode")

    def test_a_path_that_is_open_to_strangers_is_found(self):
        del self.item("NetworkPolicy", "datanode")["spec"]["ingress"][0]["from"]
        self.finds("stranger reaches datanode")

    def test_no_way_to_the_names_is_found(self):
        del self.item("NetworkPolicy", "default")["spec"]["egress"][1]
        self.finds("cannot ask for names")

    def test_claims_that_go_with_the_set_are_found(self):
        del self.item("StatefulSet", "namenode")["spec"]["persistentVolumeClaimRetentionPolicy"]
        self.finds("does not keep its claims")


if __name__ == "__main__":
    unittest.main()
