// Other words, tried out: how the photos would be labeled by them, and what each phrase costs on the answers given.

import { $, page, plural } from "./page.js";
import { Refused, ask } from "./queue.js";
import { arrange, say, show } from "./shown.js";

const WAIT = 400; // milliseconds without a key before words are tried
const PATIENCE = 120000; // the first time, the encoder is loaded

let inForce = null; // the words of the run
let timer;
let latest = 0; // the last trial that was asked for

// What a photo would turn to by the words on trial; nothing where its answer is to be given unswayed.
export function wordsTurn(i) {
  const { trial } = page;
  if ($("words").hidden || page.view === "prove" || !trial) return "";
  const yes = trial.p[i] >= 0.5;
  return yes === (page.model.said(i) === "yes") ? "" : yes ? "yes" : "no";
}

export async function openWords() {
  const panel = $("words");
  panel.hidden = !panel.hidden;
  $("words-open").setAttribute("aria-expanded", !panel.hidden);
  if (panel.hidden) return leave();
  try {
    inForce = await ask("/api/words");
  } catch (error) {
    panel.hidden = true;
    return say(error.message || "The server is away");
  }
  if (inForce.refused) {
    panel.hidden = true;
    return say(`Other words cannot be tried: ${inForce.refused}.`);
  }
  back();
  $("words-positive").focus();
}

// No words are on trial any more, nor are any that were about to be.
function leave() {
  clearTimeout(timer);
  latest++;
  page.trial = null;
  $("words-says").textContent = "";
  $("words-turned").textContent = "None changes side";
  $("words-turned").disabled = true;
  if (page.view === "words") show("all");
  else page.grid.refresh();
}

function back() {
  $("words-positive").value = inForce.positive.join("\n");
  $("words-negative").value = inForce.stated ? inForce.negative.join("\n") : "";
  $("words-done").textContent = "";
  list("words-ideas", []);
  trial();
}

function typed() {
  const lines = (id) => $(id).value.split("\n").map((line) => line.trim()).filter(Boolean);
  return { positive: lines("words-positive"), negative: lines("words-negative"), run: page.about.id };
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(trial, WAIT);
}

async function trial() {
  const number = ++latest;
  $("words-says").textContent = "Trying …";
  let sent;
  try {
    sent = await ask("/api/words/try", typed(), PATIENCE);
  } catch (error) {
    if (number === latest) fail(error);
    return;
  }
  if (number !== latest || $("words").hidden) return; // newer words are on their way
  page.trial = sent;
  tell(sent);
  arrange("words", sections());
}

function fail(error) {
  leave();
  $("words-says").textContent = error instanceof Refused ? error.message : "The server is away.";
  $("words-accept").disabled = true;
  list("words-remarks", []);
  list("words-costs", []);
}

// The likeliest first, so that what the words mean is seen at once.
function sections() {
  const { p } = page.trial;
  const order = [...p.keys()].sort((a, b) => p[b] - p[a] || a - b);
  const part = (name, photos) => ({ name, photos });
  const yes = order.filter((i) => p[i] >= 0.5);
  return [part("By these words yes", yes), part("By these words no", order.filter((i) => p[i] < 0.5))].filter(
    (section) => section.photos.length,
  );
}

export function wordsTurned() {
  const part = (to) => ({ name: `Would become ${to}`, photos: [...page.trial.p.keys()].filter((i) => wordsTurn(i) === to) });
  return [part("yes"), part("no")].filter((section) => section.photos.length);
}

function tell({ p, answers, costs, remarks, says }) {
  const yes = p.filter((one) => one >= 0.5).length;
  const turned = [...p.keys()].filter((i) => wordsTurn(i)).length;
  const right = `Of ${plural(answers.count, "answer")} given, these words are right on ${answers.after}, those in force on ${answers.before}.`;
  $("words-says").textContent = `Yes to ${plural(yes, "photo")} of ${p.length.toLocaleString("en")}. ${answers.count ? right : ""} ${says}`;
  $("words-turned").textContent = turned ? `Show the ${turned} that change side` : "None changes side";
  $("words-turned").disabled = !turned;
  $("words-accept").disabled = false;
  list("words-remarks", remarks.map((one) => [one.text]));
  list("words-costs", answers.count ? costs.map((one) => [`${one.phrase} ${one.right > 0 ? "+" : ""}${one.right}`, one.right < 0 ? "bad" : ""]) : []);
}

// Items of text, or buttons where there is something to do.
function list(id, items) {
  $(id).replaceChildren(
    ...items.map(([text, kind, act]) => {
      const item = document.createElement("li");
      if (kind) item.className = kind;
      if (act) item.append(Object.assign(document.createElement("button"), { textContent: text, onclick: act }));
      else item.textContent = text;
      return item;
    }),
  );
}

async function suggest() {
  $("words-suggest").disabled = true;
  say("Looking for names of what else the photos show …");
  try {
    const { suggestions } = await ask("/api/words/suggest", typed(), PATIENCE);
    list(
      "words-ideas",
      suggestions.map((one) => [`${one.phrase}: turns ${one.turned.length} to no`, "", () => add(one.phrase)]),
    );
    say(suggestions.length ? "" : "Nothing to suggest: the photos show little else.");
  } catch (error) {
    say(error.message || "The server is away");
  }
  $("words-suggest").disabled = false;
}

function add(phrase) {
  const box = $("words-negative");
  const lines = box.value.split("\n").filter(Boolean);
  if (!lines.length && !inForce.stated) lines.push(...inForce.negative); // what stood in is kept beside it
  box.value = [...lines, phrase].join("\n");
  trial();
}

async function accept() {
  try {
    const { file, command } = await ask("/api/words/accept", typed(), PATIENCE);
    inForce = await ask("/api/words");
    page.model.fresh = await ask("/api/labels");
    page.model.renew();
    leave();
    show("all");
    $("words-done").textContent = `Written to ${file}. To label and train with them: ${command}`;
  } catch (error) {
    say(error.message || "The server is away");
  }
}

$("words-positive").oninput = soon;
$("words-negative").oninput = soon;
const BUTTONS = {
  "words-open": openWords,
  "words-turned": () => arrange("words", wordsTurned()),
  "words-suggest": suggest,
  "words-back": back,
  "words-accept": accept,
};
for (const [id, act] of Object.entries(BUTTONS)) $(id).onclick = () => page.model && act();
