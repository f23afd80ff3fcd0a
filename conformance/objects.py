"""Objects that the suites name and nobody made: they are made here over the API, as a user would.

Runs inside the suites' own virtual environment, so it needs nothing but the standard library.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

__all__ = ["Objects"]

_TIMEOUT_S = 10.0
_POLL_S = 0.02
_NUM_POLLS = 500
_SLOW_REQUESTS = 50  # of a batch that is still at work when the test gets to it; every answer takes a second or more
_JSON = {"content-type": "application/json"}
_LATE = {
    **_JSON,
    "X-Mock-TTFT-MS": "30000",
}  # of a response that is still at work when the test gets to it, and cancels it


class Objects:
    """Makes objects on the server at `root`, which is what the SDK has as its base URL.

    `quick` is a model that answers at once, `slow` one that takes seconds. Raises RuntimeError when the server refuses.
    """

    def __init__(self, root: str, quick: str = "quick", slow: str = "slow") -> None:
        self._root, self._quick, self._slow = root.rstrip("/"), quick, slow

    def file(self) -> str:
        """A file that may be read again, with one request of a batch."""
        return self._upload(self._line(self._quick, 0))

    def batch(self) -> str:
        """A batch of one request, at work or done."""
        return self._batch(self.file())

    def running_batch(self) -> str:
        """A batch that is not done yet."""
        lines = "".join(self._line(self._slow, number) for number in range(_SLOW_REQUESTS))
        return self._batch(self._upload(lines))

    def response(self) -> str:
        """A stored response."""
        return str(self.call("POST", "/responses", {"model": self._quick, "input": "Hello"})["id"])

    def running_response(self) -> str:
        """A background response that is not done yet."""
        return str(json.loads(self._background(headers=_LATE))["id"])

    def streamed_response(self) -> str:
        """A background response whose stream can be taken up again."""
        data = self._background(stream=True).partition(b"\ndata: ")[2].partition(b"\n\n")[0]
        return str(json.loads(data)["response"]["id"])

    def running_message_batch(self) -> str:
        """A message batch that is not done yet."""
        return self._message_batch(self._slow, _SLOW_REQUESTS)

    def ended_message_batch(self) -> str:
        """A message batch with results."""
        batch_id = self._message_batch(self._quick, 1)
        for _ in range(_NUM_POLLS):
            if self.call("GET", f"/v1/messages/batches/{batch_id}")["processing_status"] == "ended":
                return batch_id
            threading.Event().wait(_POLL_S)
        raise RuntimeError(f"{batch_id} has not ended after {_NUM_POLLS * _POLL_S:g} s")

    def listed(self, path: str) -> str:
        """The id of the first object in the list at `path`."""
        return str(self.call("GET", path)["data"][0]["id"])

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request with a JSON body, and the JSON object of the answer."""
        data = None if body is None else json.dumps(body).encode()
        found: dict[str, Any] = json.loads(self._send(method, path, data))
        return found

    def _background(self, *, stream: bool = False, headers: Mapping[str, str] = _JSON) -> bytes:
        body = {"model": self._quick, "input": "Hello", "background": True, "stream": stream}
        return self._send("POST", "/responses", json.dumps(body).encode(), headers)

    def _batch(self, file_id: str) -> str:
        order = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return str(self.call("POST", "/batches", order)["id"])

    def _message_batch(self, model: str, num_requests: int) -> str:
        params = {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": "Hello"}]}
        requests = [{"custom_id": f"request-{number}", "params": params} for number in range(num_requests)]
        return str(self.call("POST", "/v1/messages/batches", {"requests": requests})["id"])

    def _line(self, model: str, number: int) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        line = {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        return json.dumps(line) + "\n"

    def _upload(self, lines: str) -> str:
        form = (
            '--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            '--edge\r\nContent-Disposition: form-data; name="file"; filename="lines.jsonl"\r\n\r\n'
            f"{lines}\r\n--edge--\r\n"
        )
        headers = {"content-type": "multipart/form-data; boundary=edge"}
        return str(json.loads(self._send("POST", "/files", form.encode(), headers))["id"])

    def _send(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str] = _JSON) -> bytes:
        # Without the version of the protocol, a list of models would come in OpenAI's shape.
        sent = {"anthropic-version": "2023-06-01", **headers}
        request = Request(self._root + path, data, sent, method=method)  # noqa: S310 - the address is this machine's
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                found: bytes = answer.read()
        except HTTPError as error:
            with error:
                raise RuntimeError(f"{method} {path}: HTTP {error.code} {error.read(500)!r}") from error
        return found
