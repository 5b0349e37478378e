// A Hearth of the tests' own: the real binary, on free ports, ended by its pid.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

const START_MS = 20_000;
const BUILT = ['release', 'debug'].map((kind) =>
  fileURLToPath(new URL(`../../target/${kind}/hearth`, import.meta.url)),
);

// HEARTH_BIN, or what cargo has built. Without one there is nothing to test, and that is a failure.
export function binary() {
  const named = process.env.HEARTH_BIN;
  const found = named ? [named].find(existsSync) : BUILT.find(existsSync);
  if (!found) {
    throw new Error(
      named
        ? `HEARTH_BIN names ${named}, which is not there`
        : `no hearth binary: run \`cargo build\` first, or set HEARTH_BIN (looked for ${BUILT.join(' and ')})`,
    );
  }
  return found;
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Hearth {
  static async start(flags = []) {
    const hearth = new Hearth();
    hearth.flags = flags;
    hearth.http = await freePort();
    hearth.grpc = await freePort();
    hearth.url = `http://127.0.0.1:${hearth.http}`;
    await hearth.run();
    return hearth;
  }

  async run() {
    const path = binary();
    const address = (port) => `127.0.0.1:${port}`;
    const where = ['--http', address(this.http), '--grpc', address(this.grpc)];
    const child = spawn(path, ['serve', ...where, ...this.flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => {
        output = (output + chunk).slice(-8_000);
      });
    this.child = child;
    this.ended = new Promise((resolve) => {
      child.once('exit', resolve).once('error', resolve);
    });
    let over = false;
    this.ended.then(() => {
      over = true;
    });
    const until = Date.now() + START_MS;
    while (!(await ready(this.url))) {
      if (over) throw new Error(`${path} ended before it was ready:\n${output}`);
      if (Date.now() > until) {
        await this.kill();
        throw new Error(`${path} was not ready within ${START_MS} ms:\n${output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  // As whoever runs it would: all are told, and then it ends.
  async stop() {
    this.child.kill('SIGTERM');
    await this.ended;
  }

  // As a crash would: nothing is said to anybody.
  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

async function ready(url) {
  try {
    // Kept, the connection would count among those that a server may have.
    return (await fetch(`${url}/healthz`, { headers: { connection: 'close' } })).ok;
  } catch {
    return false;
  }
}
