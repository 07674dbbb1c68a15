// What the platform is doing, asked once a second while somebody looks, and the rates that follow from it.

import { get, text } from './api.js';

const EVERY = 1000;
/** Rights come with another token, which is rare. */
const EVERY_IF_DENIED = 30e3;
/** Samples are kept for five minutes. */
const KEPT = 300;
/** And so their charts are as long, in seconds, from the first sample on. */
export const SPAN = 300;
/** Rates are means over this long: shorter ones jump. */
const RATE_OVER = 5000;

const isRejected = (name) => name.endsWith('_rejected');
/** The streams that people declared. */
export const declared = (status) => status.streams.filter((stream) => !isRejected(stream.name) || !status.streams.some((s) => `${s.name}_rejected` === stream.name));
const sum = (list, of) => list.reduce((total, item) => total + (of(item) ?? 0), 0);

/** One look at the offsets of all streams. */
function sample(at, status, counters) {
  const streams = {};
  for (const stream of status.streams) {
    streams[stream.name] = {
      end: sum(stream.partitions, (p) => p.log_end),
      folded: sum(stream.partitions, (p) => p.folded),
      archived: sum(stream.partitions, (p) => p.archived),
      lag: sum(stream.partitions, (p) => p.lag),
      waiting: sum(stream.partitions, (p) => p.segments_waiting),
      rejected: stream.rejected,
      watermark: stream.partitions.map((p) => p.watermark).join(),
    };
  }
  const own = declared(status).map((stream) => streams[stream.name]);
  const total = (field) => sum(own, (stream) => stream[field]);
  return { at, streams, end: total('end'), folded: total('folded'), archived: total('archived'), lag: total('lag'), waiting: total('waiting'), epochs: status.speed.epochs, counters };
}

class Platform extends EventTarget {
  status = null;
  metrics = null;
  error = null;
  /** Why this token does not see the state of the platform: it may read views all the same. */
  denied = null;
  /** The server's clock at its last answer. */
  now = 0;
  samples = [];

  /** Whether it is known how the platform is, or that this is not for this token. */
  get isSettled() {
    return Boolean(this.status || this.denied);
  }

  start() {
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.look(); });
    this.look();
  }

  async look() {
    clearTimeout(this.timer);
    if (this.looking) return;
    this.looking = true;
    try {
      const [{ body, now }, counters] = await Promise.all([get('v1/status'), text('metrics').then(metrics)]);
      // Offsets that fell mean another log: what was before says nothing.
      if (this.status && !this.error && sample(now, body).end < this.samples.at(-1)?.end) this.samples = [];
      Object.assign(this, { status: body, now, metrics: counters, error: null, denied: null });
      this.samples.push(sample(performance.now(), body, counters));
      if (this.samples.length > KEPT) this.samples.shift();
    } catch (error) {
      Object.assign(this, error.status === 403 ? { error: null, denied: error, status: null } : { error });
    }
    this.looking = false;
    this.dispatchEvent(new Event('change'));
    if (!document.hidden) this.timer = setTimeout(() => this.look(), this.denied ? EVERY_IF_DENIED : EVERY);
  }

  /** The sample that is so much older than the last one; the oldest if none is. */
  before(ms) {
    const last = this.samples.at(-1);
    return this.samples.findLast((s) => last.at - s.at >= ms) ?? this.samples[0];
  }

  /** How fast a number of the samples grows, in a second; null before there are two of them. */
  rate(of, over = RATE_OVER) {
    const [last, first] = [this.samples.at(-1), this.samples.length > 1 ? this.before(over) : null];
    if (!first || last.at === first.at) return null;
    const [to, from] = [of(last), of(first)];
    return to === undefined || from === undefined || to === null || from === null ? null : Math.max(0, ((to - from) * 1000) / (last.at - first.at));
  }

  /** The rates of a number from sample to sample: [seconds since 1970], [rate]. */
  series(of, smooth = 3) {
    const [times, rates] = [[], []];
    const offset = Date.now() - performance.now();
    for (let i = smooth; i < this.samples.length; i += 1) {
      const [to, from] = [this.samples[i], this.samples[i - smooth]];
      times.push((to.at + offset) / 1000);
      rates.push(Math.max(0, ((of(to) - of(from)) * 1000) / (to.at - from.at)));
    }
    return [times, rates];
  }
}

export const platform = new Platform();

/** The sums, by name, of what OpenMetrics text counts; buckets of the query histogram by their bound. */
export function metrics(text) {
  const found = { queries: 0, errors: 0, late: 0, buckets: [] };
  for (const line of text.split('\n')) {
    const match = /^(twofold_\w+?)(\{.*\})? (\S+)$/.exec(line);
    if (!match) continue;
    const [, name, labels, value] = match;
    if (name === 'twofold_queries_total') found.queries += Number(value);
    if (name === 'twofold_errors_total') found.errors += Number(value);
    if (name === 'twofold_late_events_total') found.late += Number(value);
    if (name === 'twofold_query_duration_seconds_bucket') {
      const bound = /le="([^"]+)"/.exec(labels ?? '')?.[1];
      found.buckets.push([bound === '+Inf' ? Infinity : Number(bound), Number(value)]);
    }
  }
  return found;
}

/** The bound below which so great a part of the queries between two looks were answered, in milliseconds. */
export function quantile(before, after, part) {
  if (!before || !after) return null;
  const grown = after.buckets.map(([bound, n], i) => [bound, n - (before.buckets[i]?.[1] ?? 0)]);
  const all = grown.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  const bound = grown.find(([, n]) => n >= all * part)?.[0];
  return bound === Infinity ? null : bound * 1000;
}

/** Of what a view covers, by stream and partition: up to where from the batch view, from the speed layer, and where the log ends. */
export function coverageOf(view, status) {
  const parts = [];
  for (const name of view.streams) {
    const stream = status.streams.find((s) => s.name === name);
    for (const p of stream?.partitions ?? []) {
      const batch = Number(view.batch?.horizon?.[name]?.[p.partition] ?? 0);
      const folded = Math.max(batch, p.folded ?? batch);
      parts.push({ stream: name, partition: p.partition, batch, folded, end: Math.max(folded, p.log_end ?? folded), watermark: p.watermark, idle: p.idle });
    }
  }
  return parts;
}
