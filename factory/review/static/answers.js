// What a person does with the photos: answers, undo, the next batch; and what the server says of others' answers.

import { $, known, page, plural } from "./page.js";
import { Refused, ask } from "./queue.js";
import { arrange, figures, filters, say, status } from "./shown.js";

const MOST = 5000; // photos in one request
let soon; // the look at the server that is due next

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
  const to = { yes: [], no: [] };
  for (const i of photos) to[page.model.flipped(i)].push(i);
  answer(to.yes, "yes");
  answer(to.no, "no");
}

// The photos on the screen are right as labelled; on to the next ones.
export function confirmShown() {
  const { grid, model } = page;
  const shown = grid.visible();
  const open = shown.map((at) => grid.order[at]).filter((i) => model.open(i));
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

export async function nextBatch() {
  const { grid, model } = page;
  try {
    const { sha256 } = await ask(`/api/ask?count=${Math.min(Math.max(grid.screenful(), 12), 96)}`);
    if (!sha256.length) return say("Nothing is left to ask.");
    model.renew();
    arrange("ask", model.sections(known(sha256)));
    grid.go(0);
  } catch (error) {
    say("No new batch: the server is away.");
  }
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
