// The live stream: one WebSocket a page, which comes back by itself and resumes after the last cursor it saw.
import { signal } from "./vendor/signals-core-1.14.5/dist/signals-core.mjs";

/** "live", "connecting" or "lost", and "" while the page has none: shown in the header. */
export const link = signal("");

const LONGEST_PAUSE = 15_000;
/** The cursor of who has none: all of before is a gap. */
const NONE = Number.MAX_SAFE_INTEGER;

export class Live {
  /**
   * `subscription` as the API has it; `take(message)` gets every message, and `{type: "reopened"}` after a lost connection:
   * samples and events are replayed from the cursor, changes of agents and alerts are not. After `{type: "resumed", gap: true}`
   * nothing new is missed, and what was before it must be asked for: so begins each stream.
   */
  constructor(subscription, take, maxHz = 1) {
    this.subscription = subscription;
    this.take = take;
    this.maxHz = maxHz;
    this.cursor = null;
    this.failures = 0;
    this.closed = false;
    this.open();
  }

  open() {
    if (this.closed) return;
    if (link.value !== "lost") link.value = "connecting";
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/v1/live`);
    this.socket = socket;
    socket.onopen = () => {
      link.value = "live";
      this.request();
      if (this.failures > 0) this.take({ type: "reopened" });
      this.failures = 0;
    };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (typeof message.cursor === "number") this.cursor = message.cursor;
      this.take(message);
    };
    socket.onclose = () => {
      if (this.closed || this.socket !== socket) return;
      link.value = "lost";
      // Exponential with full jitter, so that a hundred consoles don't return in step.
      const pause = Math.min(LONGEST_PAUSE, 500 * 2 ** this.failures++) * Math.random();
      this.timer = setTimeout(() => this.open(), pause);
    };
  }

  request() {
    this.socket.send(JSON.stringify({ subscribe: this.subscription, max_hz: this.maxHz, cursor: this.cursor ?? NONE }));
  }

  /** Changes what is asked for; nothing between old and new is missed. */
  subscribe(subscription) {
    this.subscription = subscription;
    if (this.socket.readyState === WebSocket.OPEN) this.request();
  }

  close() {
    this.closed = true;
    link.value = "";
    clearTimeout(this.timer);
    this.socket.close();
  }
}
