// What a person does with the photos: answers, undo, the next batch; and what the server says of others' answers.

import { batch } from "./choices.js";
import { $, known, page, plural } from "./page.js";
import { Refused, ask } from "./queue.js";
import { arrange, figures, filters, say, status } from "./shown.js";
import { zoom } from "./zoom.js";

const MOST = 5000; // photos in one request
let soon; // the look at the server that is due next
let asking = false;

export function answer(photos, what) {
  if (!photos.length) return;
  const { model, queue, watch } = page;
  say("");
  watch.tick();
  const settles = photos.filter((i) => model.inConflict(i));
  const rest = photos.filter((i) => !model.inConflict(i));
  for (const [group, resolve] of [[settles, what !== null], [rest, false]])
    for (let from = 0; from < group.length; from += MOST) {
      const sha256 = group.slice(from, from + MOST).map((i) => model.columns.sha256[i]);
      hold(sha256, what);
      queue.add({ sha256, answer: what, resolve, minutes: watch.take() });
    }
  figures();
}

export function flip(photos) {
  const { model, view } = page;
  const to = { yes: [], no: [] };
  const blind = (i) => view === "prove" && !["yes", "no"].includes(model.shown(i)); // no label is shown that could be wrong
  if (photos.some(blind)) return say("Say yes or no: Y or N.");
  for (const i of photos) to[model.flipped(i)].push(i);
  answer(to.yes, "yes");
  answer(to.no, "no");
}

// The photos on the screen are right as labeled; on to the next ones.
export function confirmShown() {
  const { grid, model } = page;
  const shown = grid.visible();
  // while words are on trial, what is shown is not what would be confirmed
  const open = page.trial ? [] : shown.map((at) => grid.order[at]).filter((i) => model.open(i));
  answer(open.filter((i) => model.said(i) === "yes"), "yes");
  answer(open.filter((i) => model.said(i) === "no"), "no");
  if (shown.length && shown.at(-1) + 1 < grid.order.length) {
    const next = grid.rows[grid.rowOf(shown.at(-1) + 1)];
    $("grid").scrollTop = next.y;
    grid.go(next.from, { focus: $("grid").contains(document.activeElement) });
  }
}

export async function undo() {
  const { about, grid, queue } = page;
  const unsent = queue.takeBack();
  if (unsent) return release(unsent.sha256, true), figures();
  if (!(await queue.settled())) return say("Not undone: the server is away.");
  try {
    const { undone } = await ask("/api/undo", { key: crypto.randomUUID(), run: about.id });
    say(undone.length ? `Undone: ${plural(undone.length, "photo")}.` : "Nothing of yours is left to undo.");
    await poll();
    const place = known(undone).map((i) => grid.place.get(i)).find((at) => at !== undefined);
    if (place !== undefined) grid.go(place);
  } catch (error) {
    say(error instanceof Refused ? error.message : "Not undone: the server is away.");
  }
}

// The next photos to answer; with `prove`, of random test photos, in the order drawn and without their labels.
export async function nextBatch(prove = page.view === "prove") {
  if (asking) return;
  asking = true;
  try {
    if (!(await page.queue.settled())) throw new Error("answers wait that would be asked again");
    const { sha256 } = await ask(`/api/ask?count=${batch()}${prove ? "&prove=1" : ""}`);
    if (prove) await poll(); // draws count answers given before, too
    if (!sha256.length) say(prove ? "No test photo is left to ask." : "Nothing is left to ask.");
    if (sha256.length || prove) begin(known(sha256), prove);
  } catch (error) {
    say(error instanceof Refused ? error.message : "No new batch: the server is away.");
  } finally {
    asking = false;
  }
}

// Random test photos, those that wait first; none, where no answer is needed any more.
export function beginProof() {
  const { state, waiting } = page.model.proof;
  if (waiting || (state !== "shown" && state !== "broken")) nextBatch(true);
  else begin([], true);
}

function begin(photos, prove) {
  const { grid, model } = page;
  model.renew();
  if (prove) arrange("prove", photos.length ? [{ name: "Test photos, drawn at random", photos }] : []);
  else arrange("ask", model.sections(photos));
  grid.go(0);
  if ($("zoom").open && photos.length) zoom();
}

// After an answer: on to the next photo that waits for one; from the end of a batch to the next batch, while answers are
// needed.
export async function advance() {
  const { grid, model, queue, view } = page;
  const next = following();
  if (next >= 0) return grid.go(next, { focus: !$("zoom").open });
  if (view === "prove" && (await queue.settled())) await poll();
  if (view === "ask" || (view === "prove" && model.proof.state === "open")) return nextBatch();
  $("zoom").close();
}

// The place of the next photo without an answer, past the end from the start; -1: there is none.
export function following() {
  const { grid, model } = page;
  const after = grid.order.findIndex((i, at) => at > grid.focus && model.open(i));
  return after >= 0 ? after : grid.order.findIndex((i) => model.open(i));
}

// An answer that the server has not confirmed, until it has.
export function hold(sha256s, what) {
  const photos = known(sha256s);
  page.model.hold(photos, what);
  page.grid.refresh(new Set(photos));
}

function release(sha256s, last) {
  const photos = known(sha256s);
  page.model.release(photos, last);
  page.grid.refresh(new Set(photos));
}

export function confirmed(entry) {
  page.model.save(known(entry.sha256), entry.answer, page.about.reviewer);
  release(entry.sha256);
  clearTimeout(soon);
  soon = setTimeout(poll, 250); // whether others said otherwise, and what all answers tell, comes after
}

export function refused(entry, why) {
  release(entry.sha256);
  say(`The server refused an answer to ${plural(entry.sha256.length, "photo")}: ${why}`);
}

// What is new on the server: others' answers, the figures, and labels that have learned from all of them.
export async function poll() {
  const { about, grid, model, queue } = page;
  if (document.hidden || queue.entries.length) return;
  try {
    const news = await ask(`/api/changes?after=${model.version}&run=${about.id}`);
    queue.reached();
    if (queue.entries.length || news.version < model.version) return; // older than what the page knows by now
    grid.refresh(model.news(news));
    if (news.learned !== model.learned) model.fresh = await ask("/api/labels");
    filters();
    figures();
  } catch (error) {
    if (error instanceof Refused) return say(error.message);
    queue.away = error.said ?? "";
    status();
  }
}
