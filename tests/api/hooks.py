"""What a description cannot say, said to schemathesis.

It knows each request by itself. That a stream of events never ends, that a poll may wait, and that two places of a request must say the same is
beyond a schema.
"""

import os
import re
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
import schemathesis

ROOM = re.compile(r"[A-Za-z0-9~][A-Za-z0-9._:~@|+=-]{0,127}\Z")
# No page of this origin may connect: whatever else a request says, its answer ends.
STRANGE = "http://strange.example"
# Where a server refuses everybody, streams end by themselves.
STREAMS_END = os.environ.get("API_STREAMS_END") == "1"


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.operation.path.startswith("/events") and case.method.upper() == "GET" and not STREAMS_END:
        end_stream(case)
    if case.operation.path.startswith("/poll"):
        do_not_wait(case)
    if case.meta and case.meta.generation.mode.is_positive:
        agree(case)


def url_of(case):
    """Path and query as they will be sent, whatever the case is made of."""
    sent = case.as_transport_kwargs()
    return urlsplit(requests.Request("GET", sent["url"], params=sent.get("params")).prepare().url)


def end_stream(case):
    """Only streams that would begin are touched: what is refused is answered as it stands."""
    url = url_of(case)
    rooms = [room for name, room in parse_qsl(url.query, keep_blank_values=True) if name == "room"]
    rooms += [unquote(room) for room in url.path.split("/")[2:]]
    if any(ROOM.match(room) for room in rooms):
        case.headers["Origin"] = STRANGE


def do_not_wait(case):
    """A number of seconds that is one becomes none, also the one that is not said."""
    seconds = dict(reversed(parse_qsl(url_of(case).query, keep_blank_values=True))).get("timeout", "25")
    if seconds.isascii() and seconds.isdigit() and int(seconds) <= 60:
        case.query["timeout"] = 0


def agree(case):
    """The room in a body is the path's, its id the header's; and a user is short in bytes, not in characters."""
    if isinstance(case.body, dict) and case.operation.path.endswith("/messages"):
        if "room" in case.body:
            case.body["room"] = case.path_parameters["room"]
        if "id" in case.body:
            case.headers.pop("Idempotency-Key", None)
    user = case.query.get("user")
    if isinstance(user, str):
        case.query["user"] = user.encode()[:128].decode(errors="ignore")
