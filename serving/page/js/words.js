// SQL in words: for its colours, and for completion.

import { h } from './dom.js';

export const KEYWORDS = `SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET AS ON USING JOIN LEFT RIGHT FULL INNER OUTER CROSS UNION ALL
  DISTINCT WITH RECURSIVE CASE WHEN THEN ELSE END AND OR NOT IN IS NULL LIKE ILIKE BETWEEN EXISTS CAST TRY_CAST INTERVAL TIMESTAMP DATE
  ASC DESC NULLS FIRST LAST OVER PARTITION ROWS RANGE PRECEDING FOLLOWING UNBOUNDED CURRENT ROW FILTER VALUES EXPLAIN ANALYZE SHOW TABLES
  DESCRIBE TRUE FALSE EXTRACT EXCEPT INTERSECT QUALIFY WINDOW LATERAL UNNEST`.split(/\s+/);
const known = new Set(KEYWORDS);

const TOKEN = /(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|('(?:[^']|'')*'?)|("(?:[^"]|"")*"?)|(\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b)|([A-Za-z_][\w$]*)|(\s+|.)/g;

/** [class or '', text] of each piece; together they are the text. */
export function tokens(sql) {
  const found = [];
  for (const match of sql.matchAll(TOKEN)) {
    const [text, comment, string, quoted, number, word] = match;
    let kind = '';
    if (comment) kind = 'com';
    else if (string) kind = 'str';
    else if (number) kind = 'num-lit';
    else if (word && !quoted && known.has(word.toUpperCase())) kind = 'kw';
    else if (word && /^\s*\(/.test(sql.slice(match.index + text.length))) kind = 'fn';
    found.push([kind, text]);
  }
  return found;
}

/** The text in its colours. */
export function coloured(sql) {
  return tokens(sql).map(([kind, text]) => (kind ? h('span', { class: kind }, text) : text));
}

/** Clauses that begin a line. */
const CLAUSES = new Set(['FROM', 'WHERE', 'GROUP', 'HAVING', 'ORDER', 'LIMIT', 'UNION', 'EXCEPT', 'INTERSECT', 'WINDOW', 'QUALIFY']);
const JOINS = new Set(['JOIN', 'LEFT', 'RIGHT', 'FULL', 'INNER', 'CROSS']);

/** A query that was kept in one line, in lines again: a clause each, and a column each where there are several. */
export function inLines(sql) {
  if (sql.includes('\n')) return sql;
  const [lines, depths] = [[], []];
  let [line, depth, columns, before] = ['', 0, false, ''];
  const end = (indent) => { lines.push(line.trimEnd()); line = ' '.repeat(indent); };
  for (const [kind, text] of tokens(sql)) {
    const word = kind === 'kw' ? text.toUpperCase() : '';
    const call = text === '(' && /\w$/.test(before);
    if (text === '(') { depths.push(call); depth += 1; }
    if (text === ')') { depths.pop(); depth -= 1; }
    const inCall = depths.some(Boolean);
    const joins = JOINS.has(word) && !JOINS.has(before.toUpperCase()) && !['OUTER'].includes(before.toUpperCase());
    if (!inCall && (CLAUSES.has(word) || joins)) { end(2 * depth); columns = false; }
    if (word === 'SELECT' && depth === 0) {
      if (line.trim()) end(0);
      columns = true;
    }
    line += line.trim() === '' ? text.trimStart() : text;
    if (text === ',' && columns && depth === 0) end(7);
    if (text.trim()) before = text;
  }
  lines.push(line.trimEnd());
  return lines.filter((found) => found.trim()).join('\n');
}

/** A block of SQL. */
export const sqlBlock = (sql) => h('pre', { class: 'sql' }, coloured(inLines(sql)));

/** A name as SQL takes it: quoted if it must be. */
export const quoted = (name) => (/^[a-z_][a-z0-9_]*$/.test(name) && !known.has(name.toUpperCase()) && name !== 'view' ? name : `"${name.replaceAll('"', '""')}"`);

/** A text as SQL takes it. */
export const literal = (text) => `'${String(text).replaceAll("'", "''")}'`;
