"""Python's `httpx` against a real Hearth: plain requests, event streams and long-poll, over HTTP/1.1 and HTTP/2."""
import asyncio
import json
import unittest

import httpx
from hearth import Hearth

PATIENCE = 20


async def events(response):
    """An event stream's events as (event, id, data), as the specification of `EventSource` parses them."""
    event, last_id, data = "message", None, []
    async for line in response.aiter_lines():
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                yield event, last_id, json.loads("\n".join(data))
            event, data = "message", []
        elif field == "event":
            event = value
        elif field == "id":
            last_id = value
        elif field == "data":
            data.append(value)


class Stories:
    """Told twice, once for each version of HTTP."""

    http2 = False

    def setUp(self):
        self.hearth = self.enterContext(Hearth())

    async def asyncSetUp(self):
        # By prior knowledge: without TLS there is nothing that could negotiate it.
        options = {"http1": not self.http2, "http2": self.http2}
        self.client = httpx.AsyncClient(base_url=self.hearth.http, timeout=PATIENCE, **options)
        await self.enterAsyncContext(self.client)

    async def publish(self, content, key=None, user="ann"):
        headers = {"Idempotency-Key": key} if key else {}
        body = {"data": {"content": content}}
        answer = await self.client.post(f"/rooms/lobby/messages?user={user}", json=body, headers=headers)
        self.assertEqual((answer.status_code, answer.http_version), (200, "HTTP/2" if self.http2 else "HTTP/1.1"))
        return answer.json()

    async def test_publish_and_history(self):
        """The same key counts once; history has what was said, page by page; what is wrong is a problem."""
        first = await self.publish("one", key="k1")
        self.assertEqual(first, {"type": "ack", "id": "k1", "room": "lobby", "data": {"status": "delivered", "seq": 1}})
        again = await self.publish("one", key="k1")
        self.assertEqual(again["data"], {"status": "delivered", "seq": 1, "duplicate": True})
        for n in range(2, 8):
            self.assertEqual((await self.publish(f"{n}"))["data"]["seq"], n)
        page = (await self.client.get("/rooms/lobby/messages", params={"after": 2, "limit": 3})).json()
        self.assertEqual([m["seq"] for m in page["messages"]], [3, 4, 5])
        self.assertTrue(page["more"])
        newest = (await self.client.get("/rooms/lobby/messages")).json()
        self.assertEqual([m["seq"] for m in newest["messages"]], list(range(1, 8)))
        self.assertEqual(newest["messages"][0]["data"], {"content": "one", "author": "ann"})
        wrong = await self.client.get("/rooms/lobby/messages", params={"limit": 0})
        self.assertEqual((wrong.status_code, wrong.headers["content-type"]), (400, "application/problem+json"))
        self.assertEqual(wrong.json()["code"], "invalid_argument")

    async def test_presence(self):
        """A request can keep a user online, and show a meta."""
        self.assertEqual((await self.client.get("/rooms/lobby/presence")).json(), {"online": [], "count": 0})
        put = await self.client.put("/rooms/lobby/presence?user=ann", json={"meta": {"status": "away"}})
        self.assertEqual(put.json()["data"]["status"], "ok")
        seen = (await self.client.get("/rooms/lobby/presence")).json()
        self.assertEqual([(u["user"], u["meta"]) for u in seen["online"]], [("ann", {"status": "away"})])

    async def test_an_event_stream_comes_back(self):
        """A stream that was cut goes on behind the last id that was seen."""
        cursor = None
        async with self.client.stream("GET", "/events/lobby?user=bob") as response:
            self.assertEqual((response.status_code, response.headers["content-type"]), (200, "text/event-stream"))
            stream = events(response)
            async for event, last_id, envelope in stream:
                if envelope["data"].get("event") == "joined":
                    for n in range(1, 4):
                        await self.publish(f"{n}")
                if event == "message" and envelope["seq"] == 2:
                    cursor = last_id
                    break
            await stream.aclose()
        for n in range(4, 6):
            await self.publish(f"{n}")
        heard = []
        async with self.client.stream("GET", "/events/lobby?user=bob", headers={"Last-Event-ID": cursor}) as response:
            stream = events(response)
            async for event, _, envelope in stream:
                if envelope["data"].get("event") == "joined":
                    self.assertEqual((envelope["data"]["recovered"], envelope["data"]["replayed"]), (True, 3))
                if event == "message":
                    heard.append((envelope["seq"], envelope["data"]["content"]))
                    if len(heard) == 3:
                        break
            await stream.aclose()
        self.assertEqual(heard, [(3, "3"), (4, "4"), (5, "5")])

    async def test_a_long_poll_misses_nothing(self):
        """A loop with the cursor sees everything once, whenever it was said."""
        first = (await self.client.get("/poll/lobby?user=bob")).json()
        self.assertEqual(first["messages"][0]["data"]["event"], "welcome")
        many = 300

        async def publish():
            for n in range(many):
                await self.publish(f"{n}")

        async def poll(cursor):
            heard = []
            while len(heard) < many:
                answer = await self.client.get("/poll/lobby", params={"cursor": cursor, "timeout": 5, "limit": 50})
                self.assertEqual(answer.status_code, 200, answer.text)
                cursor = answer.json()["cursor"]
                heard += [m for m in answer.json()["messages"] if m["type"] == "text"]
            return cursor, heard

        _, (cursor, heard) = await asyncio.gather(publish(), poll(first["cursor"]))
        self.assertEqual([m["seq"] for m in heard], list(range(1, many + 1)))
        self.assertEqual([m["data"]["content"] for m in heard], [f"{n}" for n in range(many)])
        # Nothing more: an empty answer when the time is over.
        idle = (await self.client.get("/poll/lobby", params={"cursor": cursor, "timeout": 1})).json()
        self.assertEqual([m for m in idle["messages"] if m["type"] == "text"], [])

    async def test_a_second_poll_supersedes_the_first(self):
        """One of two polls of a session waits, the other is sent away."""
        cursor = (await self.client.get("/poll/lobby?user=bob")).json()["cursor"]
        polls = [
            asyncio.create_task(self.client.get("/poll/lobby", params={"cursor": cursor, "timeout": 10}))
            for _ in range(2)
        ]
        done, waiting = await asyncio.wait(polls, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        first = done.pop().result()
        self.assertEqual((first.status_code, first.json()["code"]), (409, "aborted"))
        await self.publish("for who waits")
        second = (await waiting.pop()).json()
        self.assertEqual([m["seq"] for m in second["messages"] if m["type"] == "text"], [1])


class OverHttp1(Stories, unittest.IsolatedAsyncioTestCase):
    http2 = False


class OverHttp2(Stories, unittest.IsolatedAsyncioTestCase):
    http2 = True


if __name__ == "__main__":
    unittest.main()
