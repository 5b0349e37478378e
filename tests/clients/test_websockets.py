"""Python's `websockets` against a real Hearth: its own idea of frames, fragments, compression and closing."""
import asyncio
import json
import random
import unittest

from hearth import Hearth
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate

PATIENCE = 20


class Session:
    """A user's connection, and what is left out: presence."""

    def __init__(self, socket):
        self.socket = socket

    async def next(self, *kinds):
        """The next envelope of these kinds; of any but presence where none is named."""
        while True:
            envelope = json.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE))
            if envelope["type"] in kinds or not kinds and envelope["type"] != "presence":
                return envelope

    async def say(self, **envelope):
        await self.socket.send(json.dumps(envelope))


async def enter(hearth, path, **options):
    session = Session(await connect(hearth.ws + path, **options))
    welcome = await session.next()
    assert welcome["data"]["event"] == "welcome", welcome
    return session


class Websockets(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.hearth = self.enterContext(Hearth())

    async def test_a_chat(self):
        """Joins, publishes, is answered, hears others, comes back, says goodbye."""
        ann = await enter(self.hearth, "/ws?user=ann", subprotocols=["hearth.v1.json"])
        self.assertEqual(ann.socket.subprotocol, "hearth.v1.json")
        await ann.say(type="join", id="j", room="lobby")
        joined = await ann.next()
        self.assertEqual((joined["id"], joined["data"]["event"], joined["data"]["seq"]), ("j", "joined", 0))
        bob = await enter(self.hearth, "/ws/lobby?user=bob")
        self.assertEqual((await bob.next())["data"]["event"], "joined")

        await ann.say(type="text", id="m1", room="lobby", data={"content": "Hallo Wörld 👋"})
        ack = await ann.next("ack")
        self.assertEqual((ack["id"], ack["data"]), ("m1", {"status": "delivered", "seq": 1}))
        for session in (ann, bob):
            heard = await session.next("text")
            self.assertEqual(heard["data"], {"content": "Hallo Wörld 👋", "author": "ann"})

        # Fragments: a message as a list goes in one frame for each part.
        await ann.socket.send(['{"type":"text","room":"lobby",', '"data":{"content":', '"in parts"}}'])
        self.assertEqual((await bob.next("text"))["data"]["content"], "in parts")

        # A pong for a ping.
        await asyncio.wait_for(await bob.socket.ping(b"there?"), PATIENCE)

        await ann.socket.close()
        self.assertEqual(ann.socket.close_code, 1000)
        await bob.say(type="text", id="m3", room="lobby", data={"content": "missed"})
        await bob.next("ack")
        ann = await enter(self.hearth, f"/ws/lobby?user=ann&since={joined['data']['cursor']}")
        joined = await ann.next()
        self.assertEqual((joined["data"]["recovered"], joined["data"]["replayed"]), (True, 3))
        self.assertEqual([(await ann.next("text"))["seq"] for _ in range(3)], [1, 2, 3])
        await asyncio.gather(ann.socket.close(), bob.socket.close())

    async def test_many_compressed_both_ways(self):
        """Two thousand messages of many lengths, some of them easy and some hard to compress, in both directions."""
        ann, bob = [await enter(self.hearth, f"/ws/lobby?user={user}", compression="deflate") for user in ("ann", "bob")]
        for session in (ann, bob):
            agreed = session.socket.protocol.extensions
            self.assertTrue(any(isinstance(extension, PerMessageDeflate) for extension in agreed), agreed)
        dice = random.Random(7)
        letters = "abcdefghijklmnopqrstuvwxyzäöü☃👩"
        texts = [
            "".join(dice.choices(letters, k=dice.choice([5, 200, 255, 256, 1000, 5000])))
            if n % 2 else f"{n} the same words " * dice.randrange(1, 200)
            for n in range(2000)
        ]

        async def publish():
            for n, text in enumerate(texts):
                await ann.say(type="text", id=f"m{n}", room="lobby", data={"content": text})

        async def hear(session):
            return [(await session.next("text")) for _ in texts]

        _, own, others = await asyncio.gather(publish(), hear(ann), hear(bob))
        for heard in (own, others):
            self.assertEqual([envelope["seq"] for envelope in heard], list(range(1, len(texts) + 1)))
            self.assertEqual([envelope["data"]["content"] for envelope in heard], texts)
        await asyncio.gather(ann.socket.close(), bob.socket.close())

    async def test_close_codes(self):
        """What ends a connection says why."""
        for path, says, code, reason in [
            ("/ws?user=ann", b"binary", 1003, "unsupported_data"),
            ("/ws?user=ann", "x" * 65_537, 1009, "too_big"),
            ("/ws/no%20room?user=ann", None, 1008, "invalid_argument"),
        ]:
            socket = await connect(self.hearth.ws + path)
            if says:
                await socket.send(says)
            with self.assertRaises(ConnectionClosed) as closed:
                while True:
                    await asyncio.wait_for(socket.recv(), PATIENCE)
            self.assertEqual((closed.exception.rcvd.code, closed.exception.rcvd.reason), (code, reason))

    async def test_a_drain(self):
        """Who drains says so, and closes with 1001."""
        ann = await enter(self.hearth, "/ws?user=ann")
        self.hearth.terminate()
        told = await ann.next("system")
        self.assertEqual(told["data"]["event"], "draining")
        with self.assertRaises(ConnectionClosed) as closed:
            await ann.next()
        self.assertEqual(closed.exception.rcvd.code, 1001)


if __name__ == "__main__":
    unittest.main()
