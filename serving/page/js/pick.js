// What can be drawn of an answer: values over a column of time or windows, or bars over a column of names.

import { instant, isNumber, isTime, isWindow, value } from './format.js';

/** So many lines can be told apart; the greatest of them are drawn. */
const LINES = 6;
const BARS = 20;

/** The choices that columns leave, as names of columns. */
export function choices(columns) {
  const named = (fits) => columns.filter(fits).map((c) => c.name);
  const times = named((c) => isTime(c.type) || isWindow(c.type));
  const names = named((c) => c.type === 'TEXT' || c.type === 'BOOLEAN');
  return { times, names, over: [...times, ...names], values: named((c) => isNumber(c.type)) };
}

/** What to draw over unless somebody chose: names, where each stands in one row, so that its time is no axis. */
export function usual({ times, names }, rows) {
  const once = names.find((name) => new Set(rows.map((row) => row[name])).size === rows.length);
  return (times.length && !(rows.length > 1 && once) ? times[0] : once) ?? names[0];
}

const at = (v) => instant(typeof v === 'object' && v ? v.start : v) / 1000;

/** [series, data] for a TimeChart; several rows of one time and name are summed. */
export function lines(rows, { over, value: of, by }) {
  const [totals, points, times] = [new Map(), new Map(), new Set()];
  for (const row of rows) {
    const [time, name, n] = [at(row[over]), by ? value(row[by]) : of, Number(row[of])];
    if (Number.isNaN(time) || row[of] === null || Number.isNaN(n)) continue;
    times.add(time);
    totals.set(name, (totals.get(name) ?? 0) + Math.abs(n));
    if (!points.has(name)) points.set(name, new Map());
    points.get(name).set(time, (points.get(name).get(time) ?? 0) + n);
  }
  const names = [...totals].sort((a, b) => b[1] - a[1]).slice(0, LINES).map(([name]) => name).sort();
  const xs = [...times].sort((a, b) => a - b);
  const series = names.map((name) => ({ label: name, fill: names.length === 1 }));
  return [series, [xs, ...names.map((name) => xs.map((x) => points.get(name).get(x) ?? null))], totals.size - names.length];
}

/** [[name, number]], the greatest first. */
export function bars(rows, { over, value: of }) {
  const found = rows.filter((row) => row[of] !== null).map((row) => [value(row[over]), Number(row[of])]);
  return found.sort((a, b) => b[1] - a[1]).slice(0, BARS);
}
