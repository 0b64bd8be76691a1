// The words of this page, explained: beside them when pointed at or focused, and all together in the help.

import { $ } from "./page.js";

// By the keys of the filters, where a filter has the word.
const TERMS = {
  batch: ["Batch", "The photos that are asked next. Four fifths are those whose answers teach the labels most, one fifth is random."],
  doubtful: ["Doubtful", "The teacher's probability of yes is near a half (15 to 85 %): its label may well be wrong."],
  mistakes: ["Likely mistake, suspect", "Photos that look like this one bear the other label, whoever gave this one: look again."],
  student: ["Student", "The small model that was trained and exported. It disagrees where its answer is not the teacher's."],
  duplicates: ["Near copies", "Photos of one scene that are almost the same, as from a burst. They stay in one split."],
  open: ["Unreviewed", "No person has answered yet: the teacher's label counts."],
  gold: ["Gold", "A person's answer. It outranks the teacher everywhere."],
  conflicts: ["Conflict", "People gave different answers. The photo counts as unlabeled until someone settles it."],
  random: ["Drawn at random", "Its turn came in an order made from hashes alone, whatever anyone thinks of it: only such photos measure fairly."],
  test: ["Test split", "Photos kept apart: nothing was trained, calibrated or cut on them, so they show how good the model is."],
  prove: ["Prove it", "Asks only test photos, drawn at random, without showing what teacher and model say: people's answers to these alone can show that the model is right."],
  threshold: ["Threshold", "The model says yes from this probability on. Lower finds more and raises more false alarms."],
  words: ["Words", "The phrases that the teacher labels by. Others can be tried here: the photos are sorted anew as you write, and nothing is changed until you accept."],
  recall: ["Found, recall", "Of the photos whose right answer is yes, those that the model answers yes."],
  missed: ["Missed", "Photos whose right answer is yes and that the model answers no."],
  alarms: ["False alarm", "A photo whose right answer is no and that the model answers yes."],
  precision: ["Precision", "Of the photos that the model answers yes, the share that is right."],
  gate: ["Gate", "The written rule that the model must pass; the scenario file has its numbers."],
  interval: ["Interval", "“67 to 99 %”: where the true share lies at 95 % certainty, given how few photos were counted."],
};

const IN_TEXT = [
  ["recall", /\b(?:finds|found|recall)\b/],
  ["missed", /\b(?:misses|missed)\b/],
  ["alarms", /\bfalse alarms?\b/],
  ["precision", /\bprecision\b/],
  ["test", /\btest (?:photos?|split)\b/],
  ["random", /\bdrawn at random\b/],
  ["mistakes", /\blikely mistake\b/],
  ["duplicates", /\bnear copies\b/],
  ["threshold", /\bthreshold\b/],
  ["gate", /\bthe gate\b/],
  ["interval", /\b\d+ to \d+ %/],
];

// Put a text into an element: each term, where it comes first, can be pointed at; `commands` stand as code.
export function explain(host, text) {
  const parts = text.split("`").map((part, n) => (n % 2 ? element("code", part) : part));
  for (const [term, pattern] of IN_TEXT) {
    const at = parts.findIndex((part) => typeof part === "string" && pattern.test(part));
    if (at < 0) continue;
    const { 0: found, index } = parts[at].match(pattern);
    const mark = element("span", found);
    mark.dataset.term = term;
    mark.tabIndex = 0;
    parts.splice(at, 1, parts[at].slice(0, index), mark, parts[at].slice(index + found.length));
  }
  host.replaceChildren(...parts);
}

function element(kind, text) {
  return Object.assign(document.createElement(kind), { textContent: text });
}

let host = null; // what is explained now

function show(event) {
  const next = event.target.closest?.("[data-term]") ?? null;
  if (next === host && !$("tip").hidden) return;
  hide();
  if (!next) return;
  host = next;
  const [name, text] = TERMS[host.dataset.term];
  $("tip").replaceChildren(element("b", name), ` ${text}`);
  $("tip").hidden = false;
  host.setAttribute("aria-describedby", "tip");
  const { left, top, bottom } = host.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = $("tip");
  const under = bottom + 8 + height < innerHeight;
  $("tip").style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
  $("tip").style.top = `${under ? bottom + 8 : Math.max(8, top - height - 8)}px`;
}

export function hide() {
  host?.removeAttribute("aria-describedby");
  host = null;
  $("tip").hidden = true;
}

addEventListener("pointerover", show);
addEventListener("focusin", show);
addEventListener("focusout", hide);
addEventListener("pointerdown", hide);
addEventListener("keydown", (event) => event.key === "Escape" && hide());

$("terms").replaceChildren(...Object.values(TERMS).flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
