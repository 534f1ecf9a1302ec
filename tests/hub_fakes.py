"""A Hugging Face hub on this machine: one repository's files, its gate, and its bad days."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee00" * 5


class Hub:
    """What the hub serves and what it was asked.

    Attributes:
        files: name -> content. stated: name -> SHA-256 stated instead of the true one.
        refuses: None, or (status, X-Error-Code) of every answer.
        breaks_after: the next transfer ends after this many bytes.
        asked: (method, file, Range or None) of every request to the hub; fetched: to its storage.
    """

    def __init__(self):
        self.files, self.stated = {}, {}
        self.refuses = self.breaks_after = None
        self.asked, self.fetched = [], []

    def sha256(self, name):
        return self.stated.get(name) or hashlib.sha256(self.files[name]).hexdigest()


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        """``/<owner>/<repository>/resolve/<revision>/<file>`` redirects to ``/storage/<file>``."""

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self._answer()

        def do_GET(self):
            self._answer()

        def _answer(self):
            name = self.path.rsplit("/", 1)[1]
            span = self.headers.get("Range")
            if self.path.startswith("/storage/"):
                hub.fetched.append((self.command, name, span))
                self._send(hub.files[name], int(span.split("=")[1].split("-")[0]) if span else 0)
                return
            hub.asked.append((self.command, name, span))
            if hub.refuses:
                self._head(hub.refuses[0], {"X-Error-Code": hub.refuses[1], "Content-Length": "0"})
            elif name not in hub.files:
                self._head(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
            else:
                self._head(
                    302,
                    {
                        "Location": f"/storage/{name}"
                        if self.command == "GET"
                        else "http://storage.invalid/x",
                        "X-Linked-Etag": f'"{hub.sha256(name)}"',
                        "X-Linked-Size": str(len(hub.files[name])),
                        "X-Repo-Commit": COMMIT,
                        "Content-Length": "0",
                    },
                )

        def _send(self, content, start):
            size, rest = len(content), content[start:]
            headers = {"Content-Length": str(len(rest))}
            if start:
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            self._head(206 if start else 200, headers)
            if hub.breaks_after is not None:
                rest, hub.breaks_after = rest[: hub.breaks_after], None
                self.close_connection = True
            self.wfile.write(rest)

        def _head(self, status, headers):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()

    return Handler


@contextmanager
def serve(monkeypatch):
    """A running :class:`Hub` that huggingface_hub takes for the real one, without anybody's login."""
    from huggingface_hub import constants, file_download

    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # hubs before 1.0 have copied the name
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
