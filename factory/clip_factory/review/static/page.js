// What all parts of the page share: the one state there is, and a few words.

export const page = {
  about: null, // which review this is
  model: null, // the photos, and what was said of them
  queue: null, // answers on their way
  grid: null,
  watch: null, // minutes at work
  view: "all", // the filter that is shown; or "ask" and "prove" for a batch, "cut" and "words" for what is tried
  cut: null, // the threshold on trial; null: the shipped one
  trial: null, // what the words on trial would do; null: none are
};

export const $ = (id) => document.getElementById(id);

export function plural(count, what) {
  return `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
}

export function bold(text) {
  return Object.assign(document.createElement("b"), { textContent: text });
}

// The photos of these names that the run has.
export function known(sha256s) {
  return sha256s.map((sha256) => page.model.index.get(sha256)).filter((i) => i !== undefined);
}

// The place of the last in a list for which the test holds, where it holds up to one and not beyond; 0 if for none.
export function last(list, test) {
  let low = 0;
  let high = list.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (test(list[middle])) low = middle;
    else high = middle - 1;
  }
  return low;
}
