"""What the tests of object stores stand on: a real S3 server, a proxy that does harm, a model, and
the command with its peak memory. Standard library only."""

import http.client
import json
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DF11 = os.environ.get("DF11", str(ROOT / "target/debug/df11"))
SERVER = os.environ.get("S3S_FS", str(ROOT / "target/s3s/bin/s3s-fs"))
KEY, SECRET, BUCKET = "df11-tests", "not-a-secret", "bucket"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`s3s-fs`: the S3 protocol over a folder, in a process of its own."""

    def __init__(self, folder):
        self.folder, self.port = Path(folder), free_port()
        (self.folder / BUCKET).mkdir(parents=True, exist_ok=True)
        arguments = [SERVER, "--host", "127.0.0.1", "--port", str(self.port)]
        arguments += ["--access-key", KEY, "--secret-key", SECRET, str(self.folder)]
        environment = {**os.environ, "RUST_LOG": "error"}
        self.process = subprocess.Popen(
            arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the S3 server did not start")

    def path(self, name):
        return self.folder / BUCKET / name

    def stop(self):
        self.process.kill()
        self.process.wait()


class Proxy:
    """Passes requests on to the server, counts what it passes, and does the harm that `rule` says.

    `rule(method, path, number)` returns None, or one of: ("status", code, error), ("reset",),
    ("truncate", bytes), ("slow", bytes a second), ("kill", function).
    """

    def __init__(self, server):
        self.server, self.rule = server, lambda method, path, number: None
        self.lock, self.numbers = threading.Lock(), 0
        self.read = self.requests = self.harm = self.active = self.most = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def pass_on(self):
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

        class Threads(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, address):
                pass

        self.http = Threads(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def reset(self):
        self.rule = lambda method, path, number: None
        self.read = self.requests = self.harm = self.numbers = self.most = 0

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def handle(self, handler):
        with self.lock:
            number, self.numbers = self.numbers, self.numbers + 1
            self.requests += 1
            self.active += 1
            self.most = max(self.most, self.active)
        try:
            self.pass_on(handler, number)
        finally:
            with self.lock:
                self.active -= 1

    def pass_on(self, handler, number):
        length = int(handler.headers.get("content-length") or 0)
        body = handler.rfile.read(length)
        if handler.headers.get("transfer-encoding", "").lower() == "chunked":
            body = self.chunked(handler)
        action = self.rule(handler.command, handler.path, number)
        if action:
            with self.lock:
                self.harm += 1
        if action and action[0] == "reset":
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            handler.connection.close()
            return
        if action and action[0] == "status":
            text = f"<?xml version='1.0'?><Error><Code>{action[2]}</Code><Message>harm</Message></Error>"
            handler.send_response(action[1])
            handler.send_header("content-type", "application/xml")
            handler.send_header("content-length", str(len(text)))
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(text.encode())
            return
        if action and action[0] == "kill":
            action[1]()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        headers = {k: v for k, v in handler.headers.items() if k.lower() != "transfer-encoding"}
        connection.request(handler.command, handler.path, body=body or None, headers=headers)
        answer = connection.getresponse()
        content = b"" if handler.command == "HEAD" else answer.read()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                handler.send_header(name, value)
        said = answer.getheader("content-length") if handler.command == "HEAD" else None
        if answer.status != 204:
            handler.send_header("content-length", said or str(len(content)))
        handler.end_headers()
        if action and action[0] == "truncate":
            handler.wfile.write(content[: action[1]])
            handler.close_connection = True
            handler.connection.close()
            return
        if action and action[0] == "slow":
            for at in range(0, len(content), 4096):
                handler.wfile.write(content[at : at + 4096])
                time.sleep(4096 / action[1])
        else:
            handler.wfile.write(content)
        connection.close()
        if handler.command == "GET":
            with self.lock:
                self.read += len(content)

    @staticmethod
    def chunked(handler):
        body = b""
        while True:
            size = int(handler.rfile.readline().split(b";")[0], 16)
            body += handler.rfile.read(size)
            handler.rfile.readline()
            if size == 0:
                return body


def environment(port):
    """The environment of the command: credentials and the address of the server."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


class Done:
    """A command that ended: its code, its output, and what it took."""

    def __init__(self, code, out, err, usage, peak, seconds):
        self.code, self.out, self.err, self.peak, self.seconds = code, out, err, peak, seconds
        self.written, self.cpu = usage.ru_oublock * 512, usage.ru_utime + usage.ru_stime


class Peak(threading.Thread):
    """Watches the most memory of a process. What `wait4` says counts this process as well."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.status, self.bytes, self.ended = f"/proc/{process}/status", 0, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.005):
            try:
                lines = Path(self.status).read_text().splitlines()
            except OSError:
                return
            for line in lines:
                if line.startswith("VmHWM:"):
                    self.bytes = max(self.bytes, 1024 * int(line.split()[1]))


def df11(*arguments, port=None, start_only=False):
    """Run the command. Local files of its own would be found by `written`."""
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    began = time.monotonic()
    env = environment(port) if port else dict(os.environ)
    process = subprocess.Popen([DF11, *map(str, arguments)], env=env, stdout=out, stderr=err)
    if start_only:
        return process
    peak = Peak(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    peak.ended.set()
    process.returncode = os.waitstatus_to_exitcode(status)
    texts = []
    for file in out, err:
        with file:
            file.seek(0)
            texts.append(file.read().decode())
    return Done(process.returncode, *texts, usage, peak.bytes, time.monotonic() - began)


def upload(packed, name, port):
    """Put the original of a compressed model into the bucket, by the protocol.

    The server computes a digest of the whole file for each request of a file that was put into its
    folder behind its back.
    """
    done = df11("decompress", "--quiet", packed, "-o", f"s3://{BUCKET}/{name}", port=port)
    assert done.code == 0, done.err


# 16 values of the upper byte (sign and 7 bits of the exponent), the likely ones many times.
_LIKELY = [0x3C] * 50 + [0xBC] * 50 + [0x3B] * 36 + [0xBB] * 36 + [0x3D] * 22 + [0xBD] * 22
_LIKELY += [0x3A] * 16 + [0xBA] * 16 + [0x39] * 4 + [0xB9] * 4
_TABLE = bytes((_LIKELY * 2)[:256])


def weights(count):
    """BF16 weights with exponents as skewed as those of models."""
    data = bytearray(2 * count)
    data[0::2] = os.urandom(count)
    data[1::2] = os.urandom(count).translate(_TABLE)
    return bytes(data)


def shard(path, tensors):
    """Write a safetensors file of BF16 tensors: name and shape."""
    header, at, parts = {"__metadata__": {"format": "pt"}}, 0, []
    for name, shape in tensors:
        size = 2
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        parts.append(weights(size // 2))
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def model(folder, layers=3, hidden=512, inner=1536):
    """Write a model in two shards whose blocks cross them. Returns the bytes of the largest unit."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    all_tensors = [("model.embed_tokens.weight", (4096, hidden))]
    unit = 2 * (4 * hidden * hidden + 3 * hidden * inner)
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name in "qkvo":
            all_tensors.append((f"{at}.self_attn.{name}_proj.weight", (hidden, hidden)))
        all_tensors.append((f"{at}.mlp.gate_proj.weight", (inner, hidden)))
        all_tensors.append((f"{at}.mlp.up_proj.weight", (inner, hidden)))
        all_tensors.append((f"{at}.mlp.down_proj.weight", (hidden, inner)))
        all_tensors.append((f"{at}.input_layernorm.weight", (hidden,)))
    all_tensors.append(("model.norm.weight", (hidden,)))
    cut, index = len(all_tensors) // 2 + 1, {}
    for number, tensors in enumerate((all_tensors[:cut], all_tensors[cut:]), 1):
        name = f"model-{number:05}-of-00002.safetensors"
        shard(folder / name, tensors)
        index.update({tensor: name for tensor, _ in tensors})
    text = json.dumps({"metadata": {}, "weight_map": index}, indent=1)
    (folder / "model.safetensors.index.json").write_text(text)
    config = {"model_type": "none", "hidden_size": hidden, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "tokenizer.json").write_text("{}\n" * 20)
    return max(unit, 2 * 4096 * hidden)


def content(folder):
    """Return the bytes of every file below a folder, without what the server keeps beside them."""
    folder = Path(folder)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not path.name.startswith(".bucket-") and "internal" not in path.name:
            found[name] = path.read_bytes()
    return found
