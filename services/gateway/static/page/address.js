// Addresses: which may be followed, and which text is meant as one.

// It has a scheme, or a path on a host of Pinterest (libs/common/source.py).
const MEANT = /^(?:[a-z][a-z0-9+.-]*:\/\/|(?:(?:[a-z0-9-]+\.)*pinterest\.(?:com|info|[a-z]{2}|com?\.[a-z]{2})|pin\.it)\/+[^\s/])\S*$/i;

export const isAddress = (text) => MEANT.test(text);

/** `text` as an address that may be followed, or null: http and https only. */
export function address(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}
