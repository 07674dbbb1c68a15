// The queries that were asked in this browser, newest first. They stay here: no server is told.

const PLACE = 'twofold-queries';
const KEPT = 50;

export function history() {
  try {
    const found = JSON.parse(localStorage.getItem(PLACE) ?? '[]');
    return Array.isArray(found) ? found.filter((query) => typeof query?.sql === 'string') : [];
  } catch {
    return [];
  }
}

export function remember(sql, outcome) {
  const others = history().filter((query) => query.sql !== sql);
  localStorage.setItem(PLACE, JSON.stringify([{ sql, outcome, at: new Date().toISOString() }, ...others].slice(0, KEPT)));
}

export function forget() {
  localStorage.removeItem(PLACE);
}
