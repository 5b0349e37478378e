// Clients that nobody of ours wrote: the EventSource of a real Chromium, and the one that Node's users install. Both come back by
// themselves; what they are told then is what these stories are about.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { EventSource } from 'eventsource';
import { Hearth } from './hearth.mjs';
import { launch, PATIENCE_MS } from './page.mjs';
import { Proxy } from './proxy.mjs';

// A client comes back after up to 4 s, and Chromium a little later.
const RETURN_MS = PATIENCE_MS + 5_000;

let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

// Runs in a page and in Node alike: an EventSource that notes what it hears.
function listen(EventSource, url) {
  const source = new EventSource(url);
  const log = [];
  for (const name of ['message', 'system', 'presence', 'typing', 'signal', 'error']) {
    source.addEventListener(name, ({ data, lastEventId }) => {
      // An `error` without data is the client's own: its connection has gone.
      log.push(data === undefined ? { name: 'gone' } : { name, id: lastEventId, ...JSON.parse(data) });
    });
  }
  return { source, log };
}

const clients = {
  async node(url) {
    const { source, log } = listen(EventSource, url);
    return {
      log: async () => log,
      state: async () => source.readyState,
      close: async () => source.close(),
    };
  },
  // On a page of the server's own, or of another origin.
  async chromium(url, origin = new URL(url).origin) {
    // It stands for an application's page: the server's own answer is none, and says that as one it may do nothing.
    const context = await browser.newContext({ bypassCSP: true });
    const page = await context.newPage();
    await page.goto(`${origin}/healthz`);
    await page.evaluate(
      ([code, url]) => {
        globalThis.heard = new Function(`return ${code}`)()(EventSource, url);
      },
      [listen.toString(), url],
    );
    return {
      log: () => page.evaluate(() => globalThis.heard.log),
      state: () => page.evaluate(() => globalThis.heard.source.readyState),
      close: () => context.close(),
    };
  },
};

// What a client has heard, once `wanted` is content with it.
async function heard(client, wanted) {
  const until = Date.now() + RETURN_MS;
  for (;;) {
    const log = await client.log();
    if (wanted(log)) return log;
    if (Date.now() > until) assert.fail(`not heard: ${wanted}\n${JSON.stringify(log, null, 1)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const joins = (log) => log.filter(({ name, data }) => name === 'system' && data.event === 'joined');
const messages = (log) => log.filter(({ name }) => name === 'message');
const seqs = (log) => messages(log).map(({ seq }) => seq);
const upTo = (first, last) => Array.from({ length: last - first + 1 }, (_, n) => first + n);

async function publish(hearth, room, n) {
  const answer = await fetch(`${hearth.url}/rooms/${room}/messages?user=ben`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ data: { n } }),
  });
  assert.equal(answer.status, 200);
  return (await answer.json()).data.seq;
}

for (const [name, open] of Object.entries(clients)) {
  test(`${name}: cut again and again while others publish, it misses nothing and hears nothing twice`, async () => {
    const hearth = await Hearth.start();
    const proxy = await Proxy.start(hearth.http);
    const client = await open(`${proxy.url}/events/room?user=ann`);
    try {
      await heard(client, (log) => joins(log).length === 1);
      let last = 0;
      let over = false;
      const publishing = (async () => {
        while (!over) {
          last = await publish(hearth, 'room', last);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      })();
      for (let cuts = 1; cuts <= 3; cuts += 1) {
        const before = seqs(await client.log()).length;
        await heard(client, (log) => seqs(log).length > before + 10);
        proxy.cut();
        await heard(client, (log) => joins(log).length === cuts + 1);
      }
      over = true;
      await publishing;
      const log = await heard(client, (log) => seqs(log).at(-1) === last);
      assert.deepEqual(seqs(log), upTo(1, last));
      assert.deepEqual(
        joins(log).map(({ data }) => data.recovered),
        [undefined, true, true, true],
      );
      assert.ok(messages(log).every(({ id }) => id));
    } finally {
      await client.close();
      await proxy.close();
      await hearth.kill();
    }
  });

  test(`${name}: the server comes back without its memory, and says that it does not know`, async () => {
    const hearth = await Hearth.start();
    const client = await open(`${hearth.url}/events/room?user=ann`);
    try {
      await heard(client, (log) => joins(log).length === 1);
      for (const n of [1, 2, 3]) await publish(hearth, 'room', n);
      await heard(client, (log) => seqs(log).length === 3);
      await hearth.kill();
      await heard(client, (log) => log.some(({ name }) => name === 'gone'));
      await hearth.run();
      // Nobody is there to hear it, or perhaps somebody is: the position tells.
      await publish(hearth, 'room', 4);
      const [first, second] = joins(await heard(client, (log) => joins(log).length === 2)).map(({ data }) => data);
      assert.notEqual(second.epoch, first.epoch);
      assert.equal(second.recovered, false);
      assert.equal(second.replayed, 0);
      for (const n of [5, 6]) await publish(hearth, 'room', n);
      const log = await heard(client, (log) => seqs(log).at(-1) === 3 && joins(log).length === 2 && seqs(log).length > 3);
      assert.deepEqual(seqs(log), [1, 2, 3, ...upTo(second.seq + 1, 3)]);
    } finally {
      await client.close();
      await hearth.kill();
    }
  });

  test(`${name}: a drain is announced, and nobody stays away for it`, async () => {
    const hearth = await Hearth.start();
    const client = await open(`${hearth.url}/events/room?user=ann`);
    try {
      await heard(client, (log) => joins(log).length === 1);
      await hearth.stop();
      const log = await heard(client, (log) => log.some(({ data }) => data?.event === 'draining'));
      assert.ok(log.at(-1).name === 'gone' || log.at(-1).data.event === 'draining', JSON.stringify(log));
      await hearth.run();
      await heard(client, (log) => joins(log).length === 2);
      assert.equal(await client.state(), 1);
    } finally {
      await client.close();
      await hearth.kill();
    }
  });

  test(`${name}: one of several rooms is refused, by an error that has data; the others go on`, async () => {
    const hearth = await Hearth.start();
    const client = await open(`${hearth.url}/events?room=one&room=~bob&room=two&user=ann`);
    try {
      const log = await heard(client, (log) => joins(log).length === 2 && log.some(({ name }) => name === 'error'));
      const [error] = log.filter(({ name }) => name === 'error');
      assert.deepEqual([error.room, error.data.code], ['~bob', 'permission_denied']);
      for (const room of ['one', 'two']) await publish(hearth, room, 1);
      const all = await heard(client, (log) => messages(log).length === 2);
      assert.deepEqual(messages(all).map(({ room }) => room).sort(), ['one', 'two']);
      assert.ok(messages(all).every(({ id }) => id));
      assert.equal(await client.state(), 1, 'it is open');
      assert.ok(!all.some(({ name }) => name === 'gone'));
    } finally {
      await client.close();
      await hearth.kill();
    }
  });
}

test('chromium, on a page of another origin: a full edge is heard, and not taken for a refusal', async () => {
  const home = await Hearth.start();
  const hearth = await Hearth.start(['--max-connections', '1']);
  const only = await clients.node(`${hearth.url}/events/room?user=ben`);
  await heard(only, (log) => joins(log).length === 1);
  const client = await clients.chromium(`${hearth.url}/events/room?user=ann`, home.url);
  try {
    const log = await heard(client, (log) => log.at(-1)?.name === 'gone');
    assert.deepEqual(
      log.map(({ name, data }) => [name, data?.event]),
      [
        ['system', 'overloaded'],
        ['gone', undefined],
      ],
    );
    assert.equal(await client.state(), 0, 'it will come back');
  } finally {
    await client.close();
    await only.close();
    await hearth.kill();
    await home.kill();
  }
});
