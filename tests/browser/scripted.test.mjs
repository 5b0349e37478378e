// What a server does rarely, played to the page by a script: how the page ends, waits and tries again.
// The page itself still comes from a real server; only its WebSocket is the script's.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Hearth } from './hearth.mjs';
import { launch, PATIENCE_MS, Playground } from './page.mjs';

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
// returning true; else joins, pings, texts and metas are answered as a server does, and alice is alone.
// With `clock` the page's timers are the test's to move.
async function openScripted(answer = () => false, { clock = false, rooms = ['general'], ...options } = {}) {
  const script = { sockets: [], frames: [], seq: 0, epoch: 'first' };
  const waiting = [];
  const settle = () => {
    for (const check of [...waiting]) check();
  };
  // Resolves with the n-th frame that the page sends and `wanted` accepts.
  script.frame = (wanted, n = 1) =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no such frame: ${wanted}, ${n}`)), PATIENCE_MS);
      const check = () => {
        const found = script.frames.filter(wanted)[n - 1];
        if (!found) return false;
        clearTimeout(late);
        resolve(found);
        return true;
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
  // What the page sent of one type, in order.
  script.sent = (type) => script.frames.filter((frame) => frame.type === type);
  script.presence = (data, room = 'general') => script.send({ type: 'presence', room, data });
  const query = `?user=alice&room=${rooms.join(',')}`;
  const alice = await Playground.open(browser, url, { query, prepare, ...options });
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
    send({ type: 'presence', room, data: { event: 'state', online: [online('alice')] } });
  } else if (type === 'presence') {
    send({ type: 'ack', id, room, data: { status: 'ok' } });
    send({ type: 'presence', room, data: { event: 'update', user: 'alice', meta: data.meta } });
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

const online = (user, meta = {}, sessions = 1) => ({ user, meta, sessions, since: 1711000000 });

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
    '{"type":"signal","room":"general","data":{"reaction":{"a":1}}}',
    '{"type":"presence","room":"general"}',
    '{"type":"presence","room":"general","data":{"event":"state","online":{}}}',
    '{"type":"presence","room":"general","data":{"event":"state","online":[null,7,{"user":{}},{"user":"alice"}]}}',
    '{"type":"presence","room":"general","data":{"event":"join","user":["a"],"meta":{}}}',
    '{"type":"presence","room":"general","data":{"event":"join","user":"__proto__","meta":7}}',
    '{"type":"presence","room":"general","data":{"event":"count","count":"many"}}',
    '{"type":"presence","room":"nowhere","data":{"event":"join","user":"bob","meta":{}}}',
    '{"type":"typing","room":"general","data":{"active":"perhaps"}}',
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
  assert.deepEqual(await alice.people(), ['alice', '__proto__']);
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

test('who is online: a state, then who comes, changes and goes; the next state replaces it all', async () => {
  const { alice, script } = await openScripted();
  await alice.joined();
  await alice.online('1 person online');
  assert.match(await alice.person('alice').innerText(), /alice\s+you/);

  script.presence({ event: 'state', online: [online('zoe'), online('alice'), online('bob', {}, 3)] });
  await alice.online('3 people online');
  assert.deepEqual(await alice.people(), ['alice', 'bob', 'zoe'], 'oneself first, then by name');
  assert.match(await alice.person('bob').innerText(), /×3/);
  assert.doesNotMatch(await alice.person('zoe').innerText(), /×/);

  script.presence({ event: 'join', user: 'ann', meta: { status: 'away', name: 'Annie' } });
  await alice.shows('ann', 'Annie · away');
  assert.equal(await alice.person('ann').getAttribute('data-status'), 'away');
  script.presence({ event: 'update', user: 'bob', meta: { status: 'busy', mood: { level: 3 } } });
  await alice.shows('bob', 'busy');
  assert.match(await alice.person('bob').getAttribute('title'), /\{"mood":\{"level":3\}\}/);
  assert.match(await alice.person('bob').innerText(), /×3/, 'an update says nothing of sessions');
  await alice.online('4 people online');
  script.presence({ event: 'leave', user: 'zoe', meta: {} });
  await alice.gone('zoe');
  await alice.online('3 people online');

  script.presence({ event: 'state', online: [online('alice'), online('carol')] });
  await alice.online('2 people online');
  assert.deepEqual(await alice.people(), ['alice', 'carol']);
  await alice.page.locator('.frame .kind', { hasText: 'presence update' }).waitFor();
  await alice.close();
});

test('what people say of themselves is text, never markup, however long, and never too wide', async () => {
  const { alice, script } = await openScripted(undefined, { viewport: { width: 320, height: 700 } });
  await alice.joined();
  const markup = '<img src=x onerror=alert(1)>';
  const people = [online(markup, { status: markup, name: `<b>${'w'.repeat(5_000)}</b>`, html: markup })];
  for (let i = 1; i <= 600; i += 1) people.push(online(`guest-${i}`, { status: 'here' }));
  script.presence({ event: 'state', online: [online('alice'), ...people] });
  await alice.online('602 people online');
  assert.equal(await alice.page.locator('#people img, #people b').count(), 0);
  assert.equal(await alice.page.locator('.person .name').nth(1).textContent(), markup);
  assert.equal(await alice.page.locator('.person').count(), 500);
  assert.equal(await alice.page.locator('#people-list .more').textContent(), 'and 102 more');
  assert.deepEqual(await alice.sideways(), []);
  await alice.close();
});

test('a big room tells only how many, until a state comes again', async () => {
  const { alice, script } = await openScripted();
  await alice.joined();
  script.presence({ event: 'count', count: 1204 });
  await alice.online('1204 people online');
  assert.deepEqual(await alice.people(), []);
  assert.equal(await alice.page.locator('#people-list').isVisible(), false);
  script.presence({ event: 'join', user: 'late', meta: {} });
  script.presence({ event: 'count', count: 1205 });
  await alice.online('1205 people online');
  assert.deepEqual(await alice.people(), []);
  script.presence({ event: 'state', online: [online('alice'), online('bob')] });
  await alice.online('2 people online');
  assert.deepEqual(await alice.people(), ['alice', 'bob']);
  await alice.close();
});

test('a lost link: who was online stays, dimmed, until the next state', async () => {
  let mute = false;
  const { alice, script } = await openScripted(({ type, id, room }, send) => {
    if (type !== 'join' || !mute) return false;
    const data = { event: 'joined', epoch: 'second', seq: 0, cursor: 'c', recovered: false, replayed: 0 };
    send({ type: 'system', id, room, data });
    return true;
  });
  await alice.joined();
  script.presence({ event: 'join', user: 'bob', meta: {} });
  await alice.online('2 people online');
  const stale = alice.page.locator('#people.stale');
  assert.equal(await stale.count(), 0);

  mute = true;
  await script.sockets[0].close({ code: 1011, reason: 'internal' });
  await stale.waitFor();
  await alice.online('2 were online');
  await script.frame(({ type }) => type === 'join', 2);
  await alice.joined();
  script.presence({ event: 'join', user: 'early', meta: {} });
  await alice.page.locator('.frame pre', { hasText: '"early"' }).waitFor();
  assert.deepEqual(await alice.people(), ['alice', 'bob'], 'a change without its state says nothing');
  assert.equal(await stale.count(), 1);
  script.presence({ event: 'state', online: [online('alice'), online('carol')] });
  await alice.online('2 people online');
  assert.deepEqual(await alice.people(), ['alice', 'carol']);
  assert.equal(await stale.count(), 0);
  await alice.close();
});

test('every room has its own people; a room that is refused or taken away shows none', async () => {
  const { alice, script } = await openScripted(undefined, { rooms: ['general', 'garden'] });
  await alice.joined();
  await script.frame(({ type }) => type === 'join', 2);
  script.presence({ event: 'state', online: [online('alice'), online('bob'), online('ann')] }, 'garden');
  const crowd = (room) => alice.page.locator(`.room[data-room="${room}"] .crowd`);
  await crowd('garden').getByText('3').waitFor();
  assert.match(await crowd('general').innerText(), /^1/);
  assert.deepEqual(await alice.people(), ['alice']);
  await alice.page.locator('.room[data-room="garden"] .open').click();
  await alice.online('3 people online');
  assert.deepEqual(await alice.people(), ['alice', 'ann', 'bob']);
  script.send({ type: 'system', room: 'garden', data: { event: 'left' } });
  await alice.roomStatus('left');
  assert.deepEqual(await alice.people(), []);
  assert.equal(await alice.page.locator('#meta-status').isDisabled(), true);
  await alice.page.locator('.room[data-room="general"] .open').click();
  await alice.online('1 person online');
  await alice.close();
});

test('one sets status and name, by keyboard too; they go out again with the next join and after a reload', async () => {
  const { alice, script } = await openScripted();
  await alice.joined();
  const metas = () => script.sent('presence').map((frame) => frame.data);
  await alice.page.locator('#meta-status').selectOption('busy');
  await alice.shows('alice', 'busy');
  const [first] = script.sent('presence');
  assert.deepEqual(
    { ...first, id: typeof first.id },
    { type: 'presence', id: 'string', room: 'general', data: { meta: { status: 'busy' } } },
  );

  await alice.page.keyboard.press('Alt+s');
  await alice.page.keyboard.press('Tab');
  await alice.page.keyboard.type('Al <b>');
  await alice.page.keyboard.press('Enter');
  await alice.shows('alice', 'Al <b> · busy');
  await alice.page.locator('#text').focus();
  assert.deepEqual(metas(), [{ meta: { status: 'busy' } }, { meta: { status: 'busy', name: 'Al <b>' } }]);

  await script.sockets[0].close({ code: 1011, reason: 'internal' });
  await script.frame(({ type }) => type === 'presence', 3);
  assert.deepEqual(metas()[2], metas()[1], 'a new session has no meta of its own');
  await alice.shows('alice', 'Al <b> · busy');

  await alice.page.reload();
  await script.frame(({ type }) => type === 'presence', 4);
  assert.deepEqual(metas()[3], metas()[1]);
  assert.equal(await alice.page.locator('#meta-name').inputValue(), 'Al <b>');

  await alice.cutOrRestore();
  await alice.page.locator('#meta-status').selectOption('away');
  await alice.cutOrRestore();
  await script.frame(({ type }) => type === 'presence', 5);
  assert.deepEqual(metas()[4], { meta: { status: 'away', name: 'Al <b>' } }, 'set while cut, sent when back');
  assert.equal(metas().length, 5);
  await alice.close();
});

test('a status that is refused shows why, and what one has set before is shown again', async () => {
  let refuse = false;
  const { alice, script } = await openScripted(({ type, id, room }, send) => {
    if (type !== 'presence' || !refuse) return false;
    send({ type: 'error', id, room, data: { code: 'invalid_argument', message: 'meta: too large' } });
    return true;
  });
  await alice.joined();
  const status = alice.page.locator('#meta-status');
  await status.selectOption('away');
  await alice.shows('alice', 'away');
  refuse = true;
  await status.selectOption('busy');
  await alice.page.locator('#hint.loud', { hasText: 'invalid_argument: meta: too large' }).waitFor();
  await alice.page.waitForFunction(() => document.getElementById('meta-status').value === 'away');
  assert.match(await alice.person('alice').innerText(), /away/);
  assert.equal(script.sent('presence').length, 2);
  await alice.close();
});

test('who types is shown: one, two, several, not oneself; and it ends in each of four ways', async () => {
  const { alice, script } = await openScripted(undefined, { clock: true });
  await alice.joined();
  const typing = (author, active = true) =>
    script.send({ type: 'typing', room: 'general', data: { active, author } });
  for (const user of ['ann', 'bob', 'carol']) script.presence({ event: 'join', user, meta: {} });
  typing('alice'); // From another tab.
  typing('ann');
  await alice.typing(/^ann is typing…$/);
  typing('bob');
  await alice.typing(/^ann and bob are typing…$/);
  typing('carol');
  typing('dave');
  await alice.typing(/^several people are typing…$/);

  script.presence({ event: 'leave', user: 'carol', meta: {} });
  typing('dave', false);
  await alice.typing(/^ann and bob are typing…$/);
  const data = { content: 'done', author: 'bob' };
  script.send({ type: 'text', room: 'general', seq: 1, data, timestamp: 1711000000 });
  await alice.typing(/^ann is typing…$/);
  await alice.page.clock.runFor(5_000);
  typing('ann');
  await alice.page.locator('.frame .kind', { hasText: 'typing' }).nth(6).waitFor();
  await alice.page.clock.runFor(3_000);
  await alice.typing(/^ann is typing…$/); // Said again in time.
  await alice.page.clock.runFor(4_500);
  await alice.nobodyTypes({ timeout: 2_000 });
  await alice.close();
});

test('one tells that one types: at most every 2 s, and at once that it is over', async () => {
  const { alice, script } = await openScripted(undefined, { clock: true, rooms: ['general', 'garden'] });
  await alice.joined();
  await script.frame(({ type }) => type === 'join', 2);
  const { keyboard } = alice.page;
  const nth = (n) => script.frame(({ type }) => type === 'typing', n);
  const told = () => script.sent('typing').map(({ room, data }) => `${room} ${JSON.stringify(data)}`);
  const [on, off] = ['general {"active":true}', 'general {"active":false}'];

  await alice.page.locator('#text').focus();
  await keyboard.type('a few words');
  await alice.page.clock.runFor(500);
  await keyboard.type('!');
  assert.deepEqual(told(), [on]);
  await alice.page.clock.runFor(2_000);
  await keyboard.type('!');
  await nth(2);
  await keyboard.press('Enter'); // Sent.
  await nth(3);
  await keyboard.type('x');
  await keyboard.press('Backspace'); // Empty.
  await nth(5);
  await keyboard.type('y');
  await keyboard.press('Alt+j'); // Elsewhere.
  await nth(7);
  await keyboard.press('Alt+m');
  await keyboard.type('z');
  await keyboard.press('Alt+ArrowDown'); // In another room.
  await nth(9);
  await keyboard.type('z');
  await nth(10);
  assert.deepEqual(told(), [on, on, off, on, off, on, off, on, off, 'garden {"active":true}']);
  assert.ok(
    script.sent('typing').every(({ id }) => id === undefined),
    'nobody needs to acknowledge that',
  );
  await alice.close();
});

test('a wave goes out as a reaction; what others send rises for a moment with its author', async () => {
  const { alice, script } = await openScripted(undefined, { rooms: ['general', 'garden'] });
  await alice.joined();
  await alice.page.getByRole('button', { name: 'Wave' }).click();
  await script.frame(({ type }) => type === 'signal');
  assert.deepEqual(script.sent('signal'), [{ type: 'signal', room: 'general', data: { reaction: '👋' } }]);
  const float = (text) => alice.page.locator('.float', { hasText: text });
  await float('👋').waitFor();
  assert.match(await float('👋').innerText(), /you/);

  const signal = (room, data) => script.send({ type: 'signal', room, data });
  signal('garden', { reaction: '🎉', author: 'zoe' });
  signal('general', { reaction: '👩‍👩‍👧 and more', author: 'ann' });
  signal('general', { cursor: [3, 4], author: '<b>bob</b>' });
  await float('ann').waitFor();
  await float('<b>bob</b>').waitFor();
  assert.match(await float('ann').innerText(), /^👩‍👩‍👧\s+ann$/);
  assert.match(await float('<b>bob</b>').innerText(), /^✦/);
  assert.equal(await float('zoe').count(), 0, 'a signal is for those who look at the room');
  await float('ann').waitFor({ state: 'detached' });
  await alice.close();
});

test('who comes, goes and types is spoken of politely, and summed up when it is much', async () => {
  const { alice, script } = await openScripted(undefined, { clock: true });
  await alice.joined();
  await alice.page.evaluate(() => {
    globalThis.spoken = [];
    const region = document.getElementById('people-announcer');
    new MutationObserver(() => region.textContent && globalThis.spoken.push(region.textContent)).observe(
      region,
      { childList: true, characterData: true, subtree: true },
    );
  });
  const spoken = async (n) => {
    await alice.page.clock.runFor(3_200);
    await alice.page.waitForFunction((count) => globalThis.spoken.length >= count, n);
    return alice.page.evaluate(() => globalThis.spoken);
  };
  const here = (event, user) => script.presence({ event, user, meta: {} });
  here('join', 'bob');
  here('join', 'brief');
  here('leave', 'brief');
  script.send({ type: 'typing', room: 'general', data: { active: true, author: 'bob' } });
  await alice.typing('bob is typing');
  assert.deepEqual(await spoken(1), ['bob came. bob is typing…']);

  for (let i = 0; i < 200; i += 1) here('join', `guest-${i}`);
  for (let i = 0; i < 40; i += 1)
    script.send({ type: 'typing', room: 'general', data: { active: true, author: 'bob' } });
  here('leave', 'bob');
  await alice.online('201 people online');
  assert.deepEqual((await spoken(2)).slice(1), ['200 people came. bob left']);
  assert.equal(await alice.page.locator('#people-announcer').getAttribute('aria-live'), 'polite');
  await alice.close();
});
