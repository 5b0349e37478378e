// What a server does rarely, played to the page by a script: how the page ends, waits and tries again.
// The page itself still comes from a real server; only its WebSocket is the script's.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Hearth } from './hearth.mjs';
import { launch, Playground } from './page.mjs';

let browser;
let shared;
let url = process.env.HEARTH_URL?.replace(/\/$/, '');

before(async () => {
  if (!url) {
    shared = await Hearth.start();
    url = shared.url;
  }
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await shared?.kill();
});

// Opens the page as alice in `general`. `answer(frame, send, socket)` may answer a frame itself by
// returning true; else joins, pings and texts are answered as a server does. With `clock` the page's
// timers are the test's to move.
async function openScripted(answer = () => false, { clock = false } = {}) {
  const script = { sockets: [], frames: [], seq: 0, epoch: 'first' };
  const waiting = [];
  const settle = () => {
    for (const check of [...waiting]) check();
  };
  // Resolves with the n-th frame that the page sends and `wanted` accepts.
  script.frame = (wanted, n = 1) =>
    new Promise((resolve) => {
      const check = () => {
        const found = script.frames.filter(wanted)[n - 1];
        if (found) resolve(found);
        return Boolean(found);
      };
      if (!check()) waiting.push(check);
    });
  const connected = (socket) => {
    const send = (frame) => socket.send(JSON.stringify(frame));
    script.sockets.push(socket);
    script.send = send;
    socket.onMessage((raw) => {
      const frame = JSON.parse(raw);
      script.frames.push(frame);
      if (!answer(frame, send, socket)) usual(script, frame, send);
      settle();
    });
    send({
      type: 'system',
      data: { event: 'welcome', session: 's1', user: 'alice', heartbeat_ms: 25000, max_message_bytes: 65536 },
    });
  };
  const prepare = async (page) => {
    if (clock) await page.clock.install();
    await page.routeWebSocket(/\/ws/, connected);
  };
  const alice = await Playground.open(browser, url, { query: '?user=alice&room=general', prepare });
  return { alice, script };
}

function usual(script, { type, id, room, data }, send) {
  if (type === 'join') {
    const recovered = data.since ? { recovered: data.since.epoch === script.epoch } : {};
    send({
      type: 'system',
      id,
      room,
      data: { event: 'joined', epoch: script.epoch, seq: script.seq, cursor: 'c', replayed: 0, ...recovered },
    });
  } else if (type === 'ping') {
    send({ type: 'ack', id, data: {} });
  } else if (type === 'text') {
    script.seq += 1;
    send({ type: 'ack', id, room, data: { status: 'delivered', seq: script.seq } });
    send({
      type: 'text',
      id,
      room,
      seq: script.seq,
      data: { ...data, author: 'alice' },
      timestamp: 1711000000.5,
    });
  }
}

const isText = (frame) => frame.type === 'text';

for (const [code, reason] of [
  [1000, 'bye'],
  [1003, 'unsupported_data'],
  [1008, 'invalid_argument'],
  [1009, 'too_big'],
  [4003, 'kicked'],
]) {
  test(`closed with ${code}: the page says why, stays away, and comes back when asked`, async () => {
    const { alice, script } = await openScripted(undefined, { clock: true });
    await alice.joined();
    await script.sockets[0].close({ code, reason });
    await alice.phase('closed');
    const status = await alice.status();
    assert.ok(status.includes(`${code} · ${reason}`), status);
    await alice.page.clock.runFor(60_000);
    assert.equal(script.sockets.length, 1, 'no second connection by itself');
    await alice.page.getByRole('button', { name: 'Restore the wire' }).click();
    await alice.joined();
    assert.equal(script.sockets.length, 2);
    await alice.close();
  });
}

for (const [code, reason] of [
  [1011, 'internal'],
  [1013, 'overloaded'],
  [4001, 'token_expired'],
  [4002, 'slow_consumer'],
  [4004, 'rate_limited'],
]) {
  test(`closed with ${code}: the page comes back by itself, from where it left off`, async () => {
    const { alice, script } = await openScripted();
    await alice.joined();
    await alice.say('one');
    await alice.acked('one');
    await script.sockets[0].close({ code, reason });
    await script.frame((frame) => frame.type === 'join', 2);
    await alice.notice('good').waitFor();
    assert.deepEqual(
      script.frames.filter((frame) => frame.type === 'join').map((frame) => frame.data),
      [{ history: 50 }, { since: { epoch: 'first', seq: 1 } }],
    );
    assert.equal(script.sockets.length, 2, 'one connection at a time');
    await alice.close();
  });
}

test('a drain: the page spreads its return over the time that the server gives', async () => {
  const { alice, script } = await openScripted();
  await alice.joined();
  await alice.page.evaluate(() => {
    Math.random = () => 0.5;
  });
  script.send({ type: 'system', data: { event: 'draining', reconnect_after_ms: 60_000 } });
  await script.sockets[0].close({ code: 1001, reason: 'draining' });
  await alice.phase('waiting');
  const status = await alice.status();
  assert.match(status, /1001 · draining/);
  const seconds = Number(status.match(/in ([\d.]+) s/)[1]);
  assert.ok(seconds > 25 && seconds <= 30, `${seconds} s of at most 60`);
  await alice.page.getByRole('button', { name: 'Try now' }).click();
  await alice.joined();
  await alice.close();
});

test('the backoff grows with full jitter, to 20 s at the most', async () => {
  const { alice } = await openScripted();
  await alice.joined();
  const delays = await alice.page.evaluate(() =>
    Array.from({ length: 12 }, (_, attempt) =>
      // The page's own function: top-level names of a classic script are global.
      [0, 0.5, 1].map((random) => reconnectDelay({ code: 1006, attempt, spreadMs: null, random })),
    ),
  );
  assert.deepEqual(
    delays.map((row) => row[2]),
    [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000, 20000, 20000, 20000, 20000],
  );
  assert.ok(delays.every(([least, middle, most]) => least === 0 && middle === most / 2));
  await alice.close();
});

test('a refused message shows why, and is sent again under the same id', async () => {
  let refusals = 0;
  const { alice, script } = await openScripted(({ type, id, room }, send) => {
    if (type !== 'text' || refusals > 0) return false;
    refusals += 1;
    send({ type: 'error', id, room, data: { code: 'unavailable', message: 'the core is away' } });
    return true;
  });
  await alice.joined();
  await alice.say('once more');
  const trouble = alice.page.locator('.message[data-status="failed"]');
  await trouble.waitFor();
  assert.match(await trouble.innerText(), /unavailable: the core is away/);
  await alice.page.getByRole('button', { name: 'Send again' }).click();
  await alice.acked('once more');
  const ids = script.frames.filter(isText).map((frame) => frame.id);
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
  assert.equal((await alice.messages()).length, 1);
  await alice.close();
});

test('an ack that was lost: after the return the same id goes out again, and the message stands there once', async () => {
  let connection = 0;
  const { alice, script } = await openScripted(({ type, id, room, data }, send, socket) => {
    if (type === 'join') connection += 1;
    if (type === 'join' && connection === 2) {
      send({
        type: 'system',
        id,
        room,
        data: { event: 'joined', epoch: 'first', seq: 1, cursor: 'c', recovered: false, replayed: 0 },
      });
      return true;
    }
    if (type !== 'text') return false;
    if (connection === 1) socket.close({ code: 1011, reason: 'internal' });
    else send({ type: 'ack', id, room, data: { status: 'delivered', seq: 1, duplicate: true } });
    return true;
  });
  await alice.joined();
  await alice.say('did you hear?');
  await alice.acked('did you hear?');
  const ids = script.frames.filter(isText).map((frame) => frame.id);
  assert.deepEqual(ids, [ids[0], ids[0]]);
  assert.deepEqual(
    (await alice.messages()).map(({ seq, text }) => [seq, text]),
    [[1, 'did you hear?']],
  );
  assert.match(await alice.message('did you hear?').innerText(), /acked again/);
  await alice.close();
});

test('joined comes unasked: with recovered:true all is well, with recovered:false history was lost', async () => {
  const { alice, script } = await openScripted();
  await alice.joined();
  await alice.say('old');
  await alice.acked('old');
  script.send({
    type: 'system',
    room: 'general',
    data: { event: 'joined', epoch: 'first', seq: 1, cursor: 'c', recovered: true, replayed: 0 },
  });
  await alice.notice('good').waitFor();
  assert.equal(await alice.notice('lost').count(), 0);

  script.epoch = 'second';
  script.seq = 0;
  script.send({
    type: 'system',
    room: 'general',
    data: { event: 'joined', epoch: 'second', seq: 0, cursor: 'c', recovered: false, replayed: 0 },
  });
  await alice.notice('lost').waitFor();
  assert.match(
    await alice.notice('lost').innerText(),
    /History was lost[^]*A core was replaced[^]*second instead of first/,
  );
  await alice.say('new');
  await alice.acked('new');
  assert.deepEqual(
    (await alice.messages()).map(({ seq, text, stale }) => [seq, text, stale]),
    [
      [1, 'old', true],
      [1, 'new', false],
    ],
  );
  await alice.close();
});

test('what breaks the order is shown: an event that is missing, one that comes twice', async () => {
  const { alice, script } = await openScripted();
  await alice.joined();
  const event = (seq) =>
    script.send({
      type: 'text',
      room: 'general',
      seq,
      data: { content: `event ${seq}`, author: 'bob' },
      timestamp: 1711000000,
    });
  event(1);
  event(4);
  event(4);
  await alice.page.locator('.notice', { hasText: 'Missing: seq 2 to 3' }).waitFor();
  await alice.page.locator('.notice', { hasText: 'Came twice: seq 4' }).waitFor();
  assert.deepEqual(
    (await alice.messages()).map(({ seq }) => seq),
    [1, 4],
  );
  await alice.close();
});

test('odd frames hurt nothing: no JSON, no object, unknown types, other data, a flood', async () => {
  const { alice, script } = await openScripted();
  await alice.joined();
  for (const raw of [
    'not json',
    '42',
    'null',
    '[]',
    '{}',
    '{"type":7,"data":[]}',
    '{"type":"system"}',
    '{"type":"error"}',
    '{"type":"signal","room":"general","data":{"emoji":{"a":1}}}',
    '{"type":"text","room":"nowhere","seq":1}',
  ]) {
    script.sockets[0].send(raw);
  }
  script.send({
    type: 'text',
    room: 'general',
    seq: 1,
    data: { binary: 'aGk=', author: 'bob' },
    timestamp: 1711000000,
  });
  await alice.page.locator('.message .text.json', { hasText: '"binary": "aGk="' }).waitFor();
  script.sockets[0].send(
    '{"type":"text","room":"general","seq":2,"data":{"content":"big","n":12345678901234567890,"author":"bob"}}',
  );
  await alice.page.locator('.frame pre', { hasText: '12345678901234567890' }).waitFor();
  for (let seq = 3; seq <= 1200; seq += 1)
    script.send({
      type: 'text',
      room: 'general',
      seq,
      data: { content: `event ${seq}`, author: 'bob' },
      timestamp: 1711000000,
    });
  await alice.sees('event 1200');
  assert.ok((await alice.page.locator('.frame').count()) <= 500);
  assert.ok((await alice.page.locator('.message').count()) <= 1000);
  assert.equal(await alice.notice('warn').count(), 0);
  await alice.close();
});

test('earlier messages are read from history, page by page', async () => {
  const past = Array.from({ length: 120 }, (_, i) => ({
    type: 'text',
    room: 'general',
    seq: i + 1,
    data: { content: `event ${i + 1}`, author: 'bob' },
    timestamp: 1711000000,
  }));
  const { alice } = await openScripted(({ type, id, room, data }, send) => {
    if (type === 'join') {
      send({
        type: 'system',
        id,
        room,
        data: { event: 'joined', epoch: 'first', seq: 120, cursor: 'c', replayed: 50 },
      });
      past.slice(-50).forEach(send);
    } else if (type === 'history') {
      const older = past.filter((message) => message.seq < data.before);
      send({
        type: 'history',
        id,
        room,
        data: {
          epoch: 'first',
          seq: 120,
          messages: older.slice(-data.limit),
          more: older.length > data.limit,
        },
      });
    } else return false;
    return true;
  });
  await alice.sees('event 120');
  const earlier = alice.page.getByRole('button', { name: 'Show earlier messages' });
  await earlier.click();
  await alice.sees('event 21');
  await earlier.click();
  await alice.sees('event 1');
  await earlier.waitFor({ state: 'hidden' });
  assert.deepEqual(
    (await alice.messages()).map(({ seq }) => seq),
    past.map(({ seq }) => seq),
  );
  await alice.close();
});

test('no answer: a message can be sent again after a while, and a link that is silent is given up', async () => {
  const silent = new Set();
  const { alice, script } = await openScripted(({ type }) => silent.has(type), { clock: true });
  await alice.joined();
  silent.add('text');
  await alice.say('hello?');
  await script.frame(isText);
  await alice.page.clock.runFor(11_000);
  await alice.page.locator('.message[data-status="failed"]', { hasText: 'No answer in 10 s' }).waitFor();
  silent.clear();
  await alice.page.getByRole('button', { name: 'Send again' }).click();
  await alice.acked('hello?');
  assert.equal(script.sockets.length, 1);

  silent.add('ping');
  await alice.page.clock.runFor(21_000); // The next ping, its 10 s, and the first backoff; not a second round.
  await script.frame(({ type }) => type === 'join', 2);
  assert.equal(script.sockets.length, 2);
  await alice.joined();
  await alice.close();
});
