// A network that breaks on demand: forwards to a server's port until it is told to cut.
import { connect, createServer } from 'node:net';

export class Proxy {
  static async start(port) {
    const proxy = new Proxy();
    proxy.sockets = new Set();
    proxy.server = createServer((client) => {
      const server = connect(port, '127.0.0.1');
      for (const [from, to] of [
        [client, server],
        [server, client],
      ]) {
        proxy.sockets.add(from);
        from.setNoDelay(true).pipe(to);
        // An end of any kind is one for both.
        from.on('error', () => {}).on('close', () => {
          proxy.sockets.delete(from);
          to.destroy();
        });
      }
    });
    await new Promise((resolve, reject) => proxy.server.once('error', reject).listen(0, '127.0.0.1', resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  // Resets every connection that there is; new ones are taken.
  cut() {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  async close() {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
