// The description of the WebSocket, read as its tools read it, and held against what a running server says.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Parser } from '@asyncapi/parser';
import Ajv from 'ajv';
import WebSocket from 'ws';
import { Hearth } from '../browser/hearth.mjs';

const PATIENCE_MS = 10_000;

let hearth;
let description;

before(async () => {
  hearth = await Hearth.start(['--playground', 'off']);
  description = await (await fetch(`${hearth.url}/asyncapi.json`)).json();
});

after(() => hearth.stop());

// The messages of an operation, by the word that stands in their `type`.
function messages(operation) {
  const byWord = new Map();
  for (const { $ref } of description.operations[operation].messages) {
    const title = $ref.split('/').at(-1);
    const message = description.components.messages[title];
    if (message.contentType !== 'application/json') continue;
    byWord.set(message.name, [...(byWord.get(message.name) ?? []), title]);
  }
  return byWord;
}

// Gives the titles of the messages that a frame is; none if it is not described.
function judge(operation) {
  const ajv = new Ajv({ strict: false, validateFormats: false });
  ajv.addSchema({ components: description.components }, 'api');
  const byWord = messages(operation);
  return (frame) =>
    (byWord.get(frame.type) ?? []).filter((title) =>
      ajv.validate({ $ref: `api#/components/schemas/${title}` }, frame),
    );
}

// A client whose frames are all looked at.
class Client {
  constructor(path) {
    const protocols = description.channels.session.bindings.ws.headers.properties['Sec-WebSocket-Protocol'].enum;
    this.frames = [];
    this.socket = new WebSocket(hearth.url.replace('http', 'ws') + path, [protocols[0]]);
    this.socket.on('message', (data, binary) => {
      assert.ok(!binary);
      this.frames.push(JSON.parse(data.toString()));
      this.wake?.();
    });
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
  }

  // Waits for a frame, whether it has come already or not.
  async until(what, wanted) {
    const deadline = Date.now() + PATIENCE_MS;
    while (!this.frames.some(wanted)) {
      assert.ok(Date.now() < deadline, `${what} has not come; there are ${JSON.stringify(this.frames)}`);
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, 200);
      });
    }
  }

  send(frame) {
    this.socket.send(JSON.stringify(frame));
  }
}

test('the document is AsyncAPI, without an error', async () => {
  const { document, diagnostics } = await new Parser().parse(JSON.stringify(description));
  // 0 is an error, 1 a warning; what is said of newer versions of AsyncAPI is neither.
  const wrong = diagnostics.filter(({ severity }) => severity <= 1);
  assert.deepEqual(wrong, []);
  assert.equal(document.version(), '3.0.0');
  assert.deepEqual(document.channels().all().map((channel) => channel.address()), ['/ws/{room}', '/ws']);
});

test('all examples are what they are examples of', () => {
  for (const operation of ['receiveFromSession', 'sendToSession']) {
    const titles = judge(operation);
    for (const { $ref } of description.operations[operation].messages) {
      const title = $ref.split('/').at(-1);
      for (const { payload } of description.components.messages[title].examples ?? [])
        assert.ok(titles(payload).includes(title), `${title}: ${JSON.stringify(payload)}`);
    }
  }
});

/** What comes in time, or an error. */
const within = (promise) =>
  Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(reject, 10_000, new Error('nothing came within 10 s')).unref()),
  ]);

test('what is said over a WebSocket is what is described, all of it', async () => {
  const [command, envelope] = [judge('receiveFromSession'), judge('sendToSession')];
  const [ann, bob] = [new Client('/ws/general?user=ann'), new Client('/ws?user=bob')];
  await ann.until('joined', (frame) => frame.data.event === 'joined');
  await bob.until('welcome', (frame) => frame.data.event === 'welcome');
  const said = [
    { type: 'join', id: 'j', room: 'general', data: { history: 10, since: { epoch: 'another', seq: 3 } } },
    { type: 'text', id: 't', room: 'general', data: { content: 'Hello' } },
    { type: 'text', id: 't', room: 'general', data: { content: 'Hello' } },
    { type: 'signal', room: 'general', data: { x: 1 } },
    { type: 'typing', room: 'general', data: { active: true } },
    { type: 'presence', id: 'p', room: 'general', data: { meta: { status: 'away' } } },
    { type: 'history', id: 'h', room: 'general', data: { limit: 5 } },
    { type: 'auth', id: 'a', data: { token: 'none' } },
    { type: 'leave', id: 'e', room: 'elsewhere' },
    { type: 'ping', id: 'g' },
    { type: 'leave', id: 'l', room: 'general' },
  ];
  assert.deepEqual(new Set(said.map(({ type }) => type)), new Set(messages('receiveFromSession').keys()));
  for (const frame of said) {
    assert.notDeepEqual(command(frame), [], JSON.stringify(frame));
    // Who comes and goes at once is not told of.
    if (frame.type === 'leave') await ann.until('that bob is there', ({ data }) => data.user === 'bob' && data.meta);
    bob.send(frame);
    if (frame.id) await bob.until(`the answer to ${frame.type}`, (answer) => answer.id === frame.id && answer.type !== 'text');
  }
  await ann.until('the end of typing', (frame) => frame.type === 'typing' && !frame.data.active);
  await ann.until('that bob is gone', (frame) => frame.data.event === 'leave');
  const seen = new Set();
  for (const frame of [...ann.frames, ...bob.frames]) {
    const titles = envelope(frame);
    assert.notDeepEqual(titles, [], JSON.stringify(frame));
    titles.forEach((title) => seen.add(title));
  }
  // Only services publish these.
  seen.add('PublishedSystemEnvelope');
  assert.deepEqual([...seen].sort(), [...messages('sendToSession').values()].flat().sort());
  bob.socket.send(Buffer.from('binary'), { binary: true });
  const { code, reason } = await within(bob.closed);
  const known = description.channels.session['x-close-codes'].find((close) => close.code === code);
  assert.deepEqual([code, reason], [1003, known?.reason]);
  ann.socket.close(1000);
  await within(ann.closed);
});

test('what is wrongly said is not described', () => {
  const command = judge('receiveFromSession');
  const wrong = [
    { type: 'text', data: {} },
    { type: 'text', room: 'no room', data: {} },
    { type: 'text', room: 'general', data: [] },
    { type: 'typing', room: 'general', data: {} },
    { type: 'join', room: 'general', data: { history: 1001 } },
    { type: 'join', room: 'general', data: { since: null } },
    { type: 'history', room: 'general', data: { limit: 0 } },
    { type: 'ping', id: '' },
    { type: 'shout', room: 'general', data: {} },
  ];
  for (const frame of wrong) assert.deepEqual(command(frame), [], JSON.stringify(frame));
});
