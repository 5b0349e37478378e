// Stories of people at the playground, in a real browser, against a real server.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Hearth } from './hearth.mjs';
import { launch, Playground } from './page.mjs';

let browser;
let shared; // The server of the stories that leave it as it is.
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

let rooms = 0;
const freshRoom = (name) => `${name}-${process.pid}-${(rooms += 1)}`;
const open = (user, room, options = {}) =>
  Playground.open(browser, url, { query: `?user=${user}&room=${room}`, ...options });
const numbered = (messages) => messages.map(({ seq, author, text }) => `${seq} ${author}: ${text}`);

test('two people talk: both see the same messages in the same order, and the speaker sees the ack', async () => {
  const room = freshRoom('talk');
  const alice = await open('alice', room);
  const bob = await open('bob', room);
  await Promise.all([alice.joined(), bob.joined()]);

  await alice.say('Is the fire lit?');
  await bob.sees('Is the fire lit?');
  await bob.say('It is.');
  await alice.sees('It is.');
  for (const text of ['one', 'two', 'three']) await alice.say(text);
  await Promise.all([
    alice.sees('three'),
    bob.sees('three'),
    alice.acked('Is the fire lit?'),
    bob.acked('It is.'),
  ]);

  const seen = await alice.messages();
  assert.deepEqual(
    seen.map(({ seq }) => seq),
    [1, 2, 3, 4, 5],
  );
  assert.deepEqual(
    seen.slice(0, 2).map(({ author, text }) => [author, text]),
    [
      ['alice', 'Is the fire lit?'],
      ['bob', 'It is.'],
    ],
  );
  assert.deepEqual(await bob.messages(), seen);
  assert.match(await alice.position(), /epoch .+ · seq 5$/);

  const sent = (await alice.frames()).find((frame) => frame.dir === 'out' && frame.type === 'text');
  const ack = (await alice.frames()).find((frame) => frame.type === 'ack' && frame.id === sent.id);
  assert.deepEqual({ status: ack.data.status, seq: ack.data.seq }, { status: 'delivered', seq: 1 });
  await Promise.all([alice.close(), bob.close()]);
});

test('a cut wire: what the others say meanwhile comes back once and in order, what was written goes out once', async () => {
  const room = freshRoom('tunnel');
  const alice = await open('alice', room);
  const bob = await open('bob', room);
  await Promise.all([alice.joined(), bob.joined()]);
  await bob.say('before');
  await alice.sees('before');

  await alice.cutOrRestore();
  await alice.phase('cut');
  assert.match(await alice.status(), /Wire cut[^]*by you/);
  for (const text of ['missed one', 'missed two', 'missed three']) {
    await bob.say(text);
    await bob.acked(text);
  }
  await alice.say('written in the dark');
  await alice.page.locator('.message[data-status="pending"]').waitFor();
  assert.deepEqual(
    (await alice.messages()).map(({ text }) => text),
    ['before', 'written in the dark'],
  );

  await alice.cutOrRestore();
  await alice.joined();
  await alice.acked('written in the dark');
  await bob.sees('written in the dark');
  assert.deepEqual(numbered(await alice.messages()), [
    '1 bob: before',
    '2 bob: missed one',
    '3 bob: missed two',
    '4 bob: missed three',
    '5 alice: written in the dark',
  ]);
  assert.match(await alice.notice('good').innerText(), /Recovered, replayed 3\./);
  assert.equal(await alice.page.locator('.message.replayed').count(), 3);
  assert.equal(await alice.notice('warn').count(), 0, 'no gap, nothing twice');
  assert.deepEqual(await bob.messages(), await alice.messages());

  const join = (await alice.frames()).filter((frame) => frame.dir === 'out' && frame.type === 'join').at(-1);
  assert.equal(join.data.since.seq, 1, 'the page told where it had left off');
  await Promise.all([alice.close(), bob.close()]);
});

test('a server that starts anew: the page comes back by itself, says that history was lost, and talks on', async () => {
  const hearth = await Hearth.start();
  try {
    const alice = await Playground.open(browser, hearth.url, {
      query: '?user=alice&room=general',
      down: true,
    });
    await alice.joined();
    await alice.say('old one');
    await alice.say('old two');
    await alice.acked('old two');
    const before = await alice.position();

    await hearth.kill();
    await alice.phase('waiting');
    assert.match(await alice.status(), /Reconnecting[^]*1006/);
    await alice.say('while you were away');
    await hearth.run();
    await alice.joined();

    await alice.notice('lost').waitFor();
    assert.match(await alice.notice('lost').innerText(), /History was lost[^]*new epoch/);
    await alice.acked('while you were away');
    await alice.say('a new beginning');
    await alice.acked('a new beginning');
    const messages = await alice.messages();
    assert.deepEqual(
      messages.map(({ seq, text, stale }) => [seq, text, stale]),
      [
        [1, 'old one', true],
        [2, 'old two', true],
        [1, 'while you were away', false],
        [2, 'a new beginning', false],
      ],
    );
    assert.notEqual((await alice.position()).split(' ')[1], before.split(' ')[1], 'another epoch');
    await alice.page.getByRole('button', { name: 'Load what the server has' }).click();
    await alice.page.locator('.notice', { hasText: 'Loaded 2 messages' }).waitFor();
    assert.deepEqual(await alice.messages(), messages, 'what was known already is not shown twice');
    await alice.close();
  } finally {
    await hearth.kill();
  }
});

// Presence has its own servers: its stories need times and limits that a story can wait for.
async function withHearth(flags, story) {
  const hearth = await Hearth.start(flags);
  try {
    await story((user, options = {}) =>
      Playground.open(browser, hearth.url, { query: `?user=${user}&room=general`, ...options }),
    );
  } finally {
    await hearth.kill();
  }
}

test('two people see each other come, type, change and go', () =>
  withHearth(['--presence-timeout', '1s'], async (open) => {
    const alice = await open('alice');
    await alice.joined();
    await alice.online('1 person online');
    const bob = await open('bob');
    await bob.joined();
    await Promise.all([alice.online('2 people online'), bob.online('2 people online')]);
    assert.deepEqual(await alice.people(), ['alice', 'bob']);
    assert.deepEqual(await bob.people(), ['bob', 'alice']);

    await bob.page.locator('#text').pressSequentially('I am wri');
    await alice.typing(/^bob is typing…$/);
    await bob.page.locator('#text').fill('');
    await alice.nobodyTypes();
    await bob.page.locator('#text').pressSequentially('Good evening');
    await alice.typing(/^bob is typing…$/);
    await bob.page.keyboard.press('Enter');
    await alice.sees('Good evening');
    await alice.nobodyTypes();
    assert.equal(await bob.page.locator('#typing').innerText(), '', 'nobody sees oneself type');

    await bob.page.locator('#meta-status').selectOption('busy');
    await Promise.all([alice.shows('bob', 'busy'), bob.shows('bob', 'busy')]);
    await bob.page.locator('#meta-name').fill('Bob <b>of the hearth</b>');
    await bob.page.locator('#meta-name').press('Enter');
    await alice.shows('bob', 'Bob <b>of the hearth</b> · busy');
    const frames = await bob.frames();
    const set = frames.find((frame) => frame.dir === 'out' && frame.type === 'presence');
    const ack = frames.find((frame) => frame.type === 'ack' && frame.id === set.id);
    assert.deepEqual(ack.data, { status: 'ok' });
    assert.equal(await bob.page.locator('#hint').innerText(), '', 'nothing was refused');

    await bob.page.locator('#wave').click();
    await alice.page.locator('.float', { hasText: 'bob' }).waitFor();

    await bob.cutOrRestore();
    await bob.phase('cut');
    await bob.page.locator('#people.stale').waitFor();
    await alice.gone('bob'); // Vanished, and not back within the timeout.
    await alice.online('1 person online');
    await bob.cutOrRestore();
    await bob.joined();
    await Promise.all([alice.online('2 people online'), bob.online('2 people online')]);
    await alice.shows('bob', 'Bob <b>of the hearth</b> · busy'); // The page sets it for its new session.

    await bob.page.locator('.room[data-room="general"] .leave').click();
    await alice.gone('bob'); // Left: at once.
    await bob.page.locator('#room-name').fill('general');
    await bob.page.locator('#room-name').press('Enter');
    await alice.online('2 people online');
    await bob.close(); // The tab is closed: the timeout again.
    await alice.gone('bob');
    const told = (await alice.frames()).filter(
      ({ type, data }) => type === 'presence' && data.user === 'bob' && data.event !== 'update',
    );
    assert.deepEqual(
      told.map(({ data }) => data.event),
      ['join', 'leave', 'join', 'leave', 'join', 'leave'],
    );
    await alice.close();
  }));

test('a reload is silent, and so is the end of one of two tabs', async () => {
  const room = freshRoom('reload');
  const [alice, bob] = [await open('alice', room), await open('bob', room)];
  await Promise.all([alice.joined(), bob.joined()]);
  await alice.online('2 people online');
  const second = await open('bob', room);
  await second.joined();
  await second.online('2 people online');
  assert.match(await second.person('bob').innerText(), /×2/);

  await bob.page.reload();
  await bob.joined();
  await bob.online('2 people online');
  await second.cutOrRestore();
  await second.phase('cut');
  await bob.say('still here');
  await alice.sees('still here');
  assert.deepEqual(await alice.people(), ['alice', 'bob']);
  const told = (await alice.frames()).filter(({ type, data }) => type === 'presence' && data.user === 'bob');
  assert.ok(
    told.every(({ data }) => data.event === 'join'),
    JSON.stringify(told),
  );
  await Promise.all([alice.close(), bob.close(), second.close()]);
});

test('above the limit a room tells only how many are there, and names them again when it has shrunk', () =>
  withHearth(['--presence-max', '2', '--presence-timeout', '1s'], async (open) => {
    const alice = await open('alice');
    await alice.joined();
    await alice.online('1 person online');
    const others = [];
    for (const user of ['bob', 'carol', 'dave']) {
      others.push(await open(user));
      await others.at(-1).joined();
    }
    await Promise.all([alice, ...others].map((page) => page.online('4 people online')));
    assert.deepEqual(await alice.people(), []);
    await Promise.all(others.map((page) => page.close()));
    await alice.online('1 person online');
    await alice.person('alice').waitFor();
    assert.deepEqual(await alice.people(), ['alice']);
    await alice.close();
  }));

test('by keyboard alone: name oneself, join a room, talk, wave, change rooms, cut and restore, leave', async () => {
  const [first, second] = [freshRoom('kitchen'), freshRoom('garden')];
  const alice = await open('someone', first);
  const bob = await open('bob', second);
  await Promise.all([alice.joined(), bob.joined()]);
  const { keyboard } = alice.page;
  const focused = () => alice.page.evaluate(() => document.activeElement.id);
  const tabTo = async (id) => {
    for (let steps = 0; steps < 60 && (await focused()) !== id; steps += 1) await keyboard.press('Tab');
    assert.equal(await focused(), id, `Tab reaches #${id}`);
    const outline = await alice.page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, 'none', `focus shows on #${id}`);
  };

  await keyboard.press('Tab');
  assert.equal(
    await alice.page.evaluate(() => document.activeElement.className),
    'skip',
    'a skip link comes first',
  );
  await keyboard.press('Enter');
  assert.equal(await focused(), 'text');

  await alice.page.evaluate(() => document.activeElement.blur());
  await tabTo('user');
  await keyboard.press('ControlOrMeta+A');
  await keyboard.type('alice');
  await keyboard.press('Enter');
  await alice.joined();

  await keyboard.press('Alt+j');
  assert.equal(await focused(), 'room-name');
  await keyboard.type('no room name');
  await keyboard.press('Enter');
  await alice.page.locator('#room-error', { hasText: 'only' }).waitFor();
  await keyboard.press('ControlOrMeta+A');
  await keyboard.type(second);
  await keyboard.press('Enter');
  await alice.page.locator('#room-title', { hasText: second }).waitFor();
  await alice.joined();
  assert.equal(await focused(), 'text', 'after joining one can write at once');

  await keyboard.type('two lines');
  await keyboard.press('Shift+Enter');
  await keyboard.type('of text');
  await bob.typing('alice is typing');
  await keyboard.press('Enter');
  await bob.sees('two lines\nof text');
  await keyboard.press('Alt+w');
  await bob.page.locator('.float', { hasText: '👋' }).waitFor();
  assert.match(await bob.page.locator('.float').innerText(), /alice/);

  await keyboard.press('Alt+ArrowUp');
  await alice.page.locator('#room-title', { hasText: first }).waitFor();
  await bob.say('are you there?');
  await alice.page.locator(`.room[data-room="${second}"] .unread:not([hidden])`, { hasText: '1' }).waitFor();
  await keyboard.press('Alt+x');
  await alice.phase('cut');
  await keyboard.press('Alt+x');
  await alice.joined();
  await keyboard.press('Alt+ArrowDown');
  await alice.sees('are you there?');

  await tabTo('tab-wire');
  await keyboard.press('ArrowRight');
  assert.equal(await focused(), 'tab-terminal');
  const commands = await alice.page.locator('#view-terminal').innerText();
  assert.ok(commands.includes(`{"join":{"room":"${second}"}}`));
  assert.ok(
    commands.includes(
      `{"id":"1","publish":{"room":"${second}","payload":{"json":"{\\"content\\":\\"hi\\"}"}}}`,
    ),
  );
  await keyboard.press('Alt+m');
  assert.equal(await focused(), 'text');

  await alice.page.locator(`.room[data-room="${second}"] .leave`).focus();
  await keyboard.press('Enter');
  await alice.page.locator('#room-title', { hasText: first }).waitFor();
  assert.equal(await alice.page.locator('.room').count(), 1);
  await Promise.all([alice.close(), bob.close()]);
});

for (const [size, viewport] of Object.entries({
  narrow: { width: 360, height: 740 },
  zoomed: { width: 320, height: 400 },
  wide: { width: 1920, height: 1000 },
})) {
  test(`a ${size} window: everything is in reach and nothing scrolls sideways`, async () => {
    const room = freshRoom(`a-room-with-a-rather-long-name-${'x'.repeat(60)}`);
    const alice = await open('alice-with-a-long-name-for-a-small-window', room, { viewport });
    await alice.joined();
    const long = 'w'.repeat(300);
    await alice.say(long);
    await alice.sees(long);
    const panel = alice.page.locator('#panel');
    for (const shown of [await panel.isVisible(), !(await panel.isVisible())]) {
      assert.equal(await panel.isVisible(), shown);
      assert.deepEqual(await alice.sideways(), [], `panel ${shown ? 'shown' : 'hidden'}`);
      for (const id of ['user', 'cut', 'room-name', 'meta-status', 'meta-name', 'text', 'send', 'wave']) {
        await alice.page.locator(`#${id}`).scrollIntoViewIfNeeded();
        const box = await alice.page.locator(`#${id}`).boundingBox();
        assert.ok(
          box.width > 20 && box.height > 20 && box.x >= 0 && box.x + box.width <= viewport.width,
          `#${id} lies within the window: ${JSON.stringify(box)}`,
        );
      }
      await alice.page.locator('#toggle-panel').click();
    }
    await alice.close();
  });
}

for (const [size, viewport] of Object.entries({
  narrow: { width: 360, height: 740 },
  wide: { width: 1280, height: 800 },
})) {
  test(`in a ${size} window nothing moves about when the wire is cut, lost and restored`, async () => {
    const hearth = await Hearth.start();
    try {
      const alice = await Playground.open(browser, hearth.url, {
        query: '?user=alice&room=general',
        viewport,
        down: true,
      });
      await alice.joined();
      const places = () =>
        alice.page.evaluate(() =>
          ['user', 'cut', 'toggle-panel', 'room-form', 'meta-status', 'scroller', 'text', 'composer'].map(
            (id) => {
              const { x, y, width, height } = document.getElementById(id).getBoundingClientRect();
              return [id, x, y, width, height].join(' ');
            },
          ),
        );
      const live = await places();
      await alice.cutOrRestore();
      await alice.phase('cut');
      assert.deepEqual(await places(), live, 'cut');
      await alice.cutOrRestore();
      await alice.joined();
      assert.deepEqual(await places(), live, 'restored');
      await hearth.kill();
      await alice.phase('waiting');
      assert.deepEqual(await places(), live, 'lost');
      await alice.close();
    } finally {
      await hearth.kill();
    }
  });
}

test('the wire panel shows, filters, pauses and clears', async () => {
  const alice = await open('alice', freshRoom('wire'));
  await alice.joined();
  await alice.say('hello wire');
  await alice.acked('hello wire');
  const { page } = alice;
  const shown = page.locator('.frame');
  await page.locator('#filter').fill('ack');
  await page.waitForFunction(() =>
    [...document.querySelectorAll('.frame')].every((node) => node.textContent.includes('ack')),
  );
  assert.ok((await shown.count()) >= 1);
  await page.locator('#filter').fill('"hello wire"');
  await page.waitForFunction(() => {
    const nodes = [...document.querySelectorAll('.frame')];
    return nodes.length === 2 && nodes.every((node) => node.textContent.includes('"hello wire"'));
  });
  const raw = await shown.first().locator('pre').innerText();
  await page.locator('#pretty').click();
  await page.waitForFunction(() => document.querySelector('.frame pre').textContent.includes('\n'));
  assert.deepEqual(JSON.parse(await shown.first().locator('pre').innerText()), JSON.parse(raw));

  await page.locator('#filter').fill('');
  await page.locator('#pause').click();
  const count = await shown.count();
  await alice.say('said while paused');
  await alice.acked('said while paused');
  await page.locator('#wire-count', { hasText: 'held' }).waitFor();
  assert.equal(await shown.count(), count);
  await page.locator('#pause').click();
  await page.locator('.frame', { hasText: 'said while paused' }).first().waitFor();
  await page.locator('#clear').click();
  await page.waitForFunction(() => document.querySelectorAll('.frame').length === 0);
  await alice.close();
});

test('a tab keeps its guest name over a reload, another tab is another guest, and data is never markup', async () => {
  const room = freshRoom('names');
  const one = await Playground.open(browser, url, { query: `?room=${room}` });
  const two = await Playground.open(browser, url, { query: `?room=${room}` });
  await Promise.all([one.joined(), two.joined()]);
  const name = await one.page.locator('#user').inputValue();
  assert.notEqual(name, await two.page.locator('#user').inputValue());
  await two.say('<img src=x onerror=alert(1)> & <b>bold</b>');
  await one.page
    .locator('.message .text', { hasText: '<img src=x onerror=alert(1)> & <b>bold</b>' })
    .waitFor();
  assert.equal(await one.page.locator('.message img, .message b, .frame img').count(), 0);

  await one.page.reload();
  await one.joined();
  assert.equal(await one.page.locator('#user').inputValue(), name);
  await one.page.locator('.message[data-seq="1"]').waitFor();
  await Promise.all([one.close(), two.close()]);
});

test('the page is served under a policy that allows its own script and style and nothing else', async () => {
  const alice = await open('alice', freshRoom('policy'));
  await alice.joined();
  const directive = (name) =>
    alice.policy
      .split(';')
      .map((part) => part.trim())
      .find((part) => part.startsWith(`${name} `)) ?? '';
  assert.match(directive('script-src'), /'sha256-[^']+'/);
  assert.match(directive('style-src'), /'sha256-[^']+'/);
  assert.doesNotMatch(alice.policy, /unsafe-(inline|eval)/);
  const hosts = await alice.page.evaluate(() =>
    performance.getEntriesByType('resource').map((entry) => entry.name),
  );
  assert.deepEqual(
    hosts.filter((host) => !host.startsWith(url)),
    [],
    'nothing is asked of any other host',
  );
  await alice.close();
});
