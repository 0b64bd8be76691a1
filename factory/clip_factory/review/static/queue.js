// Answers on their way to the server: one after the other, kept in the browser until each is confirmed.

const PAUSES = [300, 600, 1200, 2500, 4000]; // milliseconds between attempts while the server is away

export class Refused extends Error {}

export async function ask(path, body, patience = 15000) {
  const options = { signal: AbortSignal.timeout(patience) };
  if (body) Object.assign(options, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const reply = await fetch(path, options);
  if (reply.ok) return reply.json();
  const text = (await reply.text()).trim();
  // 403 and 409: an older page before a server started anew; its answers wait until the right one is back
  if (reply.status >= 500 || reply.status === 403 || reply.status === 409)
    throw Object.assign(new Error(text), { said: text });
  throw new Refused(text);
}

export class Queue {
  // `sent(entry)` and `dropped(entry, why)` are called once an entry, `changed()` at each change of state.
  constructor(run, { sent, dropped, changed }) {
    this.run = run;
    this.home = `factory-review/${run}`;
    this.key = `${this.home}/${crypto.randomUUID()}`;
    this.on = { sent, dropped, changed };
    this.entries = [];
    this.away = null; // while nothing can be saved: what the server says, or "" if it is not there
    this.tries = 0;
    this.busy = false;
    this.waiters = []; // called when all is confirmed, or the server is away
    navigator.locks.request(this.key, () => new Promise(() => {})); // held while this page lives
  }

  // Take over what pages that were closed, or lost in a crash, could not send.
  async adopt() {
    const found = [];
    for (const key of Object.keys(localStorage)) {
      if (!key.startsWith(`${this.home}/`) || key === this.key) continue;
      await navigator.locks.request(key, { ifAvailable: true }, (lock) => {
        if (!lock) return; // another page is open and sends them itself
        found.push(...JSON.parse(localStorage.getItem(key)));
        localStorage.removeItem(key);
      });
    }
    this.entries.unshift(...found);
    this.keep();
    return found;
  }

  add(entry) {
    this.entries.push({ key: crypto.randomUUID(), ...entry });
    this.keep();
    this.pump();
  }

  // The newest entry, if it has not been sent: then it can simply be dropped.
  takeBack() {
    if (this.entries.length < (this.busy ? 2 : 1)) return null;
    const entry = this.entries.pop();
    this.keep();
    return entry;
  }

  keep() {
    try {
      if (this.entries.length) localStorage.setItem(this.key, JSON.stringify(this.entries));
      else localStorage.removeItem(this.key);
    } catch {} // no room in the browser: the answers are sent all the same, and a closed tab loses those that wait
    this.on.changed();
  }

  async pump() {
    if (this.busy) return;
    clearTimeout(this.timer);
    while (this.entries.length) {
      const entry = this.entries[0];
      this.busy = true;
      let refused;
      try {
        await ask("/api/answer", { ...entry, run: this.run });
      } catch (error) {
        if (!(error instanceof Refused)) {
          this.busy = false;
          return this.later(error.said ?? "");
        }
        refused = error.message;
      }
      this.busy = false;
      this.reached();
      this.entries.shift();
      if (refused) this.on.dropped(entry, refused);
      else this.on.sent(entry);
      this.keep();
    }
    this.settle();
  }

  settle() {
    for (const done of this.waiters.splice(0)) done();
  }

  // Resolves when all has been confirmed; false if the server is away.
  async settled() {
    if (this.away !== null) return false;
    if (this.entries.length) await new Promise((done) => this.waiters.push(done));
    return this.away === null;
  }

  reached() {
    if (this.away === null) return;
    this.away = null;
    this.tries = 0;
    this.on.changed();
  }

  later(why) {
    this.away = why;
    this.timer = setTimeout(() => this.pump(), PAUSES[Math.min(this.tries++, PAUSES.length - 1)]);
    this.on.changed();
    this.settle();
  }
}

// Minutes at work: time between two actions counts if it is short, so that a page left open counts nothing.
export class Watch {
  constructor(pause = 20) {
    this.pause = pause * 1000;
    this.spent = 0;
    this.last = null;
    for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove"])
      addEventListener(kind, () => this.tick(), { passive: true, capture: true });
  }

  tick() {
    const now = performance.now();
    if (this.last !== null && now - this.last < this.pause) this.spent += now - this.last;
    this.last = now;
  }

  get minutes() {
    return this.spent / 60000;
  }

  take() {
    const minutes = this.minutes;
    this.spent = 0;
    return minutes;
  }
}
