// Thumbnails: many in one request, what is on the screen first, and given up once it is scrolled past.

const BATCH = 32; // photos in one request
const LINES = 2; // requests under way at once
const KEPT = 64e6; // letters of thumbnails held in the page
const PAUSE = 1000; // milliseconds before the next attempt when the server is away

export class Pictures {
  // `sha256(photo)` names a photo; `arrived(photo)` is called when its picture is there, or is known to be gone.
  constructor(sha256, arrived) {
    Object.assign(this, { sha256, arrived });
    this.held = new Map(); // photo -> { url, size }, the latest used last; url null: its file is gone
    this.size = 0;
    this.wanted = [];
    this.lines = new Set();
  }

  // The address of a picture; null when the photo is gone, undefined while it is not there yet.
  of(photo) {
    const picture = this.held.get(photo);
    if (!picture) return undefined;
    this.held.delete(photo);
    this.held.set(photo, picture);
    return picture.url;
  }

  // Fetch these photos, the most urgent first, and nothing that was wanted before and is not any more.
  want(photos) {
    this.wanted = photos;
    const urgent = new Set(photos);
    for (const line of this.lines) if (![...line.coming].some((photo) => urgent.has(photo))) line.abort();
    this.pump();
  }

  pump() {
    clearTimeout(this.timer);
    while (this.lines.size < LINES) {
      const coming = new Set([...this.lines].flatMap((line) => [...line.coming]));
      const next = [];
      for (const photo of this.wanted) {
        if (next.length === BATCH) break;
        if (!this.held.has(photo) && !coming.has(photo)) next.push(photo);
      }
      if (!next.length) return;
      this.fetch(next);
    }
  }

  async fetch(photos) {
    const stop = new AbortController();
    const line = { coming: new Set(photos), abort: () => stop.abort() };
    this.lines.add(line);
    let failed = false;
    try {
      const body = JSON.stringify({ sha256: photos.map(this.sha256) });
      const reply = await fetch("/api/thumbs", { method: "POST", body, signal: stop.signal });
      if (!reply.ok) this.wanted = []; // the server of another run, maybe: not again until the grid asks
      let n = 0;
      for await (const base64 of reply.ok ? lines(reply.body) : []) {
        this.keep(photos[n], base64);
        line.coming.delete(photos[n++]);
      }
    } catch (error) {
      failed = !stop.signal.aborted;
    }
    this.lines.delete(line);
    if (failed) this.timer = setTimeout(() => this.pump(), PAUSE);
    else this.pump();
  }

  // A data URL: the address of a blob costs a round trip to another process, when it is made and when it is shown.
  keep(photo, base64) {
    this.held.set(photo, { url: base64 ? `data:image/jpeg;base64,${base64}` : null, size: base64.length });
    this.size += base64.length;
    for (const [oldest, { size }] of this.held) {
      if (this.size <= KEPT) break;
      this.held.delete(oldest);
      this.size -= size;
    }
    this.arrived(photo);
  }
}

// The lines of a stream, as they come.
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop();
    yield* whole;
  }
}
