// What decides and what is said, without a browser: the page's own modules, run by Node.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventParser, parse } from '../../serving/page/js/api.js';
import { bytes, counted, duration, instant, isWindow, percent, value } from '../../serving/page/js/format.js';
import { problems } from '../../serving/page/js/health.js';
import { Rows } from '../../serving/page/js/live.js';
import { lines, usual } from '../../serving/page/js/pick.js';
import { coverageOf, metrics, quantile } from '../../serving/page/js/status.js';
import { inLines, literal, quoted, tokens } from '../../serving/page/js/words.js';

const partition = (more = {}) => ({ partition: 0, archived: 0, segments: 0, archived_events: 0, archived_bytes: 0, segments_waiting: 0, log_start: 0, log_end: 100, folded: 100, lag: 0, watermark: '2026-01-01T00:00:00Z', idle: false, ...more });
const view = (more = {}) => ({ name: 'v', fingerprint: 'f', state: 'live', streams: ['s'], batch: null, audit: null, speed: { segments: 1, rows: 1, bytes: 1 }, building: null, failed: null, watermark: null, ...more });
const NOW = Date.parse('2026-01-02T00:00:00Z');

/** A platform of which these looks were taken, the last one now. */
function platform(status, samples = [{ at: 0 }], error = null) {
  const whole = { speed: { reachable: true, epochs: 1, error: null }, streams: [], views: [], query_views: [], tables: [], ...status };
  const filled = samples.map((sample) => ({ at: sample.at, streams: { s: { end: 100, folded: 100, lag: 0, waiting: 0, rejected: 0, watermark: 'w', ...sample } } }));
  const last = filled.at(-1);
  return { status: whole, error, now: NOW, samples: filled, before: (ms) => filled.findLast((s) => last.at - s.at >= ms) ?? filled[0] };
}
const stream = (...partitions) => ({ name: 's', events: 100, rejected: 0, partitions });
const told = (found) => found.map((p) => [p.level, p.where, p.title]);

test('a platform that is well has no problems', () => {
  assert.deepEqual(problems(platform({ streams: [stream(partition())], views: [view()] })), []);
});

test('each problem is told with its place, its reason and what to do', () => {
  const speed = { reachable: false, epochs: null, error: 'Connection refused' };
  const [unreachable] = problems(platform({ speed }));
  assert.deepEqual([unreachable.level, unreachable.where, unreachable.text], ['bad', 'speed', 'Connection refused']);
  const disk = problems(platform({ speed: { reachable: true, epochs: 1, error: 'No space left' } }));
  assert.deepEqual(told(disk), [['bad', 'speed', 'The speed layer folds nothing']]);
  const failed = problems(platform({ views: [view({ state: 'failed', failed: 'offset 3' })] }));
  assert.deepEqual([told(failed)[0], failed[0].text], [['bad', 'speed', 'View v stands still'], 'offset 3']);
  const differ = problems(platform({ views: [view({ audit: { equal: 9, unaudited: 0, unequal: 2, at: '' } })] }));
  assert.deepEqual(told(differ), [['bad', 'batch', 'Batch and speed do not agree on v']]);
  assert.match(differ[0].todo, /audit --explain/);
  const building = problems(platform({ views: [view({ state: 'building', building: { done: 51, total: 100 } })] }));
  assert.deepEqual(told(building), [['warn', 'speed', 'View v is being built: 51 %']]);
  assert.deepEqual(told(problems(platform({ views: [view({ state: 'unknown' })] })))[0][0], 'bad');
  assert.deepEqual(told(problems(platform({}, [{ at: 0 }], new Error('gone')))), [['bad', 'serving', 'The server does not answer']]);
});

test('what is behind is a problem only if it does not get better', () => {
  const streams = [stream(partition({ lag: 50_000 }))];
  const lag = (before, now) => told(problems(platform({ streams }, [{ at: 0, lag: before }, { at: 11_000, lag: now }])));
  assert.deepEqual(lag(50_000, 60_000), [['bad', 'speed', 'The speed layer falls behind on s']]);
  assert.deepEqual(lag(60_000, 50_000), []);
  const waiting = (before, now) => told(problems(platform({ streams }, [{ at: 0, waiting: before, end: 100 }, { at: 61_000, waiting: now, end: 100 }])));
  assert.deepEqual(waiting(9, 9), [['bad', 'archive', 'Segments of s are not archived']]);
  assert.deepEqual(waiting(30, 9), []);
  const still = (mark, end) => told(problems(platform({ streams: [stream(partition())] }, [{ at: 0, watermark: 'w', end: 100 }, { at: 61_000, watermark: mark, end }])));
  assert.deepEqual(still('w', 200), [['warn', 'speed', 'The watermark of s stands still']]);
  assert.deepEqual([still('x', 200), still('w', 100)], [[], []]);
  const rejected = told(problems(platform({ streams: [stream(partition())] }, [{ at: 0, rejected: 1 }, { at: 5000, rejected: 3 }])));
  assert.deepEqual(rejected, [['warn', 'log', '2 events of s rejected in the last minute']]);
  const old = { version: 1, created: '2025-12-30T00:00:00Z', mode: 'full', horizon: { s: { 0: 50 } }, rows: 1, bytes: 1 };
  const age = (horizon) => told(problems(platform({ streams: [stream(partition())], views: [view({ batch: { ...old, horizon: { s: { 0: horizon } } } })] })));
  assert.deepEqual([age(50).length, age(100).length], [1, 0], 'an old batch view is fine if nothing came since');
});

test('server-sent events are read however they are cut', () => {
  const text = ': hello\r\n\r\nevent: rows\r\ndata: {"a":\r\ndata: 1}\r\n\r\nevent: changes\ndata:{"b":2}\n\ndata: last\n\n';
  const expected = [['rows', '{"a":\n1}'], ['changes', '{"b":2}'], ['message', 'last']];
  for (let at = 0; at <= text.length; at += 1) {
    const found = [];
    const parser = new EventParser((event, data) => found.push([event, data]));
    parser.take(text.slice(0, at));
    parser.take(text.slice(at));
    assert.deepEqual(found, expected, `cut at ${at}`);
  }
});

test('pushed changes are applied by the key, or as rows that may repeat', () => {
  const columns = [{ name: 'k' }, { name: 'n' }];
  const after = (key, rows, ...changes) => {
    const live = new Rows();
    live.set({ key, columns, rows });
    for (const change of changes) live.change({ changed: [], removed: [], ...change });
    return live.whole().rows.map(({ k, n }) => `${k}${n}`).sort();
  };
  const [a1, a2, b1] = [{ k: 'a', n: 1 }, { k: 'a', n: 2 }, { k: 'b', n: 1 }];
  assert.deepEqual(after(['k'], [a1, b1], { changed: [a2] }), ['a2', 'b1']);
  assert.deepEqual(after(['k'], [a1, b1], { removed: [{ k: 'b' }], changed: [a2] }), ['a2']);
  assert.deepEqual(after(['k'], [a1], { removed: [{ k: 'a' }] }, { changed: [a1] }), ['a1']);
  assert.deepEqual(after([], [a1], { changed: [a2] }), ['a2'], 'a view of one row has an empty key');
  assert.deepEqual(after(['k', 'n'], [a1, a1, b1], { removed: [a1], changed: [b1, a2] }), ['a1', 'a2', 'b1', 'b1']);
});

test('numbers keep their digits where the engine tells them', () => {
  const source = JSON.parse('1', (_, v, context) => context?.source ?? v) === '1';
  const { big, small, text, double } = parse('{"big": 9007199254740993, "small": 7, "text": "9007199254740993", "double": 0.1234567890123456}');
  assert.equal(String(big), source ? '9007199254740993' : '9007199254740992');
  assert.deepEqual([small, text, double], [7, '9007199254740993', 0.1234567890123456]);
});

test('values are written as people read them', () => {
  assert.equal(value(1234567, 'BIGINT'), '1,234,567');
  assert.equal(value('2026-01-01T10:00:00.500', 'TIMESTAMP'), '2026-01-01 10:00:00.500');
  assert.equal(value({ start: '2026-01-01T10:00:00', end: '2026-01-01T10:00:10' }), '2026-01-01 10:00:00 – 10:00:10');
  assert.deepEqual([value(null), value([1, 2]), value(true)], ['null', '[1,2]', 'true']);
  assert.deepEqual([bytes(0), bytes(1536), duration(0.2), duration(90_000), counted(1, 'row')], ['0 B', '1.5 KiB', '< 1 ms', '90 s', '1 row']);
  assert.deepEqual([percent(1, 3), percent(0, 0), percent(9999, 10000), percent(5, 5)], ['33 %', '–', '99.9 %', '100 %']);
  assert.equal(instant('2026-01-01T00:00:00'), Date.UTC(2026, 0, 1), 'a time without a zone is UTC');
  assert.deepEqual([isWindow('STRUCT<start TIMESTAMP, end TIMESTAMP>'), isWindow('STRUCT<start BIGINT, end BIGINT>')], [true, false]);
});

test('a query in words is the query, and its lines change no word', () => {
  const sql = "SELECT a, count(*) FILTER (WHERE x > 3) AS n, 'it''s FROM' AS t FROM f LEFT JOIN g USING (k) WHERE y IN (SELECT z FROM h) GROUP BY 1 -- end";
  assert.equal(tokens(sql).map(([, text]) => text).join(''), sql);
  const words = (text) => text.replace(/\s+/g, ' ');
  assert.equal(words(inLines(sql)), words(sql));
  assert.match(inLines(sql), /\nFROM f\nLEFT JOIN g USING \(k\)\nWHERE y IN \(SELECT z FROM h\)\nGROUP BY 1/);
  assert.deepEqual([quoted('plain'), quoted('Mixed'), quoted('order'), quoted('a"b'), literal("it's")], ['plain', '"Mixed"', '"order"', '"a""b"', "'it''s'"]);
});

test('a chart is drawn over time, unless each name has one time', () => {
  const can = { times: ['t'], names: ['k'], values: ['n'], over: ['t', 'k'] };
  assert.equal(usual(can, [{ t: '2026-01-01', k: 'a' }, { t: '2026-01-02', k: 'a' }]), 't');
  assert.equal(usual(can, [{ t: '2026-01-01', k: 'a' }, { t: '2026-01-02', k: 'b' }]), 'k');
  const rows = [{ t: '2026-01-02', k: 'a', n: 2 }, { t: '2026-01-01', k: 'a', n: 1 }, { t: '2026-01-02', k: null, n: 5 }, { t: null, k: 'a', n: 9 }];
  const [series, data] = lines(rows, { over: 't', value: 'n', by: 'k' });
  assert.deepEqual(series.map((s) => s.label), ['a', 'null']);
  assert.deepEqual(data.slice(1), [[1, 2], [null, 5]]);
});

test('coverage is told from horizons and offsets, and never runs backwards', () => {
  const status = { streams: [stream(partition({ log_end: 90, folded: 80 }), partition({ partition: 1, log_end: null, folded: null }))] };
  const parts = coverageOf(view({ batch: { horizon: { s: { 0: 50, 1: 7 } } } }), status);
  assert.deepEqual(parts.map(({ batch, folded, end }) => [batch, folded, end]), [[50, 80, 90], [7, 7, 7]]);
});

test('the time that most queries take is read from the histogram', () => {
  const at = (a, b, c) => metrics(`twofold_queries_total 3\ntwofold_query_duration_seconds_bucket{le="0.001"} ${a}\ntwofold_query_duration_seconds_bucket{le="0.01"} ${b}\ntwofold_query_duration_seconds_bucket{le="+Inf"} ${c}\n`);
  assert.equal(quantile(at(100, 100, 100), at(190, 200, 200), 0.95), 10);
  assert.equal(quantile(at(1, 1, 1), at(1, 1, 1), 0.95), null, 'nobody asked');
});
