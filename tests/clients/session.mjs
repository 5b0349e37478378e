// A WebSocket of Node's `ws` whose messages are awaited one by one.
import WebSocket from 'ws';

const PATIENCE_MS = 20_000;

export class Session {
  constructor(url, protocols = [], options = {}) {
    this.socket = new WebSocket(url, protocols, options);
    this.waiting = [];
    this.messages = [];
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.socket.on('message', (bytes, isBinary) => {
      const waiting = this.waiting.shift();
      if (waiting) waiting({ bytes, isBinary });
      else this.messages.push({ bytes, isBinary });
    });
  }

  static async open(url, protocols, options) {
    const session = new Session(url, protocols, options);
    await new Promise((resolve, reject) => session.socket.once('open', resolve).once('error', reject));
    return session;
  }

  // The next message as it came.
  message() {
    if (this.messages.length > 0) return Promise.resolve(this.messages.shift());
    return within('a message', new Promise((resolve) => this.waiting.push(resolve)));
  }

  // The next envelope of this type, or of any but presence.
  async next(type) {
    for (;;) {
      const { bytes, isBinary } = await this.message();
      if (isBinary) throw new Error('a binary message on a JSON session');
      const envelope = JSON.parse(bytes.toString());
      if (type ? envelope.type === type : envelope.type !== 'presence') return envelope;
    }
  }

  say(envelope) {
    this.socket.send(JSON.stringify(envelope));
  }

  async close(code = 1000) {
    this.socket.close(code);
    return within('the end', this.closed);
  }
}

export function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
