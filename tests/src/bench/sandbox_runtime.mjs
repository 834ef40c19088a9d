// The HTTP proxy of @anthropic-ai/sandbox-runtime with an allow list of one host: DIR PORT HOST.
import { pathToFileURL } from 'node:url';

const [dir, port, host] = process.argv.slice(-3);
const proxy = `${dir}/node_modules/@anthropic-ai/sandbox-runtime/dist/sandbox/http-proxy.js`;
const { createHttpProxyServer } = await import(pathToFileURL(proxy));
const server = createHttpProxyServer({ filter: (_port, asked) => asked === host });
server.listen(Number(port), '127.0.0.1');
