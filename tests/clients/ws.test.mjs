// Node's `ws` against a real Hearth, in JSON.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Hearth } from '../browser/hearth.mjs';
import { Session, within } from './session.mjs';

let hearth;
let door;
before(async () => {
  hearth = await Hearth.start();
  door = hearth.url.replace('http', 'ws');
});
after(() => hearth.kill());

async function enter(path, options) {
  const session = await Session.open(door + path, ['hearth.v1.json'], options);
  assert.equal((await session.next()).data.event, 'welcome');
  return session;
}

test('many messages, compressed both ways', async () => {
  const options = { perMessageDeflate: { threshold: 64 } };
  const ann = await enter('/ws/deflate?user=ann', options);
  const bob = await enter('/ws/deflate?user=bob', options);
  for (const session of [ann, bob]) {
    assert.match(session.socket.extensions, /permessage-deflate/);
    assert.equal((await session.next()).data.event, 'joined');
  }
  const texts = Array.from({ length: 1000 }, (_, n) => `${n} the same words ☃ `.repeat(1 + ((n * 37) % 150)));
  texts.forEach((content, n) => ann.say({ type: 'text', id: `m${n}`, room: 'deflate', data: { content } }));
  for (const session of [ann, bob])
    for (const [n, content] of texts.entries()) {
      const heard = await session.next('text');
      assert.deepEqual([heard.seq, heard.data], [n + 1, { content, author: 'ann' }]);
    }
  assert.deepEqual(await ann.close(), { code: 1000, reason: '' });
  await bob.close();
});

test('a message in fragments, compressed and not', async () => {
  for (const perMessageDeflate of [false, { threshold: 0 }]) {
    const ann = await enter('/ws?user=ann', { perMessageDeflate });
    const text = JSON.stringify({ type: 'ping', id: 'in parts, ä☃' });
    for (let at = 0; at < text.length; at += 3)
      ann.socket.send(text.slice(at, at + 3), { fin: at + 3 >= text.length, compress: perMessageDeflate !== false });
    const ack = await ann.next('ack');
    assert.equal(ack.id, 'in parts, ä☃');
    await ann.close();
  }
});

test('a ping is answered by a pong with the same bytes', async () => {
  const ann = await enter('/ws?user=ann');
  const pong = new Promise((resolve) => ann.socket.once('pong', (bytes) => resolve(bytes.toString())));
  ann.socket.ping('there?');
  assert.equal(await within('a pong', pong), 'there?');
  await ann.close();
});

test('the server pings, and who answers stays', async () => {
  const busy = await Hearth.start(['--heartbeat', '1s']);
  try {
    const ann = await Session.open(`${busy.url.replace('http', 'ws')}/ws?user=ann`);
    let pings = 0;
    const third = new Promise((resolve) =>
      ann.socket.on('ping', () => {
        pings += 1;
        if (pings === 3) resolve();
      }),
    );
    await within('a third ping', third);
    ann.say({ type: 'ping', id: 'still here' });
    assert.equal((await ann.next('ack')).id, 'still here');
    await ann.close();
  } finally {
    await busy.kill();
  }
});

test('what ends a session says why', async () => {
  const rows = [
    ['/ws?user=ann', Buffer.from('{}'), { code: 1003, reason: 'unsupported_data' }],
    ['/ws?user=ann', 'x'.repeat(65_537), { code: 1009, reason: 'too_big' }],
    ['/ws/no%20room', undefined, { code: 1008, reason: 'invalid_argument' }],
  ];
  for (const [path, says, expected] of rows) {
    const session = await Session.open(door + path);
    if (says) session.socket.send(says);
    assert.deepEqual(await within('the end', session.closed), expected);
  }
});

test('a code of the client comes back', async () => {
  const ann = await enter('/ws?user=ann');
  assert.deepEqual(await ann.close(4321), { code: 4321, reason: '' });
});
