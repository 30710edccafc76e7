"""The Python client against a cluster with a node, named by KUBECONFIG."""

import datetime
import threading
import time
import unittest

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.informer import SharedInformer
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from kubernetes.stream import portforward, stream

NAMESPACE = "default"
PATIENCE = 30


def setUpModule():
    config.load_kube_config()
    until("a service account", lambda: client.CoreV1Api().list_namespaced_service_account(NAMESPACE).items)


def until(what, look):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not so after {PATIENCE} s: {what}")


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"of": name}), data=data)


def deployment(name, replicas):
    container = client.V1Container(name="main", image="coracle/echo", ports=[client.V1ContainerPort(container_port=80)])
    labels = {"app": name}
    return client.V1Deployment(
        metadata=client.V1ObjectMeta(name=name),
        spec=client.V1DeploymentSpec(
            replicas=replicas,
            selector=client.V1LabelSelector(match_labels=labels),
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels=labels),
                spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=0),
            ),
        ),
    )


class Objects(unittest.TestCase):
    def setUp(self):
        self.core = client.CoreV1Api()
        self.apps = client.AppsV1Api()

    def test_version_and_groups(self):
        self.assertEqual((client.VersionApi().get_code().major, client.VersionApi().get_code().minor), ("1", "36"))
        groups = [group.name for group in client.ApisApi().get_api_versions().groups]
        self.assertIn("apps", groups)

    def test_create_read_list_replace_delete(self):
        made = self.core.create_namespaced_config_map(NAMESPACE, config_map("plain", key="value"))
        self.assertIsInstance(made.metadata.creation_timestamp, datetime.datetime)
        with self.assertRaises(ApiException) as caught:
            self.core.create_namespaced_config_map(NAMESPACE, config_map("plain"))
        self.assertEqual((caught.exception.status, caught.exception.reason), (409, "Conflict"))
        made.data["key"] = "other"
        replaced = self.core.replace_namespaced_config_map("plain", NAMESPACE, made)
        self.assertNotEqual(replaced.metadata.resource_version, made.metadata.resource_version)
        with self.assertRaises(ApiException) as caught:
            self.core.replace_namespaced_config_map("plain", NAMESPACE, made)
        self.assertEqual(caught.exception.status, 409)
        listed = self.core.list_namespaced_config_map(NAMESPACE, label_selector="of=plain")
        self.assertEqual([item.data for item in listed.items], [{"key": "other"}])
        status = self.core.delete_namespaced_config_map("plain", NAMESPACE)
        self.assertEqual(status["status"], "Success")
        with self.assertRaises(ApiException) as caught:
            self.core.read_namespaced_config_map("plain", NAMESPACE)
        self.assertEqual(caught.exception.status, 404)

    def test_lists_in_pages(self):
        for number in range(5):
            item = config_map(f"page-{number}")
            item.metadata.labels = {"paged": "yes"}
            self.core.create_namespaced_config_map(NAMESPACE, item)
        names, token = [], None
        while True:
            page = self.core.list_namespaced_config_map(NAMESPACE, label_selector="paged=yes", limit=2, _continue=token)
            names += [item.metadata.name for item in page.items]
            token = page.metadata._continue
            if not token:
                break
        self.assertEqual(names, [f"page-{number}" for number in range(5)])
        self.core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="paged=yes")
        self.assertEqual(self.core.list_namespaced_config_map(NAMESPACE, label_selector="paged=yes").items, [])

    def test_every_kind_of_patch(self):
        self.apps.create_namespaced_deployment(NAMESPACE, deployment("patched", 0))
        patch = self.apps.patch_namespaced_deployment
        side = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "coracle/echo"}]}}}}

        def names(seen):
            return sorted(container.name for container in seen.spec.template.spec.containers)

        seen = patch("patched", NAMESPACE, side, _content_type="application/strategic-merge-patch+json")
        self.assertEqual(names(seen), ["main", "side"])
        seen = patch("patched", NAMESPACE, side, _content_type="application/merge-patch+json")
        self.assertEqual(names(seen), ["side"])
        seen = patch("patched", NAMESPACE, [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}])
        self.assertEqual(seen.metadata.labels, {"a": "b"})
        scale = self.apps.patch_namespaced_deployment_scale("patched", NAMESPACE, {"spec": {"replicas": 0}})
        self.assertEqual(scale.spec.replicas or 0, 0)
        applied = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "applied"},
            "data": {"a": "1", "b": "2"},
        }
        apply = lambda body: self.core.patch_namespaced_config_map(  # noqa: E731
            "applied", NAMESPACE, body, field_manager="tests", _content_type="application/apply-patch+yaml"
        )
        self.assertEqual(apply(applied).data, {"a": "1", "b": "2"})
        self.assertEqual(apply({**applied, "data": {"a": "3"}}).data["a"], "3")
        self.apps.delete_namespaced_deployment("patched", NAMESPACE)

    def test_refusals_say_why(self):
        bad = deployment("Bad_Name", 1)
        with self.assertRaises(ApiException) as caught:
            self.apps.create_namespaced_deployment(NAMESPACE, bad)
        self.assertEqual(caught.exception.status, 422)
        self.assertIn("metadata.name", caught.exception.body)

    def test_from_yaml(self):
        objects = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "from-yaml"}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
            },
        ]
        api = client.ApiClient()
        utils.create_from_yaml(api, yaml_objects=objects, namespace="from-yaml")
        self.assertEqual(self.core.read_namespaced_secret("s", "from-yaml").data, {"k": "dg=="})
        self.assertTrue(self.core.read_namespaced_service("web", "from-yaml").spec.cluster_ip.startswith("10."))
        with self.assertRaises(utils.FailToCreateError):
            utils.create_from_yaml(api, yaml_objects=objects, namespace="from-yaml")
        self.core.delete_namespace("from-yaml")
        gone = lambda: "from-yaml" not in [n.metadata.name for n in self.core.list_namespace().items]  # noqa: E731
        until("the end of the namespace", gone)

    def test_dynamic(self):
        api = dynamic.DynamicClient(client.ApiClient())
        maps = api.resources.get(api_version="v1", kind="ConfigMap")
        body = {"metadata": {"name": "dynamic", "labels": {"of": "dynamic"}}, "data": {"a": "1"}}
        maps.create(body=body, namespace=NAMESPACE)
        seen = maps.patch(
            body={"data": {"b": "2"}}, name="dynamic", namespace=NAMESPACE, content_type="application/merge-patch+json"
        )
        self.assertEqual(seen.data.to_dict(), {"a": "1", "b": "2"})
        body["data"]["a"] = "9"
        body.update(apiVersion="v1", kind="ConfigMap")
        seen = maps.server_side_apply(
            body=body, name="dynamic", namespace=NAMESPACE, field_manager="tests", force_conflicts=True
        )
        self.assertEqual(seen.data.a, "9")
        events = maps.watch(namespace=NAMESPACE, label_selector="of=dynamic", timeout=5)
        self.assertEqual(next(events)["object"].metadata.name, "dynamic")
        maps.delete(name="dynamic", namespace=NAMESPACE)
        with self.assertRaises(dynamic.exceptions.NotFoundError):
            maps.get(name="dynamic", namespace=NAMESPACE)


class Watches(unittest.TestCase):
    def setUp(self):
        self.core = client.CoreV1Api()

    def test_what_happens_is_told(self):
        begin = self.core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
        self.core.create_namespaced_config_map(NAMESPACE, config_map("watched", a="1"))
        self.core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"a": "2"}})
        self.core.delete_namespaced_config_map("watched", NAMESPACE)
        seen = []
        events = watch.Watch().stream(
            self.core.list_namespaced_config_map,
            NAMESPACE,
            label_selector="of=watched",
            resource_version=begin,
            timeout_seconds=PATIENCE,
        )
        for event in events:
            seen.append((event["type"], event["object"].data["a"]))
            if event["type"] == "DELETED":
                break
        self.assertEqual(seen, [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")])

    def test_a_watch_begins_again_after_its_time_out(self):
        def later():
            time.sleep(2.5)
            self.core.create_namespaced_config_map(NAMESPACE, config_map("late"))

        thread = threading.Thread(target=later)
        thread.start()
        watcher = watch.Watch()
        # Without an own time-out the client goes on by itself when the server ends a watch.
        for event in watcher.stream(
            self.core.list_namespaced_config_map, NAMESPACE, label_selector="of=late", _request_timeout=PATIENCE
        ):
            self.assertEqual(event["object"].metadata.name, "late")
            break
        thread.join()
        self.core.delete_namespaced_config_map("late", NAMESPACE)

    def test_an_informer_keeps_a_cache(self):
        informer = SharedInformer(
            self.core.list_namespaced_config_map, namespace=NAMESPACE, label_selector="of=informed"
        )
        seen = []
        for kind in ("ADDED", "MODIFIED", "DELETED"):
            informer.add_event_handler(kind, lambda item, kind=kind: seen.append(kind))
        informer.start()
        try:
            self.core.create_namespaced_config_map(NAMESPACE, config_map("informed", a="1"))
            until("an object in the cache", lambda: [item.metadata.name for item in informer.cache.list()])
            self.core.patch_namespaced_config_map("informed", NAMESPACE, {"data": {"a": "2"}})
            until("a change", lambda: "MODIFIED" in seen)
            self.core.delete_namespaced_config_map("informed", NAMESPACE)
            until("an empty cache", lambda: not informer.cache.list())
            self.assertEqual(seen, ["ADDED", "MODIFIED", "DELETED"])
        finally:
            informer.stop()


class Pods(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.core = client.CoreV1Api()
        cls.apps = client.AppsV1Api()
        cls.apps.create_namespaced_deployment(NAMESPACE, deployment("echo", 1))
        cls.pod = until("a ready pod", cls.ready)

    @classmethod
    def ready(cls):
        for pod in cls.core.list_namespaced_pod(NAMESPACE, label_selector="app=echo").items:
            if any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or []):
                return pod.metadata.name
        return None

    @classmethod
    def tearDownClass(cls):
        cls.apps.delete_namespaced_deployment("echo", NAMESPACE, propagation_policy="Foreground")
        until("no pod", lambda: not cls.core.list_namespaced_pod(NAMESPACE, label_selector="app=echo").items)

    def exec(self, *command, **options):
        options = {"stdout": True, "stderr": True, "stdin": False, "tty": False, **options}
        return stream(
            self.core.connect_get_namespaced_pod_exec, self.pod, NAMESPACE, command=list(command), **options
        )

    def test_exec(self):
        self.assertTrue(self.exec("/coracle", "--version").startswith("coracle "))
        process = self.exec("/coracle", "no-such-command", _preload_content=False)
        process.run_forever(timeout=PATIENCE)
        self.assertIn("no-such-command", process.read_stderr())
        self.assertEqual(process.returncode, 2)
        with self.assertRaises(ApiException) as caught:
            self.exec("/coracle", container="nobody")
        self.assertIn("nobody", str(caught.exception))

    def test_port_forward(self):
        ports = portforward(self.core.connect_get_namespaced_pod_portforward, self.pod, NAMESPACE, ports="80")
        connection = ports.socket(80)
        connection.setblocking(True)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := connection.recv(1024):
            answer += chunk
        self.assertIn(b"200 OK", answer)
        self.assertIn(self.pod.encode(), answer)
        self.assertIsNone(ports.error(80))

    def test_logs(self):
        container = client.V1Container(name="main", image="coracle/echo", command=["/coracle", "--version"])
        spec = client.V1PodSpec(containers=[container], restart_policy="Never")
        self.core.create_namespaced_pod(NAMESPACE, client.V1Pod(metadata=client.V1ObjectMeta(name="once"), spec=spec))
        phase = lambda: self.core.read_namespaced_pod_status("once", NAMESPACE).status.phase  # noqa: E731
        until("the pod's end", lambda: phase() == "Succeeded")
        logs = self.core.read_namespaced_pod_log("once", NAMESPACE)
        self.assertTrue(logs.startswith("coracle "), logs)
        lines = list(watch.Watch().stream(self.core.read_namespaced_pod_log, "once", NAMESPACE))
        self.assertEqual(lines, logs.splitlines())
        self.core.delete_namespaced_pod("once", NAMESPACE, grace_period_seconds=0)

    def test_eviction_and_scale(self):
        self.apps.patch_namespaced_deployment_scale("echo", NAMESPACE, {"spec": {"replicas": 2}})
        done = lambda: self.apps.read_namespaced_deployment_status("echo", NAMESPACE).status.ready_replicas  # noqa: E731
        until("two pods", lambda: done() == 2)
        eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=self.pod))
        self.core.create_namespaced_pod_eviction(self.pod, NAMESPACE, eviction)
        names = lambda: [p.metadata.name for p in self.core.list_namespaced_pod(NAMESPACE).items]  # noqa: E731
        until("the pod's end", lambda: self.pod not in names())
        until("another pod", lambda: done() == 2)
        type(self).pod = until("a ready pod", self.ready)


class Elections(unittest.TestCase):
    def test_leases_pass_from_one_to_the_next(self):
        led = []

        def candidate(name):
            lock = LeaseLock("election", NAMESPACE, name)
            # The client leads for as long as it renews; it gives up when its renewals are refused.
            leaderelection.LeaderElection(
                electionconfig.Config(
                    lock,
                    lease_duration=3,
                    renew_deadline=2,
                    retry_period=1,
                    onstarted_leading=lambda: led.append(name),
                    onstopped_leading=lambda: led.append(f"no longer {name}"),
                )
            ).run()

        leases = client.CoordinationV1Api()
        threading.Thread(target=candidate, args=("first",), daemon=True).start()
        until("a leader", lambda: led == ["first"])
        held = leases.read_namespaced_lease("election", NAMESPACE)
        self.assertEqual(held.spec.holder_identity, "first")
        self.assertIsInstance(held.spec.renew_time, datetime.datetime)
        renewed = lambda: leases.read_namespaced_lease("election", NAMESPACE).spec.renew_time  # noqa: E731
        until("a renewal", lambda: renewed() > held.spec.renew_time)
        threading.Thread(target=candidate, args=("second",), daemon=True).start()
        # Somebody takes the Lease away, as a partition would.
        stolen = {"spec": {"holderIdentity": "nobody"}}
        leases.patch_namespaced_lease("election", NAMESPACE, stolen)
        until("the end of the first one's time", lambda: "no longer first" in led)
        until("another leader", lambda: "second" in led)


if __name__ == "__main__":
    unittest.main()
