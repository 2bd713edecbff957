"""The examples of docs/scale.md, run as they stand there, against a real S3 server: with `df11.ray`,
Ray Data and Dask, each on workers that are processes here.

Runs in an environment that has the wheel, ray and dask; see tests/store.sh. Left out where one of
these is missing, unless DF11_MUST_RUN is set.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import df11
from parts import BUCKET, ROOT, Server, content, environment, model, upload


def example(beginning):
    """The only example of docs/scale.md with this line."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "scale.md").read_text(), re.DOTALL)
    (found,) = [block for block in blocks if beginning in block]
    return found


def needs(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    assert not missing or "DF11_MUST_RUN" not in os.environ, f"not installed: {missing}"
    return unittest.skipIf(missing, f"not installed: {missing}")


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = Path(tempfile.mkdtemp(prefix="df11-examples-"))
        cls.server = Server(cls.place / "server")
        model(cls.place / "model", layers=3)
        df11.compress(str(cls.place / "model"), str(cls.place / "local"))
        cls.local = content(cls.place / "local")
        upload(cls.place / "local", "model", cls.server.port)
        # Nodes find the command, and the credentials.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        cls.environment = {**os.environ, **environment(cls.server.port), "PATH": path}

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        shutil.rmtree(cls.place, ignore_errors=True)

    def setUp(self):
        shutil.rmtree(self.server.path("model-df11"), ignore_errors=True)

    def run_example(self, text):
        script = self.place / "example.py"
        script.write_text(text)
        run = [sys.executable, str(script)]
        done = subprocess.run(
            run, env=self.environment, cwd=self.place, capture_output=True, text=True, timeout=600
        )
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-6000:])
        self.assertEqual(content(self.server.path("model-df11")), self.local)

    def command(self, *arguments):
        command = [sys.executable, "-m", "df11", *arguments]
        return subprocess.check_output(command, env=self.environment, text=True)

    @needs("ray")
    def test_df11_ray(self):
        shutil.rmtree(self.server.path("restored"), ignore_errors=True)
        self.run_example(example("df11.ray.compress("))
        self.assertEqual(content(self.server.path("restored")), content(self.place / "model"))

    @needs("ray", "pyarrow", "pandas")
    def test_ray_data(self):
        self.run_example(example("ray.data.from_items"))

    @needs("ray", "pyarrow", "pandas")
    def test_ray_data_when_nothing_is_left_but_to_finish(self):
        addresses = [f"s3://{BUCKET}/model", "-o", f"s3://{BUCKET}/model-df11"]
        made = json.loads(self.command("plan", "--json", *addresses))
        for task in range(len(made["tasks"])):
            self.command("run", "--quiet", "--threads", "1", made["plan"], "--task", str(task))
        self.run_example(example("ray.data.from_items"))

    @needs("dask", "distributed")
    def test_dask(self):
        code = (
            "from dask.distributed import LocalCluster\n"
            "if __name__ == '__main__':\n"
            "    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)\n"
            "    print(cluster.scheduler_address, flush=True)\n"
            "    input()\n"
        )
        cluster = subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            address = cluster.stdout.readline().strip()
            text = example("dask.distributed").replace("scheduler:8786", address)
            self.run_example(text)
        finally:
            cluster.communicate("\n", timeout=60)


assert BUCKET == "bucket", "the examples name it"

if __name__ == "__main__":
    unittest.main(verbosity=2)
