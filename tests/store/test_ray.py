"""The same plan on a Ray cluster of three node processes, and ranks that read their rows alone.

Runs in an environment that has the wheel, ray and numpy; see tests/store.sh.
"""

import os
import shutil
import signal
import tempfile
import threading
import time
import unittest
from pathlib import Path

import numpy
import ray
from ray.cluster_utils import Cluster

import df11
import df11.ray
from parts import BUCKET, Proxy, Server, content, environment, model, upload


def workers_of(cluster):
    """The processes of this cluster that run a task of df11."""
    groups = [group for node in cluster.list_all_nodes() for group in node.all_processes.values()]
    roots = {process.process.pid for group in groups for process in group}
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_text()
            names[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        parents[int(path.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    # Ray names a worker after its task; agents of Ray have names like that, too.
    is_task = lambda name: name.startswith("ray::df11")  # noqa: E731
    return [pid for pid, name in names.items() if is_task(name) and parents.get(pid) in roots]


class Cases(unittest.TestCase):
    """A server, a cluster of three nodes with one processor each, and a model in the bucket."""

    @classmethod
    def setUpClass(cls):
        cls.place = Path(tempfile.mkdtemp(prefix="df11-ray-"))
        cls.server = Server(cls.place / "server")
        cls.proxy = Proxy(cls.server)
        model(cls.place / "model", layers=6)
        df11.compress(str(cls.place / "model"), str(cls.place / "local"))
        upload(cls.place / "local", "model", cls.server.port)
        cls.local = content(cls.place / "local")
        os.environ.update(environment(cls.proxy.port))
        cls.cluster = Cluster()
        cls.cluster.add_node(num_cpus=0, object_store_memory=80_000_000)
        cls.nodes = [cls.cluster.add_node(num_cpus=1, object_store_memory=80_000_000) for _ in range(3)]
        ray.init(address=cls.cluster.address, logging_level="ERROR", log_to_driver=False)

    @classmethod
    def tearDownClass(cls):
        ray.shutdown()
        cls.cluster.shutdown()
        cls.proxy.stop()
        cls.server.stop()
        shutil.rmtree(cls.place, ignore_errors=True)

    def setUp(self):
        self.proxy.reset()

    def test_1_a_cluster_writes_restores_and_verifies_the_same_bytes(self):
        told = []
        df11.ray.compress(f"s3://{BUCKET}/model", f"s3://{BUCKET}/r1", progress=told.append)
        self.assertEqual(content(self.server.path("r1")), self.local)
        self.assertEqual((told[-1].done, told[-1].bytes_done), (told[-1].tasks, told[-1].bytes))
        report = df11.ray.verify(f"s3://{BUCKET}/r1", shares=3)
        alone = df11.verify(str(self.place / "local"))
        self.assertEqual(report, alone)
        df11.ray.decompress(f"s3://{BUCKET}/r1", f"s3://{BUCKET}/back")
        self.assertEqual(content(self.server.path("back")), content(self.place / "model"))

    def test_2_a_rank_reads_its_rows_and_little_else(self):
        shutil.copytree(self.place / "local", self.server.path("packed"))
        address = f"s3://{BUCKET}/packed"
        with df11.safe_open(address, "np") as opened:
            before = self.proxy.read
            whole = opened.get_tensors()
            everything = self.proxy.read - before
        with df11.safe_open(str(self.place / "model"), "np") as opened:
            for name, tensor in opened.get_tensors().items():
                numpy.testing.assert_array_equal(tensor.view("u2"), whole[name].view("u2"))
        with df11.safe_open(address, "np") as opened:
            before = self.proxy.read
            part = opened.get_part(2, 4)
            read = self.proxy.read - before
        for name, tensor in part.items():
            rows = len(whole[name])
            expected = whole[name][rows * 2 // 4 : rows * 3 // 4]
            numpy.testing.assert_array_equal(tensor.view("u2"), expected.view("u2"))
        print(f"\n  one rank of four reads {read:,} of {everything:,} bytes: {read / everything:.4f}")
        self.assertLessEqual(read, 0.27 * everything)

    def test_3_the_overhead_of_a_task(self):
        plan = df11._df11.plan(str(self.place / "model"), str(self.place / "plan"), None, (None,) * 5 + (False,))
        import json
        path, number = json.loads(plan)["plan"], 60
        df11._df11.run_task(path, 0, 1)
        began = time.monotonic()
        for _ in range(number):
            df11._df11.run_task(path, 0, 1)
        alone = (time.monotonic() - began) / number
        work = [df11.ray._Work((path, 0, 1), 1, 0)] * number
        began = time.monotonic()
        df11.ray._all("run_task", work, 1, None, 4, None)
        with_ray = (time.monotonic() - began) / number * 3
        print(f"\n  a task that is done: {1000 * alone:.1f} ms alone, {1000 * with_ray:.1f} ms of a processor with Ray")

    def test_4_workers_and_a_node_are_killed_and_no_task_is_lost(self):
        killed = []

        def harm():
            while len(killed) < 2:
                for pid in workers_of(self.cluster)[:1]:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                time.sleep(1.0)
            self.cluster.remove_node(self.nodes[2], allow_graceful=False)
            killed.append("node")

        self.proxy.rule = lambda method, path, n: ("slow", 3_000_000) if method == "GET" and n % 3 == 0 else None
        thread = threading.Thread(target=harm)
        thread.start()
        half = []

        def watch(progress):
            path = self.server.path("r4")
            half.extend(name for name in content(path) if not name.startswith(".df11-"))

        df11.ray.compress(f"s3://{BUCKET}/model", f"s3://{BUCKET}/r4", progress=watch)
        thread.join(60)
        print(f"\n  killed in the middle: {killed}")
        self.assertEqual(len(killed), 3)
        self.assertEqual(half, [])
        self.assertEqual(content(self.server.path("r4")), self.local)


if __name__ == "__main__":
    unittest.main(verbosity=2)
