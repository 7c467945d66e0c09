// What Nightporter sees of a page and touches in it. Runs in an isolated world: the page's own scripts can neither see
// nor replace any of this. Values come in as arguments and go out as JSON; nothing here waits, the caller looks again.
(() => {
  const TEXT_LIMIT = 64 * 1024;
  const text = (value, limit = TEXT_LIMIT) => String(value ?? "").slice(0, limit).toWellFormed();

  const visible = (element) =>
    element.checkVisibility({ visibilityProperty: true }) &&
    Array.from(element.getClientRects()).some((box) => box.width > 0 && box.height > 0);

  // Pages keep hidden copies (templates, other layouts): the one a person can see is meant.
  const pick = (selector) => {
    const all = Array.from(document.querySelectorAll(selector));
    return all.find(visible) ?? all[0];
  };

  const label = (element) => {
    const id = element.id ? `#${element.id}` : "";
    return text(element.tagName.toLowerCase() + id + Array.from(element.classList, (name) => `.${name}`).join(""), 80);
  };

  const editable = (element) => element.isContentEditable || "value" in element;

  // Why the element cannot be used now, or nothing.
  const obstacle = (element) => {
    if (!element) return "missing";
    if (!visible(element)) return "hidden";
    if (element.matches(":disabled")) return "disabled";
    return undefined;
  };

  // An opaque ground, all of it one grey, and nothing that sticks out of the box.
  const BLANK = ["background: #777", "filter: contrast(0)", "clip-path: inset(0)", "transition: none"]
    .map((rule) => `${rule} !important;`).join(" ");
  // Text that is not drawn at all: grey on the same grey leaves a ghost of one level in the rounding of its edges.
  const BLOT = ["color", "-webkit-text-fill-color", "-webkit-text-stroke-color"]
    .map((property) => `${property}: transparent !important;`)
    .join(" ") + " background-color: #777 !important; text-shadow: none !important; text-decoration: none !important;";

  // The document and every open shadow tree in it.
  const roots = () => {
    const found = [document];
    for (const root of found) {
      for (const element of root.querySelectorAll("*")) if (element.shadowRoot) found.push(element.shadowRoot);
    }
    return found;
  };

  // The selector of one element within its tree.
  const address = (element) => {
    const steps = [];
    let at = element;
    for (; at.parentElement; at = at.parentElement) {
      steps.unshift(`:nth-child(${Array.prototype.indexOf.call(at.parentElement.children, at) + 1})`);
    }
    const root = at.parentNode;
    if (!(root instanceof ShadowRoot)) return [":root", ...steps].join(" > ");
    return [":host", `:nth-child(${Array.prototype.indexOf.call(root.children, at) + 1})`, ...steps].join(" > ");
  };

  // What secrets are looked for by: without spaces and dashes, full-width digits as plain ones.
  const bare = (value) => String(value ?? "").normalize("NFKC").replace(/[\s\p{Pd}\p{Cf}]/gu, "");

  const UNSEEN = new Set(["SCRIPT", "STYLE", "TEMPLATE", "NOSCRIPT", "OPTION", "TITLE"]);
  const isField = (node) =>
    node instanceof HTMLInputElement || node instanceof HTMLTextAreaElement || node instanceof HTMLSelectElement;
  const shown = (field) => (field instanceof HTMLSelectElement ? field.selectedOptions[0]?.label : field.value || field.placeholder);

  // Every character of a tree that a person may see, bare, with the place where it stands.
  const characters = (root) => {
    let all = "";
    const places = [];
    const add = (value, place) => {
      const plain = bare(value);
      all += plain;
      for (let unit = 0; unit < plain.length; unit += 1) places.push(place);
    };
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (isField(node)) {
        if (node.type !== "hidden") add(shown(node), { node });
      } else if (node instanceof Text && !UNSEEN.has(node.parentNode?.nodeName) && !isField(node.parentNode)) {
        let offset = 0;
        for (const character of node.data) {
          add(character, { node, offset, end: offset + character.length });
          offset += character.length;
        }
      }
    }
    return { all, places };
  };

  // Below this a secret is no word of its own: it would be found everywhere.
  const SHORTEST = 4;

  // The fields and the stretches of text that hold a secret, also one that is spread over several of them.
  const places = (secrets) => {
    const fields = new Set();
    const ranges = [];
    const wanted = secrets.map(bare).filter((secret) => secret !== "");
    for (const root of wanted.length ? roots() : []) {
      for (const field of root.querySelectorAll("input, textarea, select")) {
        if (wanted.includes(bare(shown(field)))) fields.add(field);
      }
      const { all, places } = characters(root);
      for (const secret of wanted.filter((secret) => secret.length >= SHORTEST)) {
        for (let at = all.indexOf(secret); at >= 0; at = all.indexOf(secret, at + 1)) {
          for (const { node, offset, end } of places.slice(at, at + secret.length)) {
            if (offset === undefined) fields.add(node);
            else ranges.push(new StaticRange({ startContainer: node, startOffset: offset, endContainer: node, endOffset: end }));
          }
        }
      }
    }
    return { fields: Array.from(fields), ranges };
  };

  return Object.freeze({
    exists: (selector) => document.querySelector(selector) !== null,

    // The index of the first selector that shows something.
    first: (selectors) => selectors.findIndex((selector) => {
      const element = pick(selector);
      return element !== undefined && visible(element);
    }),

    // Where to click, or why not.
    aim: (selector) => {
      const element = pick(selector);
      const problem = obstacle(element);
      if (problem) return { problem };
      element.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
      const box = Array.from(element.getClientRects()).find((each) => each.width > 0 && each.height > 0);
      if (!box) return { problem: "hidden" };
      const point = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
      const hit = document.elementFromPoint(point.x, point.y);
      if (!hit) return { problem: "outside the window" };
      const ours = element.contains(hit) || hit.closest("label")?.control === element;
      return ours ? { point } : { problem: `covered by ${label(hit)}` };
    },

    // Puts the focus on a field and selects what is in it, so that typing replaces it.
    grip: (selector) => {
      const element = pick(selector);
      const problem = obstacle(element);
      if (problem) return { problem };
      if (!editable(element)) return { problem: "not a field" };
      if (element.readOnly) return { problem: "read-only" };
      if (document.activeElement !== element) element.focus();
      if (element.isContentEditable) getSelection().selectAllChildren(element);
      else element.select?.();
      return { empty: (element.isContentEditable ? element.textContent : element.value) === "" };
    },

    // Chooses in a list by value, then by label. Scripts cannot make trusted events; lists accept these.
    choose: (selector, wanted) => {
      const element = pick(selector);
      const problem = obstacle(element);
      if (problem) return { problem };
      if (!(element instanceof HTMLSelectElement)) return { problem: "not a list" };
      const options = Array.from(element.options);
      const option = options.find((each) => each.value === wanted) ?? options.find((each) => each.label.trim() === wanted);
      if (!option || option.disabled) return { found: false };
      option.selected = true;
      for (const kind of ["input", "change"]) element.dispatchEvent(new Event(kind, { bubbles: true }));
      return { found: true };
    },

    text: (selector) => {
      const element = pick(selector);
      return element ? text(element.innerText ?? element.textContent) : null;
    },

    attribute: (selector, name) => {
      const element = pick(selector);
      if (!element) return { found: false };
      const value = element.getAttribute(name);
      return { found: true, value: value === null ? null : text(value) };
    },

    url: () => text(location.href),
    title: () => text(document.title),
    html: (limit) => text(document.documentElement?.outerHTML, limit),

    // The document with nothing in it but what selectors name and a person reads. A copy in a document of its own, where no
    // script of the page runs.
    outline: (limit) => {
      const telling = /^(id|class|name|type|for|role|title|alt|placeholder|method|autocomplete|http-equiv|lang|dir|colspan)$/;
      const plain = /^(disabled|hidden|readonly|required|checked|selected|multiple|aria-[a-z]+)$/;
      const address = /^(href|src|action|formaction)$/;
      const inert = document.implementation.createHTMLDocument("");
      const copy = inert.importNode(document.documentElement, true);
      copy.querySelectorAll("script, noscript, style, template, textarea, object").forEach((each) => each.replaceChildren());
      const comments = inert.createNodeIterator(copy, NodeFilter.SHOW_COMMENT);
      for (let each; (each = comments.nextNode()); ) each.remove();
      for (const each of [copy, ...copy.querySelectorAll("*")]) {
        for (const { name, value } of Array.from(each.attributes)) {
          if (telling.test(name) || plain.test(name)) continue;
          // What stands behind "?" may be a token, and a data: address a whole document.
          if (address.test(name) && !/^\s*(data|javascript|blob):/i.test(value)) each.setAttribute(name, value.split(/[?#;]/)[0]);
          else each.setAttribute(name, "…");
        }
      }
      return text(copy.outerHTML, limit);
    },

    // How far the document is. The status is 0 where the browser made the document itself.
    landing: () => ({
      loaded: document.readyState !== "loading",
      url: text(location.href),
      status: performance.getEntriesByType("navigation")[0]?.responseStatus ?? 0,
    }),

    // Whether an answer from where the page is begins and does not come to its end.
    breaksOff: async () => {
      const answer = await fetch(location.href, { cache: "no-store" }).catch(() => null);
      return answer !== null && (await answer.arrayBuffer().then(() => false, () => true));
    },

    // Covers what must not be in a picture: what matches a selector, and every place where a secret stands. lift() uncovers
    // it. Style sheets and highlights, so that no observer of the page wakes.
    mask: (selectors, secrets) => {
      selectors.forEach((selector) => document.querySelector(selector));
      const { fields, ranges } = places(secrets);
      globalThis.porterMask = roots().map((root) => {
        const sheet = new CSSStyleSheet();
        const own = fields.filter((field) => field.getRootNode() === root).map(address);
        for (const selector of [...selectors, ...own]) sheet.insertRule(`${selector} { ${BLANK} }`);
        sheet.insertRule(`::highlight(nightporter) { ${BLOT} }`);
        root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
        return { root, sheet };
      });
      CSS.highlights.set("nightporter", Object.assign(new Highlight(...ranges), { priority: 2 ** 31 - 1 }));
    },

    // False when the document is another one than was masked.
    lift: () => {
      const masks = globalThis.porterMask ?? [];
      const worn = masks.every(({ root, sheet }) => root.adoptedStyleSheets.includes(sheet));
      for (const { root, sheet } of masks) {
        root.adoptedStyleSheets = root.adoptedStyleSheets.filter((each) => each !== sheet);
      }
      CSS.highlights.delete("nightporter");
      delete globalThis.porterMask;
      return worn && masks.length > 0;
    },

    // A storage (`localStorage` or `sessionStorage`) as JSON text (escapes keep what is not Unicode) of at most `budget`
    // bytes in UTF-8. Small entries first: tokens are small, what is large is a cache that the page can do without.
    stored: (area, budget) => {
      const storage = globalThis[area];
      const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index));
      const entries = keys.map((key) => JSON.stringify([key, storage.getItem(key)]));
      entries.sort((one, other) => one.length - other.length);
      const kept = [];
      let room = budget - 2;
      for (const entry of entries) {
        room -= new TextEncoder().encode(entry).length + 1;
        if (room < 0) break;
        kept.push(entry);
      }
      return { text: kept.length ? `[${kept.join()}]` : null, left_out: entries.length - kept.length };
    },

    restore: (area, entries) => JSON.parse(entries).forEach(([key, value]) => globalThis[area].setItem(key, value)),
  });
})()
