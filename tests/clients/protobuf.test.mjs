// Node's `ws` and `protobufjs` against a real Hearth: the subprotocol hearth.v1.proto, from the schema as it lies in proto/.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import { Hearth } from '../browser/hearth.mjs';
import { Session } from './session.mjs';

const proto = fileURLToPath(new URL('../../proto/', import.meta.url));
const root = new protobuf.Root();
// protobufjs has the well-known types inside; all else lies below proto/.
root.resolvePath = (_, path) => (path.startsWith('google/protobuf/') ? path : `${proto}${path}`);
root.loadSync('hearth/v1/room_service.proto');
const Request = root.lookupType('hearth.v1.ConnectRequest');
const Response = root.lookupType('hearth.v1.ConnectResponse');

let hearth;
let door;
before(async () => {
  hearth = await Hearth.start();
  door = hearth.url.replace('http', 'ws');
});
after(() => hearth.kill());

function say(session, request) {
  assert.equal(Request.verify(request), null);
  session.socket.send(Request.encode(Request.fromObject(request)).finish());
}

async function next(session) {
  for (;;) {
    const { bytes, isBinary } = await session.message();
    assert(isBinary, 'a text message on a protobuf session');
    const frame = Response.toObject(Response.decode(bytes), { longs: Number, oneofs: true });
    if (frame.frame !== 'presence') return frame;
  }
}

async function enter(path, options) {
  const session = await Session.open(door + path, ['hearth.v1.proto'], options);
  assert.equal(session.socket.protocol, 'hearth.v1.proto');
  const welcome = await next(session);
  assert.equal(welcome.frame, 'welcome');
  return session;
}

test('a session in protobuf beside one in JSON', async () => {
  for (const perMessageDeflate of [false, { threshold: 64 }]) {
    const room = perMessageDeflate ? 'deflated' : 'plain';
    const ann = await enter('/ws?user=ann', { perMessageDeflate });
    say(ann, { id: 'j', join: { room } });
    const joined = await next(ann);
    assert.deepEqual([joined.id, joined.frame, joined.joined.room], ['j', 'joined', room]);
    const bob = await Session.open(`${door}/ws/${room}?user=bob`);
    assert.equal((await bob.next()).data.event, 'welcome');
    assert.equal((await bob.next()).data.event, 'joined');

    const long = 'protobuf ☃ '.repeat(200);
    say(ann, { id: 'm1', publish: { room, payload: { json: JSON.stringify({ content: long }) } } });
    const ack = await next(ann);
    assert.deepEqual([ack.id, ack.frame, ack.ack.position.seq], ['m1', 'ack', 1]);
    const own = (await next(ann)).event;
    assert.deepEqual([own.seq, own.author, JSON.parse(own.payload.json)], [1, 'ann', { content: long }]);
    assert.deepEqual((await bob.next('text')).data, { content: long, author: 'ann' });

    // Bytes, as they are to one and in base64 to the other.
    say(ann, { id: 'm2', publish: { room, payload: { binary: Buffer.from([0, 255, 62]) } } });
    assert.equal((await next(ann)).frame, 'ack');
    assert.deepEqual([...(await next(ann)).event.payload.binary], [0, 255, 62]);
    assert.deepEqual((await bob.next('text')).data, { binary: 'AP8+', author: 'ann' });

    bob.say({ type: 'text', room, data: { content: 'from JSON' } });
    const heard = (await next(ann)).event;
    assert.deepEqual([heard.seq, heard.author, heard.payload.json], [3, 'bob', '{"content":"from JSON"}']);

    say(ann, { id: 'h', history: { room, limit: 10 } });
    const page = (await next(ann)).history;
    assert.deepEqual(
      page.messages.map((event) => event.seq),
      [1, 2, 3],
    );
    say(ann, { id: 'p', ping: {} });
    assert.deepEqual([(await next(ann)).id, (await ann.close()).code], ['p', 1000]);
    await bob.close();
  }
});

test('what is no command is an error, and a text ends the session', async () => {
  const ann = await enter('/ws?user=ann');
  ann.socket.send(Buffer.from([0xff, 0xff, 0xff]));
  const refused = await next(ann);
  assert.deepEqual([refused.frame, refused.error.code], ['error', 3]);
  say(ann, { id: 'still', ping: {} });
  assert.equal((await next(ann)).id, 'still');
  ann.socket.send('{"type":"ping"}');
  assert.deepEqual(await ann.closed, { code: 1003, reason: 'unsupported_data' });
});
