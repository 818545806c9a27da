"""A site of somebody else's: a page that tries on a server of this machine whatever a browser lets it try."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = "evil.example"
"""Its name; Chromium is told that it means this machine, as a rebound name does."""
RESOLVER = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"

_PAGE = """<!doctype html><title>a page of somebody else's</title><body><script>
const settled = async promise => { try { return await promise } catch (error) { return 'failed: ' + error } };
const within = (promise, ms) => Promise.race([promise, new Promise(done => setTimeout(() => done('no answer'), ms))]);
const loaded = element => within(new Promise(done => {
  element.onload = () => done('loaded');
  element.onerror = () => done('failed');
  document.body.append(element) }), 8000);
const image = url => loaded(Object.assign(new Image(), {src: url}));
const script = url => loaded(Object.assign(document.createElement('script'), {src: url}));
const style = url => loaded(Object.assign(document.createElement('link'), {rel: 'stylesheet', href: url}));
const frame = url => loaded(Object.assign(document.createElement('iframe'), {src: url}));
let forms = 0;
const form = (url, enctype, fields, method = 'POST') => {
  const target = Object.assign(document.createElement('iframe'), {name: 'target' + (++forms)});
  const made = Object.assign(document.createElement('form'), {action: url, method, enctype, target: target.name});
  for (const [name, value] of Object.entries(fields)) {
    made.append(Object.assign(document.createElement('input'), {name, value})) }
  document.body.append(made);
  const done = loaded(target);
  made.submit();
  return done;
};
const sent = (url, options) => within(settled(fetch(url, {credentials: 'include', ...options}).then(
  answer => answer.type === 'opaque' ? 'opaque' : answer.text().then(text => answer.status + ' ' + text))), 8000);
const beacon = (url, body) => navigator.sendBeacon(url, body) ? 'sent' : 'refused';
const socket = url => within(new Promise(done => {
  let opened;
  try { opened = new WebSocket(url, 'graphql-ws') } catch (error) { return done('failed: ' + error) }
  opened.onopen = () => opened.send(JSON.stringify({type: 'connection_init', payload: {}}));
  opened.onmessage = event => done('read ' + event.data);
  opened.onerror = () => done('failed') }), 8000);
async function attack(base, targets) {
  const told = {};
  for (const {path, query, body, type} of targets) {
    const url = base + path, asked = query ? url + '?' + query : url;
    const json = new Blob([body], {type: 'application/json'}), text = new Blob([body], {type: 'text/plain'});
    told[path] = {
      image: await image(asked), script: await script(asked), style: await style(asked), frame: await frame(asked),
      get: await sent(asked, {mode: 'no-cors'}),
      formInUrl: await form(asked, 'application/x-www-form-urlencoded', {}),
      formFields: await form(url, 'application/x-www-form-urlencoded', {query: body}),
      formText: await form(url, 'text/plain', {[body.slice(0, -1) + ',"x":"']: '"}'}),
      formParts: await form(url, 'multipart/form-data', {operations: body, map: '{}'}),
      formGet: await form(asked, 'application/x-www-form-urlencoded', {query: query || ''}, 'GET'),
      post: await sent(asked, {method: 'POST', mode: 'no-cors'}),
      postText: await sent(url, {method: 'POST', mode: 'no-cors', body: text}),
      postJson: await sent(url, {method: 'POST', body, headers: {'content-type': type}}),
      postJsonBlind: await sent(url, {method: 'POST', mode: 'no-cors', body, headers: {'content-type': type}}),
      put: await sent(url, {method: 'PUT', body, headers: {'content-type': type}}),
      delete: await sent(url, {method: 'DELETE'}),
      beaconText: beacon(url, text), beaconJson: beacon(url, json),
    };
  }
  told.socket = await socket(base.replace('http', 'ws') + '/graphql');
  return told;
}
</script></body>"""


@dataclass
class ForeignSite:
    """The site, which keeps what was asked of it.

    Attributes:
        port: Where it listens.
        asked: Method, path and content type of each request but those for its page.
    """

    port: int
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def page(self) -> str:
        """Its page, under its own name."""
        return f"http://{NAME}:{self.port}/page"


@contextmanager
def foreign_site() -> Iterator[ForeignSite]:
    """One that runs for as long as the block does."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path != "/page":
                site.asked.append((self.command, self.path, self.headers.get("Content-Type") or ""))
            content = _PAGE.encode() if self.path == "/page" else b""
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = _answer  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = ForeignSite(server.server_port)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def attack(page: Any, base: str, targets: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """All that the site's page, which is open, tries on a server; what each try came to."""
    told: dict[str, Any] = page.evaluate(f"attack({json.dumps(base)}, {json.dumps(list(targets))})")
    return told
