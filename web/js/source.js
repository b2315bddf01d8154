/** Bytes, from wherever they are. */

/**
 * The bytes of a model: given as they are, or read from a URL (in Node from a path, too).
 *
 * @throws {TypeError} for what is neither; {Error} for what cannot be read.
 */
export async function bytesOf(source, onProgress) {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (typeof Blob === "function" && source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  if (typeof source === "string" || source instanceof URL) return read(located(source), onProgress);
  throw new TypeError("expected the bytes of a model (Uint8Array, ArrayBuffer, Blob) or its URL");
}

export const inNode = typeof globalThis.process?.versions?.node === "string";

/** Where a text points to: relative to the page, in Node a path. */
function located(source) {
  if (source instanceof URL || (inNode && !/^[a-z][a-z0-9+.-]+:/i.test(source))) return source;
  return new URL(source, globalThis.document?.baseURI ?? globalThis.location?.href);
}

/** The bytes that a URL points to, or a path of Node. */
export async function read(url, onProgress) {
  try {
    if (inNode && (typeof url === "string" || url.protocol === "file:")) {
      const { readFile } = await import(/* @vite-ignore */ "node:fs/promises");
      const bytes = await readFile(url);
      onProgress?.(bytes.length, bytes.length);
      return bytes;
    }
    return await fetched(url, onProgress);
  } catch (cause) {
    throw new Error(`cannot read ${url}: ${cause.message}`, { cause });
  }
}

async function fetched(url, onProgress) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  // of what is compressed on its way, nobody says how long it is
  const length = response.headers.has("content-encoding") ? undefined : response.headers.get("content-length");
  const total = Number(length) || undefined;
  const reader = response.body.getReader();
  const chunks = [];
  let loaded = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    loaded += value.length;
    onProgress?.(loaded, total);
  }
  const bytes = new Uint8Array(loaded);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
