// What outlives a reload: the searches in this browser, the key in this tab. Both may be refused by the browser.

const SEARCHES = "pinstream.searches";
const KEY = "pinstream.key";
const MOST = 50;
const SESSION = /^[\w-]{1,128}$/;

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(SEARCHES));
    return Array.isArray(kept) ? kept.filter((entry) => SESSION.test(entry?.session)) : [];
  } catch {
    return [];
  }
}

function write(entries) {
  try {
    localStorage.setItem(SEARCHES, JSON.stringify(entries.slice(0, MOST)));
  } catch { // no room, or not allowed: the address bar still names the search that is shown
  }
}

const named = (text) => (typeof text === "string" ? text : "");
const counted = (value) => (Number.isInteger(value) && value > 0 ? value : null);

/** Those that were there before, the newest first, as a Search takes them. */
export function keptSearches() {
  return read().map(({ session, query, limit, filters, scope, over, count, by }) => ({
    session,
    query: named(query),
    limit: counted(limit),
    filters: filters !== null && typeof filters === "object" ? filters : {},
    scope: named(scope) || null,
    over: over === true,
    count: counted(count) ?? 0,
    by: named(by),
  }));
}

/** Each tab of the browser changes its own entries alone, since several may have this page. */
export function keep({ session, query, limit, filters, scope, over, count, by }) {
  const entry = { session, query, limit, filters, scope, over, count, by };
  const entries = read();
  const at = entries.findIndex((kept) => kept.session === session);
  if (at < 0) entries.unshift(entry);
  else entries[at] = entry;
  write(entries);
}

export const forget = ({ session }) => write(read().filter((kept) => kept.session !== session));

/** What #session=…&query=…&limit=… names, or null. */
export function searchIn(hash) {
  const named = new URLSearchParams(hash.slice(1));
  const session = named.get("session") ?? "";
  if (!SESSION.test(session)) return null;
  return { session, query: named.get("query") ?? "", limit: counted(Number(named.get("limit"))) };
}

export function hashOf({ session, query, limit }) {
  return `#${new URLSearchParams({ session, query, ...(limit && { limit }) })}`;
}

/** For as long as this tab is open, and for no other: sessionStorage is not shared. */
export function keptKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export function keepKey(key) {
  try {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
  } catch { // then it is kept until the next reload
  }
}
