// The one place that talks to the server.

const TOKEN = 'twofold-token';

/** Why a request failed, in the server's words. `kind` says what to do: see docs/http.md. */
export class ApiError extends Error {
  constructor(message, kind, status) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

/** Asked for a token when the server wants one; the page puts its dialog here. */
export const signIn = { ask: async () => null };

let asking = null;

async function send(path, options = {}) {
  for (let attempt = 0; ; attempt += 1) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { Accept: 'application/json', ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: 'no-store' });
    } catch (e) {
      if (e.name === 'AbortError') throw e;
      throw new ApiError('The server does not answer. Is `twofold up` or `twofold serve` still running?', 'unreachable', 0);
    }
    if (response.ok) return response;
    const failure = await told(response);
    if (response.status !== 401 || attempt > 1) throw failure;
    asking ??= signIn.ask(failure.message).finally(() => { asking = null; });
    const given = await asking;
    if (!given) throw failure;
    sessionStorage.setItem(TOKEN, given);
  }
}

async function told(response) {
  let body = {};
  try { body = JSON.parse(await response.text()); } catch { /* not ours: the status has to do */ }
  const message = body.error ?? body.detail ?? body.title ?? `The server answered ${response.status} ${response.statusText}.`;
  return new ApiError(message, body.kind ?? 'internal', response.status);
}

/** JSON with all digits: integers beyond 2^53 become BigInt, other long numbers their own text. */
export function parse(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_, v, context) => {
    if (typeof v !== 'number' || !context?.source || context.source.length < 16) return v;
    if (/^-?\d+$/.test(context.source)) return Number.isSafeInteger(v) ? v : BigInt(context.source);
    return /^-?\d+\.\d{1,38}$/.test(context.source) && context.source.replace(/\D/g, '').length > 17 ? context.source : v;
  });
}

/** A GET of JSON. With it comes `age`: how long before the server's answer an instant of the server was. */
export async function get(path, signal) {
  const response = await send(path, { signal });
  const body = parse(await response.text());
  const date = Date.parse(response.headers.get('date') ?? '');
  return { body, now: Number.isNaN(date) ? Date.now() : date };
}

export async function text(path, signal) {
  return (await send(path, { signal })).text();
}

/** The answer to a query: { columns, rows, coverage, watermark, version? }. */
export async function sql(statement, signal) {
  const response = await send('v1/sql', { method: 'POST', signal, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ sql: statement }) });
  return parse(await response.text());
}

/** The answer as a file's bytes. */
export async function download(statement, format) {
  const response = await send(`v1/sql?format=${format}`, { method: 'POST', headers: { 'Content-Type': 'application/json', Accept: '*/*' }, body: JSON.stringify({ sql: statement }) });
  return response.blob();
}

/**
 * Server-sent events: calls on[event](data) for each until the signal aborts or the server ends. Not EventSource, which
 * can neither send a token nor tell why it was refused.
 */
export async function follow(path, on, signal) {
  const response = await send(path, { signal, headers: { Accept: 'text/event-stream' } });
  if (!/^text\/event-stream/.test(response.headers.get('content-type') ?? '')) throw new ApiError('no stream of changes', 'not_found', 404);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventParser((event, data) => on[event]?.(parse(data)));
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    events.take(value);
  }
}

/** Text of an event stream, in pieces, as events. */
export class EventParser {
  constructor(emit) {
    this.emit = emit;
    this.rest = '';
    this.reset();
  }

  reset() {
    this.event = 'message';
    this.data = [];
  }

  take(piece) {
    const lines = (this.rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === '') {
      if (this.data.length) this.emit(this.event, this.data.join('\n'));
      this.reset();
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const content = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.event = content;
    if (field === 'data') this.data.push(content);
  }
}
