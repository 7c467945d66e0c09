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

    // How far the document is. The status is 0 where the browser made the document itself.
    landing: () => ({
      loaded: document.readyState !== "loading",
      url: text(location.href),
      status: performance.getEntriesByType("navigation")[0]?.responseStatus ?? 0,
    }),

    // Covers what must not be in a picture; lift() uncovers it. A style sheet, so that no observer of the page wakes.
    mask: (selectors) => {
      selectors.forEach((selector) => document.querySelector(selector));
      const sheet = new CSSStyleSheet();
      // An opaque ground, all of it one grey, and nothing that sticks out of the box.
      const blank = ["background: #777", "filter: contrast(0)", "clip-path: inset(0)", "transition: none"];
      const body = blank.map((rule) => `${rule} !important;`).join(" ");
      selectors.forEach((selector) => sheet.insertRule(`${selector} { ${body} }`));
      globalThis.porterMask = sheet;
      document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    },

    // False when the document is another one than was masked.
    lift: () => {
      const masked = document.adoptedStyleSheets.includes(globalThis.porterMask);
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => sheet !== globalThis.porterMask);
      return masked;
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
