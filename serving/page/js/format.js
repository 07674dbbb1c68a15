// Values as people read them.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

/** 1234567 as 1,234,567. */
export const count = (n) => (n === undefined || n === null ? '–' : whole.format(n));

/** 1234567 as 1.23M; below ten thousand as it is. */
export const compact = (n) => (n === undefined || n === null ? '–' : Math.abs(n) < 10000 ? whole.format(n) : short.format(n));

/** How many in a second. */
export function rate(n) {
  if (n === undefined || n === null) return '–';
  return n > 0 && n < 10 ? n.toFixed(1) : compact(Math.round(n));
}

export function bytes(n) {
  if (n === undefined || n === null) return '–';
  let unit = 0;
  while (n >= 1024 && unit < 4) { n /= 1024; unit += 1; }
  return `${unit && n < 100 ? n.toFixed(1) : Math.round(n)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}`;
}

/** A length of time in milliseconds, in its largest unit. */
export function duration(ms) {
  if (ms === undefined || ms === null || Number.isNaN(ms)) return '–';
  if (ms < 1) return '< 1 ms';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 120e3) return `${Math.round(ms / 1000)} s`;
  if (ms < 7200e3) return `${Math.round(ms / 60e3)} min`;
  if (ms < 172800e3) return `${Math.round(ms / 3600e3)} h`;
  return `${Math.round(ms / 86400e3)} days`;
}

export const ago = (ms) => (ms === undefined || ms === null || Number.isNaN(ms) ? 'never' : ms < 1500 ? 'just now' : `${duration(ms)} ago`);

export const percent = (part, of) => (of > 0 ? `${part === of ? 100 : Math.min(99.9, (100 * part) / of).toFixed(part / of > 0.995 ? 1 : 0)} %` : '–');

/** The count and its noun: 1 event, 2 events. */
export const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`;

/** Milliseconds since the epoch of an ISO 8601 time. One without a zone is UTC. */
export function instant(text) {
  if (typeof text !== 'string' || !/^\d{4}-\d\d-\d\d/.test(text)) return NaN;
  return Date.parse(/[Zz]$|[+-]\d\d:?\d\d$/.test(text) || text.length === 10 ? text : `${text}Z`);
}

/** A time without what does not matter: no fraction of zeros, no T, no zone. */
export function time(text) {
  if (!text) return '–';
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?/.exec(text);
  if (!match) return text;
  const fraction = match[3] ? match[3].slice(0, 4) : '';
  return `${match[1]} ${match[2]}${/^\.0*$/.test(fraction) ? '' : fraction}`;
}

/** The same, without the day if it is today. */
export function timeOfDay(text) {
  const whole = time(text);
  return whole.startsWith(new Date().toISOString().slice(0, 10)) ? whole.slice(11) : whole;
}

/** A window, or another value of a column, as text. */
export function value(v, type = '') {
  if (v === null || v === undefined) return 'null';
  if (typeof v === 'object') {
    if (typeof v.start === 'string' && typeof v.end === 'string' && Object.keys(v).length === 2) return span(v);
    return JSON.stringify(v, (_, inner) => (typeof inner === 'bigint' ? inner.toString() : inner));
  }
  if (type.startsWith('TIMESTAMP')) return time(v);
  if (typeof v === 'number' && !Number.isInteger(v)) return precise(v);
  if (typeof v === 'number' || typeof v === 'bigint') return isWhole(type) ? whole.format(v) : String(v);
  return String(v);
}

function span({ start, end }) {
  const [from, to] = [time(start), time(end)];
  return from.slice(0, 11) === to.slice(0, 11) ? `${from} – ${to.slice(11)}` : `${from} – ${to}`;
}

/** Six significant digits; all of them stand in the cell's title. */
function precise(n) {
  const text = String(n);
  return text.length <= 9 || Math.abs(n) >= 1e15 || Math.abs(n) < 1e-4 ? text : Number(n.toPrecision(Math.max(7, String(Math.trunc(n)).length + 2))).toLocaleString('en', { maximumFractionDigits: 6 });
}

const isWhole = (type) => /INT/.test(type) && !type.includes('INTERVAL');
export const isNumber = (type) => /^(TINYINT|SMALLINT|INT|BIGINT|REAL|DOUBLE|DECIMAL)/.test(type) && !type.endsWith('[]') && !type.startsWith('INTERVAL');
export const isTime = (type) => /^(TIMESTAMP|DATE)/.test(type) && !type.endsWith('[]');
export const isWindow = (type) => /^STRUCT<start (TIMESTAMP|DATE)[^,]*, end (TIMESTAMP|DATE)[^,]*>$/.test(type);

/** Bytes that came as hexadecimal digits, as text where they are. */
export function fromHex(hex) {
  const pairs = String(hex).match(/../g) ?? [];
  return new TextDecoder().decode(Uint8Array.from(pairs, (pair) => parseInt(pair, 16)));
}
