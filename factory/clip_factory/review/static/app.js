// The page begins here: loads the photos, puts the parts together, and looks at the server now and then.

import { beginProof, confirmed, hold, poll, refused } from "./answers.js";
import { coverCell } from "./evidence.js";
import { Grid } from "./grid.js";
import "./keys.js";
import { Model } from "./model.js";
import { $, page } from "./page.js";
import { Pictures } from "./pictures.js";
import { Queue, Watch, ask } from "./queue.js";
import { figures, moved, paint, show, status } from "./shown.js";
import "./touch.js";

const POLL = 3000; // milliseconds between looks at what others have answered
const NARROW = "(max-width: 44rem)";
const SMALL = 104; // pixels of a photo on a narrow screen

const prove = location.hash === "#prove";
history.replaceState(null, "", "/"); // the token belongs in the cookie from now on, not in the address

start().catch((error) => {
  $("progress").textContent = error.message || "The server cannot be reached.";
});

async function start() {
  page.watch = new Watch();
  const sent = await ask("/api/items");
  page.model = new Model(sent);
  page.about = sent.about;
  const pictures = new Pictures((i) => page.model.columns.sha256[i], (i) => page.grid.arrived(i));
  page.grid = new Grid($("grid"), $("space"), pictures, { paint, moved, loaded: coverCell });
  $("question").textContent = page.about.question;
  $("region").hidden = !page.about.region;
  $("region").title = page.about.region;
  $("seen").hidden = !page.model.evidence;
  document.title = `Review: ${page.about.question}`;
  page.queue = new Queue(page.about.id, { sent: confirmed, dropped: refused, changed: status });
  if (matchMedia(NARROW).matches) page.grid.size = Number(($("size").value = SMALL));
  show("all");
  figures();
  for (const entry of await page.queue.adopt()) hold(entry.sha256, entry.answer);
  page.queue.pump();
  if (prove) beginProof();
  setInterval(poll, POLL);
  addEventListener("visibilitychange", poll);
}
