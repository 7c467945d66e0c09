// Calls that the page makes for us, with the cookies and the storage that are its own. Runs in the isolated world beside
// eyes.js: the page's scripts can neither see nor change them. What is asked for arrives checked and on the page's own
// origin; the status and the headers of the answer are observed outside, only its body comes this way.
(() => {
  // The most of a body that travels at once, in bytes, and how long is waited for more of it, in ms.
  const PIECE = 256 * 1024;
  const LULL = 4;
  const calls = new Map();
  const lull = () => new Promise((done) => setTimeout(done, LULL));

  const inside = (text, pointer) => {
    if (!pointer) return text;
    const names = pointer.split("/").slice(1).map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
    return names.reduce((value, name) => value?.[name], JSON.parse(text));
  };

  // A header's text; undefined when something stored that belongs into it is not there.
  const fill = (pieces) => {
    const texts = pieces.map(({ text, area, key, pointer }) => {
      if (text !== undefined) return text;
      const stored = globalThis[area].getItem(key);
      const value = stored === null ? undefined : inside(stored, pointer);
      return ["string", "number"].includes(typeof value) ? String(value) : undefined;
    });
    return texts.includes(undefined) ? undefined : texts.join("");
  };

  const headers = (wanted) => {
    const all = new Headers();
    for (const [name, pieces] of wanted) {
      try {
        const value = fill(pieces);
        if (value !== undefined) all.append(name, value);
      } catch {
        // What is stored there is no JSON, or no header: it is left out, and the portal will say so.
      }
    }
    return all;
  };

  const join = (parts, size) => {
    if (parts.length === 1) return parts[0].toBase64();
    const whole = new Uint8Array(size);
    let end = 0;
    for (const part of parts) {
      whole.set(part, end);
      end += part.byteLength;
    }
    return whole.toBase64();
  };

  // The next piece of a body: at least something if `patient`, else what is there.
  const read = async (id, call, patient) => {
    const parts = [];
    let [size, done] = [0, false];
    while (size < PIECE) {
      call.next ??= call.reader.read();
      const next = size || !patient ? await Promise.race([call.next, lull()]) : await call.next;
      if (!next) break;
      call.next = undefined;
      if (next.done) {
        done = true;
        calls.delete(id);
        break;
      }
      parts.push(next.value);
      size += next.value.byteLength;
    }
    return { body: join(parts, size), done };
  };

  const failed = (id) => {
    calls.delete(id);
    return { failed: true };
  };

  return Object.freeze({
    send: async (id, origin, url, method, wanted, body) => {
      if (location.origin !== origin) return { away: true };
      const call = { abort: new AbortController() };
      calls.set(id, call);
      try {
        const answer = await fetch(url, {
          method,
          headers: headers(wanted),
          body: body === null ? undefined : Uint8Array.fromBase64(body),
          signal: call.abort.signal,
          redirect: "manual",
          cache: "no-store",
          credentials: "same-origin",
          referrer: `${origin}/`,
          referrerPolicy: "unsafe-url",
        });
        if (!answer.body) {
          calls.delete(id);
          return { done: true };
        }
        call.reader = answer.body.getReader();
        return await read(id, call, false);
      } catch {
        return failed(id);
      }
    },

    more: async (id) => {
      const call = calls.get(id);
      if (!call) return { failed: true };
      try {
        return await read(id, call, true);
      } catch {
        return failed(id);
      }
    },

    cancel: (id) => {
      calls.get(id)?.abort.abort();
      calls.delete(id);
    },
  });
})()
