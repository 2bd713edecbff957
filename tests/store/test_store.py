"""Compression from a store into a store, against a real server, with faults made on purpose."""

import hashlib
import json
import shutil
import tempfile
import unittest
from pathlib import Path

from parts import BUCKET, Proxy, Server, content, df11, model, upload


class Store(unittest.TestCase):
    """A server, a proxy before it, a model in the bucket, and the local output to compare with."""

    @classmethod
    def setUpClass(cls):
        cls.place = Path(tempfile.mkdtemp(prefix="df11-store-"))
        cls.server = Server(cls.place / "server")
        cls.proxy = Proxy(cls.server)
        cls.largest = model(cls.place / "model")
        done = df11("compress", "--quiet", cls.place / "model", "-o", cls.place / "local")
        assert done.code == 0, done.err
        cls.local = content(cls.place / "local")
        upload(cls.place / "local", "model", cls.server.port)
        assert content(cls.server.path("model")) == content(cls.place / "model")

    @classmethod
    def tearDownClass(cls):
        cls.proxy.stop()
        cls.server.stop()
        shutil.rmtree(cls.place)

    def setUp(self):
        self.proxy.reset()
        # The server makes names of files from keys, so keys are short.
        self.name = "t" + hashlib.sha256(self.id().encode()).hexdigest()[:8]
        self.out = f"s3://{BUCKET}/{self.name}"

    def df11(self, *arguments, **options):
        return df11(*arguments, port=self.proxy.port, **options)

    def compress(self, **options):
        return self.df11("compress", "--quiet", f"s3://{BUCKET}/model", "-o", self.out, **options)

    def written(self):
        path = self.server.path(self.name)
        return content(path) if path.exists() else {}

    def visible(self):
        return {name: data for name, data in self.written().items() if not name.startswith(".df11-")}

    def assert_finished(self):
        """The output is that of a local run, and nothing else is left."""
        written = self.written()
        self.assertEqual(sorted(written), sorted(self.local))
        self.assertEqual(written, self.local)

    def assert_one_line(self, done, code, *words):
        self.assertEqual(done.code, code, done.err)
        self.assertEqual(done.err.count("\n"), 1, done.err)
        for word in words:
            self.assertIn(word, done.err)

    def test_output_is_that_of_a_local_run_and_takes_no_disk(self):
        done = self.compress()
        self.assertEqual(done.code, 0, done.err)
        self.assert_finished()
        print(
            f"\n  compress s3 to s3: {done.seconds:.1f} s, peak {done.peak:,} bytes "
            f"(largest unit {self.largest:,}), local disk {done.written:,} bytes, "
            f"{self.proxy.requests} requests, at most {self.proxy.most} at a time"
        )
        self.assertLess(done.written, 100_000_000)
        self.assertLessEqual(self.proxy.most, 33)

    def test_a_task_takes_less_than_three_times_its_unit(self):
        place = self.place / self.name
        largest = model(place / "model", layers=1, hidden=2048, inner=8192)
        assert df11("compress", "--quiet", place / "model", "-o", place / "local").code == 0
        upload(place / "local", self.name + "-model", self.server.port)
        planned = self.df11("plan", "--json", f"{self.out}-model", "-o", self.out)
        report = json.loads(planned.out)
        self.assertEqual(report["tasks"][0]["bytes"] // 10**6, largest // 10**6)
        done = self.df11("run", "--quiet", report["plan"], "--task", 0)
        self.assertEqual(done.code, 0, done.err)
        print(f"\n  peak {done.peak:,} bytes, unit {largest:,}: {done.peak / largest:.2f}")
        self.assertLess(done.peak, 3 * largest)
        self.assertLess(done.peak, report["tasks"][0]["memory"])

    def test_what_was_compressed_is_verified_inspected_and_restored_from_the_store(self):
        shutil.copytree(self.place / "local", self.server.path(self.name))
        done = self.df11("verify", self.out)
        self.assertEqual(done.code, 0, done.err)
        self.assertIn("digests match", done.out)
        self.assertEqual(self.df11("inspect", "--quiet", self.out).code, 0)
        done = self.df11("verify", self.out, "--against", f"s3://{BUCKET}/model")
        self.assertEqual(done.code, 0, done.err)
        back = self.place / self.name
        done = self.df11("decompress", "--quiet", self.out, "-o", back)
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual(content(back), content(self.place / "model"))

    def test_it_is_restored_into_the_store(self):
        shutil.copytree(self.place / "local", self.server.path(self.name + "-packed"))
        done = self.df11("decompress", "--quiet", f"{self.out}-packed", "-o", self.out)
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual(self.written(), content(self.place / "model"))
        self.assertLess(done.written, 100_000_000)

    def faulty(self, rule):
        self.proxy.rule = rule
        done = self.compress()
        self.assertEqual(done.code, 0, done.err)
        self.assertGreater(self.proxy.harm, 0)
        self.assert_finished()

    def test_errors_of_the_server_pass(self):
        code = {0: (500, "InternalError"), 7: (503, "SlowDown"), 11: (503, "ServiceUnavailable")}
        self.faulty(lambda method, path, n: ("status", *code[n % 13]) if n % 13 in code else None)

    def test_broken_connections_pass(self):
        self.faulty(lambda method, path, n: ("reset",) if n % 11 == 3 else None)

    def test_answers_that_are_cut_off_are_asked_for_again(self):
        self.faulty(lambda method, path, n: ("truncate", 1000) if method == "GET" and n % 5 == 2 else None)

    def test_slow_answers_are_waited_for(self):
        self.faulty(lambda method, path, n: ("slow", 2_000_000) if n % 9 == 4 else None)

    def test_expired_credentials_are_named_and_the_work_goes_on_later(self):
        self.proxy.rule = lambda m, p, n: ("status", 400, "ExpiredToken") if n >= 25 else None
        self.assert_one_line(self.compress(), 3, "expired", f"s3://{BUCKET}/")
        self.assertEqual(self.visible(), {})
        self.proxy.reset()
        self.assertEqual(self.compress().code, 0)
        self.assert_finished()

    def test_refused_access_is_named(self):
        self.proxy.rule = lambda m, p, n: ("status", 403, "AccessDenied")
        self.assert_one_line(self.compress(), 3, "credentials", f"s3://{BUCKET}/model")
        self.assertEqual(self.written(), {})

    def test_a_full_store_is_named_and_the_work_goes_on_later(self):
        self.proxy.rule = lambda m, p, n: ("status", 507, "InsufficientStorage") if m == "PUT" and n > 20 else None
        self.assert_one_line(self.compress(), 3, "full", f"s3://{BUCKET}/{self.name}")
        self.assertEqual(self.visible(), {})
        self.proxy.reset()
        self.assertEqual(self.compress().code, 0)
        self.assert_finished()

    def test_a_missing_model_is_named(self):
        done = self.df11("compress", "--quiet", f"s3://{BUCKET}/nothing", "-o", self.out)
        self.assert_one_line(done, 1, "no object", f"s3://{BUCKET}/nothing")
        self.assertEqual(self.written(), {})

    def test_a_killed_run_leaves_nothing_visible_and_is_taken_up_again(self):
        for moment in (12, 40, 60):
            process = None

            def rule(method, path, n, moment=moment):
                if n == moment:
                    return ("kill", lambda: process.kill())
                return None

            self.proxy.reset()
            self.proxy.rule = rule
            process = self.compress(start_only=True)
            process.wait()
            if process.returncode == 0:
                break
            self.assertNotIn("config.json", self.visible())
        self.proxy.reset()
        self.assertEqual(self.compress().code, 0)
        self.assert_finished()

    def test_tasks_may_run_in_any_order_twice_and_at_once(self):
        done = self.df11("plan", "--json", f"s3://{BUCKET}/model", "-o", self.out)
        self.assertEqual(done.code, 0, done.err)
        report = json.loads(done.out)
        tasks, plan = list(range(len(report["tasks"]))), report["plan"]
        self.assertEqual(self.visible(), {})
        early = self.df11("finish", plan)
        self.assert_one_line(early, 1, f"{len(tasks)} of its {len(tasks)} tasks are not done", "df11 run")
        for task in reversed(tasks[1:]):
            both = [self.df11("run", "--quiet", plan, "--task", task, start_only=True) for _ in "12"]
            self.assertEqual([process.wait() for process in both], [0, 0])
        early = self.df11("finish", plan)
        self.assert_one_line(early, 1, "1 of its", ": 0;")
        self.assertEqual(self.visible(), {})
        self.assertEqual(self.df11("run", "--quiet", plan, "--task", 0).code, 0)
        again = self.df11("run", plan, "--task", 0)
        self.assertIn("was done before", again.out)
        done = self.df11("finish", "--quiet", plan)
        self.assertEqual(done.code, 0, done.err)
        self.assert_finished()

    def test_two_runs_at_once_end_with_the_same_output(self):
        both = [self.compress(start_only=True) for _ in "12"]
        codes = [process.wait() for process in both]
        # One of the two may find that the other has finished.
        self.assertIn(0, codes)
        self.assertLessEqual(set(codes), {0, 2})
        self.assert_finished()

    def test_what_others_put_there_is_not_replaced(self):
        stranger = self.server.path(self.name) / "config.json"
        stranger.parent.mkdir(parents=True)
        stranger.write_text("mine")
        self.assert_one_line(self.compress(), 2, "is not empty", self.out)
        self.assertEqual(stranger.read_text(), "mine")

    def test_a_plan_on_local_paths_gives_the_local_output(self):
        out = self.place / self.name
        for codec in ("df11", "rans", "fast"):
            for folder in (out, self.place / "direct"):
                shutil.rmtree(folder, ignore_errors=True)
            direct = ("compress", "--quiet", "--codec", codec, self.place / "model", "-o", self.place / "direct")
            self.assertEqual(df11(*direct).code, 0)
            done = df11("plan", "--json", "--codec", codec, self.place / "model", "-o", out)
            self.assertEqual(done.code, 0, done.err)
            report = json.loads(done.out)
            for task in range(len(report["tasks"])):
                done = df11("run", "--quiet", report["plan"], "--task", task)
                self.assertEqual(done.code, 0, done.err)
            self.assertEqual(sorted(content(out)), sorted(n for n in content(out) if n.startswith(".df11-")))
            done = df11("finish", "--quiet", report["plan"])
            self.assertEqual(done.code, 0, done.err)
            self.assertEqual(content(out), content(self.place / "direct"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
